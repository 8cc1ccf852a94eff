"""The report job on run folders that no training made; values and ranks against definitions."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats
from sklearn.metrics import roc_auc_score

from configs.evaluate import get_config as evaluate_config
from configs.report import get_config
from ecgjax.errors import UserError
from ecgjax.evaluation import cell_bootstrap, cell_values
from ecgjax.evaluation.delong import delong
from ecgjax.evaluation.resamples import draw_counts
from ecgjax.jobs import evaluate
from ecgjax.jobs import report as job
from ecgjax.reporting import schema
from tests.evaluation.fake_runs import draw, hash_of, write_run

REPLICATES = 60
STRENGTHS = {"ecg_cpc": 1.2, "ecg_fm": 0.6, "ecg_jepa": 0.6, "s4": 0.3}


def make(folder: Path, config: ConfigDict | None = None, **changes: object) -> dict:
    config = config or get_config()
    small = {"figures": False, "interval.replicates": REPLICATES, "workers": 2}
    config.update_from_flattened_dict({"runs": str(folder / "runs"), **small, **changes})
    job.run(config, folder / "report")
    found = json.loads((folder / "report" / "results.json").read_text())
    schema.validate(found)
    return found


def benchmark(folder: Path, tasks: tuple[str, ...] = ("ptbxl_super", "ptbxl_sub"), **changes: object) -> Path:
    """Four models, s4 from scratch, two tasks, two modes."""
    for model, strength in STRENGTHS.items():
        for mode in ("scratch",) if model == "s4" else ("finetune", "linear"):
            for task in tasks:
                run = folder / "runs" / model / task / mode
                write_run(run, model, task, mode, strength=strength - 0.2 * (mode == "linear"), **changes)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = benchmark(tmp_path_factory.mktemp("made"))
    return folder, make(folder)


def predictions(folder: Path, run: str) -> dict[str, np.ndarray]:
    with np.load(folder / run / "predictions.npz") as file:
        return {name: file[name] for name in file.files}


def brute_force(folder: Path, runs: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Macro AUROC of each run and its replicates, by scikit-learn on repeated records."""
    counts = draw_counts(60, REPLICATES, 0)
    values, samples = [], []
    for run in runs:
        arrays = predictions(folder, run)
        targets, scores = arrays["targets"], arrays["scores"]
        values.append(roc_auc_score(targets, scores))
        replicate = []
        for count in counts:
            rows = np.repeat(np.arange(60), count)
            t, s = targets[rows], scores[rows]
            defined = [c for c in range(3) if 0 < t[:, c].sum() < len(t)]
            replicate.append(np.mean([roc_auc_score(t[:, c], s[:, c]) for c in defined]))
        samples.append(replicate)
    return np.array(values), np.array(samples)


def greedy_groups(values: np.ndarray, differ: np.ndarray) -> list[int]:
    left, rank, result = sorted(range(len(values)), key=lambda i: -values[i]), 0, [0] * len(values)
    while left:
        rank += 1
        best = left[0]
        for i in [i for i in left if i == best or not differ[best][i]]:
            result[i] = rank
            left.remove(i)
    return result


def test_values_intervals_tests_and_ranks_by_definition(made: tuple[Path, dict]) -> None:
    folder, report = made
    (pair,) = [pair for pair in report["pairs"] if (pair["task"], pair["mode"]) == ("ptbxl_sub", "finetune")]
    assert pair["models"] == ["ecg_cpc", "ecg_fm", "ecg_jepa", "s4"]
    rows = [report["rows"][i] for i in pair["rows"]]
    values, samples = brute_force(folder, [row["run"] for row in rows])
    np.testing.assert_allclose([row["value"] for row in rows], values, atol=1e-9)
    low, high = np.percentile(samples, [2.5, 97.5], axis=1)
    np.testing.assert_allclose([row["low"] for row in rows], low, atol=1e-9)
    np.testing.assert_allclose([row["high"] for row in rows], high, atol=1e-9)
    difference = samples[:, None] - samples[None]
    lower, upper = np.percentile(difference, [2.5, 97.5], axis=2)
    np.testing.assert_allclose(pair["low"], lower, atol=1e-9)
    np.testing.assert_allclose(pair["high"], upper, atol=1e-9)
    np.testing.assert_allclose(pair["difference"], values[:, None] - values, atol=1e-9)
    differ = (lower > 0) | (upper < 0)
    assert differ.any()
    assert not differ.all()
    assert pair["significant"] == differ.tolist()
    expected = greedy_groups(values, differ)
    assert pair["rank"] == [row["ranks"]["finetune"]["rank"] for row in rows] == expected
    assert [row["best"] for row in rows] == (values == values.max()).tolist()
    assert [row["tied"] for row in rows] == [expected.count(rank) > 1 for rank in expected]
    assert pair["adjusted"] is None


def test_delong_stands_beside_the_bootstrap(made: tuple[Path, dict]) -> None:
    folder, report = made
    for pair in report["pairs"]:
        rows = [report["rows"][i] for i in pair["rows"]]
        arrays = [predictions(folder, row["run"]) for row in rows]
        _, covariance = delong(arrays[0]["targets"], {str(i): found["scores"] for i, found in enumerate(arrays)})
        se = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose([row["delong"]["se"] for row in rows], se, rtol=1e-5)
        value = np.array([row["value"] for row in rows])
        np.testing.assert_allclose([row["delong"]["high"] for row in rows], value + 1.959964 * se, rtol=1e-5)
        variance = np.diag(covariance)[:, None] + np.diag(covariance) - 2 * covariance
        np.testing.assert_allclose(pair["delong_se"], np.sqrt(np.maximum(variance, 0)), atol=1e-6)
        difference, p = value[0] - value[1], pair["delong_p"][0][1]
        assert p == pytest.approx(2 * stats.norm.sf(abs(difference) / pair["delong_se"][0][1]), rel=1e-6)
        assert pair["delong_p"][2][2] == 1
    assert any("DeLong's closed form agrees" in note and " of 24 pairs" in note for note in report["notes"])
    with open(folder / "report" / "results.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["delong_se"]) == report["rows"][0]["delong"]["se"]


def test_what_is_compared_with_what(made: tuple[Path, dict]) -> None:
    _, report = made
    assert len(report["rows"]) == len(report["runs"]) == 14
    assert {(pair["task"], pair["mode"]) for pair in report["pairs"]} == {
        (task, mode) for task in ("ptbxl_super", "ptbxl_sub") for mode in ("finetune", "linear")
    }
    scratch = [row for row in report["rows"] if row["mode"] == "scratch"]
    assert all(set(row["ranks"]) == {"finetune", "linear"} and row["comparison"] == "finetune" for row in scratch)
    (ranks,) = [entry for entry in report["ranks"] if entry["mode"] == "linear"]
    by_task = [dict(zip(p["models"], p["rank"], strict=True)) for p in report["pairs"] if p["mode"] == "linear"]
    for model, rank, mean in zip(ranks["models"], ranks["rank"], ranks["mean"], strict=True):
        assert rank == mean == np.mean([task[model] for task in by_task])
    row = report["rows"][0]
    assert (row["records"], row["patients"], row["device"], row["devices"]) == (60, 30, "NVIDIA A100", 2)
    assert (row["seconds"], row["device_seconds"]) == ({"train": 10.5, "test": 1.25}, 23.5)
    assert report["runs"][row["run"]]["config"]["epochs"] == 100


def test_files(made: tuple[Path, dict]) -> None:
    folder, report = made
    with open(folder / "report" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [row["value"] for row in report["rows"]]
    assert [row["parameters_total"] for row in rows] == ["2000"] * 14
    with open(folder / "report" / "labels.csv", newline="") as file:
        labels = list(csv.DictReader(file))
    assert len(labels) == 14 * 3
    assert float(labels[0]["value"]) == report["rows"][0]["labels"][labels[0]["label"]]["value"]
    assert "macro AUROC" not in (folder / "report" / "tables.md").read_text()  # it opens a sentence
    assert (folder / "report" / "tables.tex").read_text().count("\\begin{table}") == 6
    assert report["paper"] is None
    assert not (folder / "report" / "compare_paper.csv").exists()


def test_a_second_report_computes_nothing(made: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, report = made

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(cell_bootstrap, "compute", refuse)
    assert make(folder)["rows"] == report["rows"]
    assert make(folder, rank_rule="wins", aggregation="mean", numbering="competition")["pairs"]


def test_holm(tmp_path: Path) -> None:
    folder = benchmark(tmp_path, tasks=("ptbxl_sub",))
    holm = make(folder, multiplicity="holm", rank_rule="wins", **{"interval.replicates": 300})
    for pair in holm["pairs"]:
        adjusted = np.array(pair["adjusted"])
        assert (adjusted >= np.array(pair["p"]) - 1e-12).all()
        assert pair["significant"] == (adjusted < 0.05).tolist()


def test_holm_with_too_few_replicates_is_refused(made: tuple[Path, dict]) -> None:
    with pytest.raises(UserError, match=r"config.multiplicity=holm over .* expected config.interval.replicates above"):
        make(made[0], multiplicity="holm", **{"interval.replicates": 10})


def test_what_runs_keep_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    expected = make(tmp_path, **{"interval.replicates": 1000})
    for run in (tmp_path / "runs").rglob("DONE"):
        cell_values.keep(run.parent)
    for path in (tmp_path / "report" / "cells").iterdir():
        path.unlink()
    monkeypatch.setattr(cell_bootstrap, "compute", None)
    assert make(tmp_path, **{"interval.replicates": 1000})["rows"] == expected["rows"]


def test_damaged_replicates_are_made_again(tmp_path: Path) -> None:
    report = make(benchmark(tmp_path, tasks=("ptbxl_sub",)))
    path = next((tmp_path / "report" / "cells").iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    assert make(tmp_path)["rows"] == report["rows"]


def test_order_of_records_and_labels_does_not_matter(tmp_path: Path, made: tuple[Path, dict]) -> None:
    folder, expected = made
    benchmark(tmp_path)
    for k, run in enumerate(sorted((tmp_path / "runs").rglob("predictions.npz"))):
        arrays = predictions(folder, run.parent.relative_to(tmp_path).as_posix())
        rng = np.random.default_rng(k)
        rows, columns = rng.permutation(60), rng.permutation(3)
        for name, array in arrays.items():
            arrays[name] = array[rows] if len(array) == 60 else array[columns]
        arrays |= {name: arrays[name][:, columns] for name in ("targets", "scores")}
        np.savez(run, **arrays)
    found = make(tmp_path)
    assert [pair["low"] for pair in found["pairs"]] == [pair["low"] for pair in expected["pairs"]]
    assert [row["rank"] for row in found["rows"]] == [row["rank"] for row in expected["rows"]]


def test_one_bad_run_does_not_hide_the_others(tmp_path: Path) -> None:
    benchmark(tmp_path, tasks=("ptbxl_sub",))
    arrays = draw(1.0)
    write_run(tmp_path / "runs" / "unfinished", "x", "ptbxl_sub", done=False)
    broken = write_run(tmp_path / "runs" / "nan", "x", "ptbxl_sub")
    np.savez(broken / "predictions.npz", **{**arrays, "scores": np.full_like(arrays["scores"], np.nan)})
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


def test_reports_merge_like_their_runs(tmp_path: Path, made: tuple[Path, dict]) -> None:
    """Two machines' reports, without their predictions, give what one report of all runs gives."""
    _, expected = made
    for machine, models in (("x", ("ecg_cpc", "s4")), ("y", ("ecg_fm", "ecg_jepa"))):
        benchmark(tmp_path / machine)
        for model in set(STRENGTHS) - set(models):
            for path in sorted((tmp_path / machine / "runs" / model).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        make(tmp_path / machine)
        (tmp_path / machine / "report").rename(tmp_path / f"report_{machine}")
    sources = f"{tmp_path}/report_x,{tmp_path}/report_y"
    found = make(tmp_path, runs=sources)
    for key in ("models", "difference", "low", "high", "p", "rank", "significant"):
        assert [pair[key] for pair in found["pairs"]] == [pair[key] for pair in expected["pairs"]]
    assert [row["value"] for row in found["rows"]] == [row["value"] for row in expected["rows"]]
    assert [row["labels"] for row in found["rows"]] == [row["labels"] for row in expected["rows"]]
    assert set(found["runs"]) == {row["run"] for row in found["rows"]}
    assert "report_x/runs/ecg_cpc/ptbxl_sub/linear" in found["runs"]

    # The merged report stands on its own: it can be merged again, also with itself.
    (tmp_path / "report").rename(tmp_path / "merged")
    again = make(tmp_path, runs=f"{tmp_path}/merged,{tmp_path}/report_x")
    assert [row["value"] for row in again["rows"]] == [row["value"] for row in expected["rows"]]
    assert all("the same predictions" in entry["reason"] for entry in again["excluded"])

    with pytest.raises(UserError, match=r"made with level 0\.95; expected level 0\.9"):
        make(tmp_path, **{"runs": sources, "interval.level": 0.9})
    write_run(tmp_path / "more" / "run", "ecg_cpc", "ptbxl_sub", strength=1.2, weights="v" * 64)
    with pytest.raises(UserError, match=r"report_x/runs/ecg_cpc/ptbxl_sub/finetune .* with different weights"):
        make(tmp_path, runs=f"{sources},{tmp_path}/more")
    write_run(tmp_path / "more" / "run", "new", "ptbxl_sub", fingerprint="e" * 64)
    with pytest.raises(UserError, match="on different data"):
        make(tmp_path, runs=f"{sources},{tmp_path}/more")


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
