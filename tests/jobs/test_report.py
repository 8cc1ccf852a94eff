"""The report job on run folders that no training made; values and ranks against definitions."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ecgjax.errors import UserError
from ecgjax.evaluation import cell_bootstrap, cell_values
from ecgjax.evaluation.delong import delong
from tests.evaluation.fake_runs import draw, write_run
from tests.jobs.reports import STRENGTHS, benchmark, brute_force, make, predictions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = benchmark(tmp_path_factory.mktemp("made"))
    return folder, make(folder)


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
    for key in ("models", "difference", "low", "high", "p", "delong_se", "rank", "significant"):
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

    # A report of a run on fewer test records: said and left out, though its predictions are not there to be looked at.
    fewer = {name: array[:-2] if len(array) == 60 else array for name, array in draw(1.0).items()}
    write_run(tmp_path / "z" / "runs" / "fewer", "new", "ptbxl_sub", arrays=fewer)
    make(tmp_path / "z")
    beside = make(tmp_path, runs=f"{sources},{tmp_path}/z/report")
    assert [row["value"] for row in beside["rows"]] == [row["value"] for row in expected["rows"]]
    (left_out,) = beside["excluded"]
    assert left_out["reason"].startswith("task ptbxl_sub: other test records, labels or targets than report_x/runs/")

    with pytest.raises(UserError, match=r"made with level 0\.95; expected level 0\.9"):
        make(tmp_path, **{"runs": sources, "interval.level": 0.9})
    write_run(tmp_path / "more" / "run", "ecg_cpc", "ptbxl_sub", strength=1.2, weights="v" * 64)
    with pytest.raises(UserError, match=r"report_x/runs/ecg_cpc/ptbxl_sub/finetune .* with different weights"):
        make(tmp_path, runs=f"{sources},{tmp_path}/more")
    write_run(tmp_path / "more" / "run", "new", "ptbxl_sub", fingerprint="e" * 64)
    with pytest.raises(UserError, match="on different data"):
        make(tmp_path, runs=f"{sources},{tmp_path}/more")
