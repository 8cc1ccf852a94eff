"""What the report job takes in, leaves out and refuses, and what it writes for special runs."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from configs.evaluate import get_config as evaluate_config
from configs.report import get_config
from ecgjax.errors import UserError
from ecgjax.evaluation import cell_bootstrap
from ecgjax.jobs import evaluate
from ecgjax.jobs import report as job
from ecgjax.reporting import schema
from tests.evaluation.fake_runs import draw, hash_of, write_run
from tests.jobs.reports import STRENGTHS, benchmark, brute_force, make, predictions


def test_one_bad_run_does_not_hide_the_others(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    arrays = draw(1.0)
    write_run(tmp_path / "runs" / "unfinished", "x", "ptbxl_sub", done=False)
    broken = write_run(tmp_path / "runs" / "nan", "x", "ptbxl_sub")
    np.savez(broken / "predictions.npz", **{**arrays, "scores": np.full_like(arrays["scores"], np.nan)})
    twice = {**arrays, "record_id": np.append(arrays["record_id"][:-1], "r00000")}
    write_run(tmp_path / "runs" / "twice", "x", "ptbxl_sub", arrays=twice)
    logits = {**arrays, "scores": 4 * arrays["scores"] - 2}
    write_run(tmp_path / "runs" / "logits", "x", "ptbxl_sub", arrays=logits)
    fewer = {name: array[:-2] if len(array) == 60 else array for name, array in arrays.items()}
    write_run(tmp_path / "runs" / "fewer", "x", "ptbxl_sub", arrays=fewer)
    names = {**arrays, "record_id": np.array([f"q{i}" for i in range(60)])}
    write_run(tmp_path / "runs" / "foreign", "y", "ptbxl_sub", arrays=names)
    flipped = {**arrays, "targets": arrays["targets"].copy()}
    flipped["targets"][5, 1] = 1 - flipped["targets"][5, 1]
    write_run(tmp_path / "runs" / "flipped", "z", "ptbxl_sub", arrays=flipped)
    write_run(tmp_path / "runs" / "labels", "v", "ptbxl_sub", arrays=arrays, tasks={"ptbxl_sub": ["SR", "AFIB"]})
    found = make(tmp_path)
    assert {row["model"] for row in found["rows"]} == set(STRENGTHS)
    reasons = {entry["path"]: entry["reason"] for entry in found["excluded"]}
    usual = "runs/ecg_cpc/ptbxl_sub/finetune"
    assert reasons == {
        "runs/unfinished": "unfinished: no DONE",
        "runs/nan": "predictions.npz: score is NaN (nan at record 'r00000', label 'SR', and 179 more); "
        "expected a number",
        "runs/twice": "predictions.npz: record id 'r00000' is there twice; expected each once",
        "runs/logits": "predictions.npz: score is not a probability (1.0202 at record 'r00000', label 'SR', and 145 "
        "more); expected 0 to 1",
        "runs/fewer": f"task ptbxl_sub: lacks 2 records of {usual} (first: r00058)",
        "runs/foreign": f"task ptbxl_sub: lacks 60 records of {usual} (first: r00000) and has 60 records that "
        f"{usual} lacks (first: q0)",
        "runs/flipped": f"task ptbxl_sub: 1 targets differ from those of {usual} (record r00005, label AFIB: "
        f"{flipped['targets'][5, 1]:g}, {arrays['targets'][5, 1]:g})",
        "runs/labels": f"task ptbxl_sub: lacks 1 labels of {usual} (first: STACH)",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "v" * 64}, "with different weights (vvvvvvvvvvvv and wwwwwwwwwwww)"),
        ({"weights": None, "seed": 1}, "with different weights (none and wwwwwwwwwwww)"),
        ({"config": {"learning_rate": 0.1, "epochs": 50}}, "with different configs (epochs 50 and 100)"),
        ({"strength": 2.0}, "seed 0, but with different predictions"),
        ({"model": "new", "fingerprint": "e" * 64}, "on different data (eeeeeeeeeeee and ffffffffffff)"),
    ],
)
def test_clashes_are_refused_until_one_is_left_out(tmp_path: Path, changes: dict, message: str) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    write_run(tmp_path / "runs" / "again", **{"model": "ecg_cpc", "task": "ptbxl_sub", "strength": 1.2, **changes})
    with pytest.raises(UserError) as error:
        make(tmp_path)
    assert message in str(error.value)
    assert "runs/again and runs/ecg_" in str(error.value)
    found = make(tmp_path, exclude="runs/again")
    assert found["excluded"] == [{"path": "runs/again", "reason": "left out by config.exclude"}]
    if "fingerprint" not in changes:
        renamed = make(tmp_path, rename="runs/again=ecg_cpc (mine)")
        assert "ecg_cpc (mine)" in renamed["pairs"][0]["models"]


def test_seeds_may_have_weights_of_their_own_if_asked(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    own = {"model": "ecg_cpc", "task": "ptbxl_sub", "strength": 1.2, "seed": 1, "weights": "v" * 64}
    write_run(tmp_path / "runs" / "again", **own)
    with pytest.raises(UserError, match="with different weights"):
        make(tmp_path)
    found = make(tmp_path, weights_by_seed=True)
    rows = [row for row in found["rows"] if (row["model"], row["mode"]) == ("ecg_cpc", "finetune")]
    assert [row["seeds"] for row in rows] == [[0, 1], [0], [1]]
    assert "Each seed has weights of its own: ecg_cpc." in found["notes"]
    assert not any("different weights in different cells" in note for note in found["notes"])
    write_run(tmp_path / "runs" / "more", **{**own, "weights": None, "seed": 2})
    with pytest.raises(UserError, match=r"with different weights \(vvvvvvvvvvvv and none\)"):
        make(tmp_path, weights_by_seed=True)


def test_copies_of_a_run_count_once(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    write_run(tmp_path / "runs" / "zcopy", "ecg_cpc", "ptbxl_sub", strength=1.2)
    found = make(tmp_path)
    reason = "the same predictions as runs/ecg_cpc/ptbxl_sub/finetune"
    assert found["excluded"] == [{"path": "runs/zcopy", "reason": reason}]
    write_run(tmp_path / "runs" / "zother", "other", "ptbxl_sub", arrays=predictions(tmp_path, "runs/zcopy"))
    assert any("very same predictions" in note for note in make(tmp_path)["notes"])


def test_seeds_are_shown_and_their_mean_is_compared(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    for seed in (1, 2):
        write_run(tmp_path / "runs" / f"seed{seed}", "ecg_fm", "ptbxl_sub", strength=0.6, seed=seed)
    found = make(tmp_path)
    rows = [row for row in found["rows"] if (row["model"], row["mode"]) == ("ecg_fm", "finetune")]
    assert [row["role"] for row in rows] == ["mean", "seed", "seed", "seed"]
    mean, *seeds = rows
    values, samples = brute_force(tmp_path, [row["run"] for row in seeds])
    assert mean["value"] == pytest.approx(values.mean())
    np.testing.assert_allclose([mean["low"], mean["high"]], np.percentile(samples.mean(axis=0), [2.5, 97.5]), atol=1e-9)
    assert mean["spread"] == {
        "min": pytest.approx(values.min()),
        "max": pytest.approx(values.max()),
        "sd": pytest.approx(values.std(ddof=1)),
    }
    assert (mean["seeds"], mean["run"], mean["seconds"]["train"]) == ([0, 1, 2], None, 31.5)
    assert all(row["rank"] is None and row["comparison"] is None for row in seeds)
    (pair,) = [pair for pair in found["pairs"] if pair["mode"] == "finetune"]
    assert [found["rows"][i]["role"] for i in pair["rows"]] == ["single", "mean", "single", "single"]
    label = mean["labels"]["SR"]
    assert label["value"] == pytest.approx(np.mean([row["labels"]["SR"]["value"] for row in seeds]))
    assert label["low"] is None
    assert any("several seeds" in note for note in found["notes"])


def test_patients_are_resampled_where_they_are_known(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    arrays = draw(1.0)
    del arrays["patient_id"]
    write_run(tmp_path / "runs" / "old", "ecg_founder", "ptbxl_sub", arrays=arrays)
    by_record, by_patient = make(tmp_path), make(tmp_path, **{"interval.unit": "patient"})
    assert {row["patients"] for row in by_record["rows"]} == {30, None}
    assert by_patient["excluded"][0]["reason"].startswith("predictions.npz has no patient_id")
    assert by_record["rows"][0]["low"] != by_patient["rows"][0]["low"]


def test_a_model_from_scratch_and_pretrained(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    write_run(tmp_path / "runs" / "scratch", "ecg_cpc", "ptbxl_sub", "scratch", strength=0.4)
    found = make(tmp_path)
    assert found["pairs"][0]["models"] == ["ecg_cpc", "ecg_fm", "ecg_jepa", "ecg_cpc (scratch)", "s4"]


def test_only_scratch_models(tmp_path: Path) -> None:
    for model in ("s4", "net1d"):
        write_run(tmp_path / "runs" / model, model, "ptbxl_sub", "scratch")
    found = make(tmp_path)
    assert [(pair["mode"], pair["models"]) for pair in found["pairs"]] == [("scratch", ["net1d", "s4"])]


def test_a_single_run_is_not_the_best(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    (row,) = make(tmp_path)["rows"]
    assert (row["rank"], row["best"], row["tied"]) == (1, False, False)


def test_labels_without_positives_are_stated(tmp_path: Path) -> None:
    arrays = draw(1.0)
    arrays["targets"][:, 1] = 0
    for protocol in ("fixed", "paper"):
        for model in ("ecg_cpc", "ecg_fm"):
            run = tmp_path / "runs" / protocol / model
            write_run(run, model, protocol=protocol, arrays={**arrays, "scores": draw(1.0, hash_of(model))["scores"]})
    found = make(tmp_path)
    assert {row["protocol"]: (row["defined"], row["undefined"]) for row in found["rows"]} == {
        "fixed": (2, ["AFIB"]),
        "paper": (2, ["AFIB"]),
    }
    assert found["settings"]["absent"] == {"fixed": "skip", "paper": "half"}
    assert len(found["pairs"]) == 2
    assert (
        "ptbxl_super: 1 of 3 labels have no value among the test records (AFIB) and are left out of the average."
        in (found["notes"])
    )
    assert (
        "ptbxl_super: 1 of 3 labels have no value among the test records (AFIB) and count 0.5 in the average."
        in (found["notes"])
    )
    halves = {row["model"]: row["value"] for row in found["rows"] if row["protocol"] == "paper"}
    for row in found["rows"]:
        if row["protocol"] == "fixed":
            assert halves[row["model"]] == pytest.approx((2 * row["value"] + 0.5) / 3)


def test_a_task_with_classes_and_measurements(tmp_path: Path) -> None:
    for model, strength in (("ecg_cpc", 2.0), ("ecg_fm", 0.5)):
        arrays = draw(strength, seed=hash_of(model), with_age=True)
        write_run(tmp_path / "runs" / model, model, arrays=arrays)
    found = make(tmp_path)
    assert [(pair["metric"], pair["higher_is_better"]) for pair in found["pairs"]] == [("auroc", True), ("mae", False)]
    (ranks,) = found["ranks"]
    assert ranks["tasks"] == ["ptbxl_super (auroc)", "ptbxl_super (mae)"]
    errors = {row["model"]: row for row in found["rows"] if row["metric"] == "mae"}
    assert errors["ecg_cpc"]["value"] < errors["ecg_fm"]["value"]
    assert errors["ecg_cpc"]["best"]
    assert errors["ecg_cpc"]["labels"]["age"]["positives"] is None


def test_beside_the_paper(tmp_path: Path) -> None:
    arrays = draw(1.0)
    tasks = {"ptbxl_super": {"row": "PTB-XL (super)", "category": "adult_ecg_interpretation"}}
    run = write_run(tmp_path / "runs" / "one", arrays=arrays)
    results = json.loads((run / "results.json").read_text())
    results["tasks"]["ptbxl_super"] |= tasks["ptbxl_super"]
    (run / "results.json").write_text(json.dumps(results))
    found = make(tmp_path)
    (cell,) = found["paper"]["cells"]
    assert cell["published"] == pytest.approx(0.934, abs=5e-4)
    assert cell["difference"] == pytest.approx(found["rows"][0]["value"] - cell["published"])
    assert found["paper"]["counts"]["cells"] == 1
    text = (tmp_path / "report" / "compare_paper.md").read_text()
    assert "1 cells are in the paper" in text.strip().splitlines()[-1]
    with open(tmp_path / "report" / "compare_paper.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_curves_on_request(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    found = make(tmp_path, curves="ptbxl_sub/AFIB")
    assert len(found["curves"]) == 7
    curve = found["curves"][0]
    arrays = predictions(tmp_path, "runs/ecg_cpc/ptbxl_sub/finetune")
    target, score = arrays["targets"][:, 1], arrays["scores"][:, 1]
    area = np.trapezoid(curve["roc"]["tpr"], curve["roc"]["fpr"])
    assert area == pytest.approx(roc_auc_score(target, score))
    assert sum(curve["calibration"]["count"]) == curve["known"] == 60
    observed = np.dot(curve["calibration"]["observed"], curve["calibration"]["count"])
    assert observed == pytest.approx(curve["positives"]) == target.sum()
    with pytest.raises(UserError, match="'ptbxl_sub/NONE': no run with such a label"):
        make(tmp_path, curves="ptbxl_sub/NONE")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ""}, "config.runs is empty"),
        ({"runs": "/nowhere"}, "/nowhere: no such folder"),
        ({"multiplicity": "bonferroni"}, "config.multiplicity is 'bonferroni'"),
        ({"interval.unit": "beat"}, "config.interval.unit is 'beat'"),
        ({"interval.level": 1.5}, "config.interval.level is 1.5"),
        ({"rename": "runs"}, "config.rename: 'runs'; expected PATH=NAME"),
        ({}, "no run below it; expected folders with config.json, results.json and DONE"),
    ],
)
def test_bad_usage(tmp_path: Path, changes: dict, message: str) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError) as error:
        make(tmp_path, **changes)
    assert message in str(error.value)


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", done=False)
    with pytest.raises(UserError, match="none of 1 runs below it can be used; the first: runs/a: unfinished"):
        make(tmp_path)


def test_figures_and_page(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    make(tmp_path, figures=True, workers=1)
    figures = tmp_path / "report" / "figures"
    first = {path.name for path in figures.iterdir()}
    assert "forest-other-linear-fixed.svg" in first
    page = (tmp_path / "report" / "index.html").read_text()
    assert "ecg_jepa" in page or "ECG-JEPA" in page
    make(tmp_path, figures=True, workers=1, exclude="*/linear")
    assert {path.name for path in figures.iterdir()} == {name for name in first if "linear" not in name}


@pytest.mark.usefixtures("tiny")
def test_a_real_evaluation(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From training to the report, which finds what the runs kept and says what they say."""
    config = evaluate_config("model=tiny,task=synthetic,mode=linear")
    small = {"data.store": str(store), "data.labels": "joint", "epochs": 1, "batch_size": 16}
    config.update_from_flattened_dict({**small, "interval.replicates": 10})
    evaluate.run(config, tmp_path / "runs" / "linear")
    monkeypatch.setattr(cell_bootstrap, "compute", None)
    found = make(tmp_path, **{"interval.replicates": 1000})
    assert [(row["mode"], row["metric"], row["seen"]) for row in found["rows"]] == [
        ("linear", "auroc", None),
        ("linear", "mae", None),
    ]
    for row in found["rows"]:
        results = json.loads((tmp_path / row["run"] / "results.json").read_text())
        own = results["tasks"]["synthetic"][row["metric"]]
        assert row["value"] == pytest.approx(own["value"], abs=1e-12)
        assert row["labels"].keys() == own["labels"].keys()
        assert (row["records"], row["patients"]) == (8, 4)
        assert row["data"]["fingerprint"] == results["data"]["fingerprint"]
    assert found["excluded"] == []
    assert any("random initialisation" in note for note in found["notes"])
    assert any("Synthetic data" in note for note in found["notes"])


def test_without_workdir_it_lies_below_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "runs" / "one")
    config = get_config()
    config.update_from_flattened_dict({"runs": str(tmp_path / "runs"), "figures": False, "interval.replicates": 10})
    for _ in range(2):  # the second passes by the first
        job.run(config, None)
        assert "1 runs: 1 models, 1 tasks, 1 modes; 1 values in 1 comparisons" in capsys.readouterr().out
    schema.validate(json.loads((tmp_path / "runs" / "report" / "results.json").read_text()))


def test_the_command_on_an_empty_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ecgjax.main", "--config=configs/report.py", f"--config.runs={tmp_path}"]
    root = Path(__file__).parents[2]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("ecgjax: config.runs: ")
    assert found.stderr.count("\n") == 1
