"""Job "robustness": finished runs against leads and noise, beside values and resamples that are worked out here."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from configs.robustness import get_config
from ecgjax.errors import UserError
from ecgjax.evaluation.collect import collect
from ecgjax.jobs import robustness as job
from tests.evaluation.fake_runs import draw, write_run
from tests.jobs.reports import brute_force

REPLICATES = 60
ONE = {"leads": ["I"], "policy": "zero"}
CONDITIONS = {
    "plain": (None, 1.2),
    "limb": ({"leads": ["I", "II", "III", "aVR", "aVL", "aVF"], "policy": "zero"}, 1.0),
    "one": (ONE, 0.5),
    "copied": ({**ONE, "policy": "repeat"}, 0.7),
    "any": ({"leads": list("I"), "policy": "dropout", "seed": 0}, 0.8),
    "hum": ({"powerline": 6.0, "mains": 50.0, "disturbed": "test", "seed": 0, "hum_frequencies": [50.0]}, 0.9),
    "hum0": ({"powerline": 0.0, "mains": 50.0, "disturbed": "test", "seed": 0, "hum_frequencies": [50.0]}, 0.6),
    "lost": ({"missing": 0.5, "disturbed": "test", "seed": 0}, 0.4),
    "swapped": ({"swap": ["RA/LA"], "disturbed": "test"}, 1.1),
    "both": ({**ONE, "missing": 0.5, "disturbed": "test", "seed": 0}, 0.3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("robustness")
    for k, (name, (signal, strength)) in enumerate(CONDITIONS.items()):
        arrays = draw(strength, seed=k)
        write_run(root / "runs" / name, "s4", "ptbxl_super", "scratch", arrays=arrays, signal=signal)
    write_run(root / "runs" / "again", "s4", "ptbxl_super", "scratch", arrays=draw(0.5, seed=50), signal=ONE, seed=1)
    write_run(root / "runs" / "unfinished", "s4", "ptbxl_super", "scratch", done=False)
    return root


def _config(folder, **changes):
    config = get_config()
    config.update_from_flattened_dict(
        {"runs": str(folder / "runs"), "interval.replicates": REPLICATES, "figures": False, **changes}
    )
    return config


@pytest.fixture(scope="module")
def rows(folder):
    job.run(_config(folder), None)
    content = json.loads((folder / "runs" / "robustness" / "robustness.json").read_text())
    (left_out,) = content["excluded"]
    assert left_out["reason"] == "unfinished: no DONE"
    return {row["runs"][-1].partition("/")[2]: row for row in content["rows"]}


def test_values_and_differences_are_those_of_the_runs(folder, rows):
    names = ["runs/plain", "runs/one", "runs/again", "runs/both", "runs/hum"]
    values, samples = brute_force(folder, names)
    limits = lambda samples: np.nanpercentile(samples, [2.5, 97.5])  # noqa: E731
    plain, hum = rows["plain"], rows["hum"]
    assert plain["value"] == pytest.approx(values[0])
    assert [plain["low"], plain["high"]] == pytest.approx(limits(samples[0]))
    assert plain["difference"] is None
    assert hum["difference"] == pytest.approx(values[4] - values[0])
    assert [hum["difference_low"], hum["difference_high"]] == pytest.approx(limits(samples[4] - samples[0]))
    # Two seeds are one row: the mean, and that of the resamples; there is no reference of the second seed.
    one = next(row for row in rows.values() if row["leads"] == "I" and row["policy"] == "zero" and not row["missing"])
    assert one["seeds"] == [0, 1]
    assert one["value"] == pytest.approx(values[1:3].mean())
    assert [one["low"], one["high"]] == pytest.approx(limits(samples[1:3].mean(0)))
    assert one["difference"] == pytest.approx(values[1] - values[0])
    # What is disturbed is compared with the same leads.
    assert rows["both"]["difference"] == pytest.approx(values[3] - values[1])


def test_a_row_says_what_it_is_a_point_of(rows):
    said = {name: (row["axis"], row["level"]) for name, row in rows.items()}
    assert said["plain"] == ("leads", 12)
    assert said["limb"] == ("leads", 6)
    assert said["any"] == said["copied"] == ("leads", 1)
    assert (said["hum"], said["hum0"]) == (("powerline", 6.0), ("powerline", 0.0))
    assert (said["lost"], said["both"]) == (("missing", 0.5), ("missing", 0.5))
    assert said["swapped"] == ("swap", None)
    assert next(iter(rows)) == "plain"


def test_tables_hold_the_rows(folder, rows):
    table = pd.read_csv(folder / "runs" / "robustness" / "robustness.csv")
    assert table["value"].tolist() == pytest.approx([row["value"] for row in rows.values()])
    text = (folder / "runs" / "robustness" / "robustness.md").read_text()
    assert "| S4, from scratch | 6 limb, others zero |" in text
    assert "| S4, from scratch | 12; power line at 0 dB |" in text
    assert "| S4, from scratch | I, others zero; all leads lost for 50 % of the time |" in text
    assert text.count("| S4, from scratch |") == len(rows)


def test_figures_are_drawn(folder):
    job.run(_config(folder, figures=True), folder / "drawn")
    names = {path.name for path in (folder / "drawn" / "figures").iterdir()}
    assert names == {f"{kind}_ptbxl_super_auroc.{end}" for kind in ("leads", "noise") for end in ("png", "svg")}
    drawn = (folder / "drawn" / "figures" / "leads_ptbxl_super_auroc.svg").read_text()
    for text in ("Random leads", "Others repeated", "Fewer leads: ptbxl_super", "S4, from scratch"):
        assert text in drawn


def test_reports_leave_such_runs_out(folder):
    found = collect(folder / "runs")
    assert [cell.key for cell in found.cells] == ["runs/plain"]
    assert sum("configs/robustness.py" in reason for _, reason in found.excluded) == len(CONDITIONS)


def test_a_cell_of_two_sweeps_counts_once(folder, rows, tmp_path):
    shutil.copytree(folder / "runs" / "plain", tmp_path / "noise" / "plain")
    job.run(_config(folder, runs=f"{folder / 'runs'},{tmp_path / 'noise'}"), tmp_path / "both")
    found = json.loads((tmp_path / "both" / "robustness.json").read_text())["rows"]
    assert len(found) == len(rows)
    assert [row["runs"] for row in found if row["axis"] == "leads" and row["level"] == 12] == [["runs/plain"]]


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"config\.runs is empty"):
        job.run(get_config(), tmp_path)
    for name, changes, message in (
        ("twice", {"signal": ONE}, "are both s4, mode scratch, seed 0, on the same signals"),
        ("other", {"fingerprint": "e" * 64, "seed": 7}, "but on other data"),
        ("trained", {"config": {"epochs": 5}}, r"both s4, mode scratch, but with other config\.epochs"),
    ):
        write_run(tmp_path / name / "runs" / "x", "s4", "ptbxl_super", "scratch", signal=ONE)
        arrays = draw(1.0, seed=9)
        write_run(tmp_path / name / "runs" / "y", "s4", "ptbxl_super", "scratch", arrays=arrays, **changes)
        with pytest.raises(UserError, match=message):
            job.run(_config(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()
