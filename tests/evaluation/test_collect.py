import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax import bootstrap
from ecgjax.errors import UserError
from ecgjax.evaluation import cell_bootstrap, cell_values
from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.evaluation.collect import collect
from ecgjax.evaluation.predictions import read_predictions

from .fake_runs import draw, write_run


def reasons(folder: Path) -> dict[str, str]:
    return dict(collect(folder).excluded)


def edit(run: Path, name: str, **changes: object) -> None:
    content = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps({**content, **changes}))


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_run(runs / "a")
    write_run(runs / "b" / "c" / "d", "s4", mode="scratch")
    other = write_run(tmp_path / "elsewhere" / "e", "ecg_fm")
    os.symlink(other.parent, runs / "link")
    os.symlink(runs, runs / "b" / "back")
    (runs / "a" / "checkpoints" / "best").mkdir(parents=True)
    (runs / "a" / "checkpoints" / "best" / "config.json").write_text("{}")
    found = collect(runs, runs / "b", other)
    assert [cell.key for cell in found.cells] == ["runs/a", "runs/b/c/d", "runs/link/e"]
    assert [cell.model for cell in found.cells] == ["ecg_cpc", "s4", "ecg_fm"]
    assert not found.excluded
    assert found.cells[0].weights == "w" * 64
    assert found.cells[1].predictions().labels == ("SR", "AFIB", "STACH")


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for machine in "xy":
        write_run(tmp_path / machine / "runs" / "a")
    keys = [cell.key for cell in collect(tmp_path / "x" / "runs", tmp_path / "y" / "runs").cells]
    assert keys == [f"{tmp_path}/{machine}/runs/a" for machine in "xy"]


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "unfinished", done=False)
    edit(write_run(tmp_path / "pretraining"), "config.json", job="pretrain")
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "config.json").write_text('{"architectures": []}')
    edit(write_run(tmp_path / "future"), "results.json", format=2)
    edit(write_run(tmp_path / "fields"), "results.json", seed="0")
    (write_run(tmp_path / "cut") / "results.json").write_text('{"format": 1, ')
    (write_run(tmp_path / "lost") / "predictions.npz").unlink()
    (write_run(tmp_path / "empty") / "results.json").unlink()
    (write_run(tmp_path / "odd") / "results.json").write_text("[]")
    shared = json.loads((write_run(tmp_path / "share") / "results.json").read_text())["data"]
    edit(tmp_path / "share", "results.json", data={**shared, "ratio": 0.25})
    found = reasons(tmp_path)
    root = tmp_path.name
    assert found == {
        f"{root}/unfinished": "unfinished: no DONE",
        f"{root}/pretraining": "not an evaluation: config.job is 'pretrain'",
        f"{root}/stranger": "not a run: config.json has no job",
        f"{root}/future": "results.json has format 2; expected 1",
        f"{root}/fields": "results.json: seed is '0'",
        f"{root}/cut": found[f"{root}/cut"],
        f"{root}/lost": "no predictions.npz",
        f"{root}/empty": "no results.json",
        f"{root}/odd": "results.json is not a JSON object",
        f"{root}/share": "trained on a share of 0.25 of the training records (for label efficiency); "
        "runs on all of them are compared",
    }
    assert found[f"{root}/cut"].startswith("results.json is not readable as JSON")


def test_other_jobs_are_kept_apart_with_all_below_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "curve" / "part").parent
    (run / "config.json").write_text('{"job": "label_efficiency"}')
    (run / "label_efficiency.json").write_text('{"task": "echonext", "models": {}}')
    assert reasons(tmp_path) == {f"{tmp_path.name}/curve": "unfinished: no DONE"}
    (run / "DONE").write_text("")
    found = collect(tmp_path)
    assert not found.cells
    assert found.others["label_efficiency"] == [(f"{tmp_path.name}/curve", {"task": "echonext", "models": {}})]
    (run / "label_efficiency.json").write_text('{"task": "echonext"}')
    assert reasons(tmp_path) == {f"{tmp_path.name}/curve": "label_efficiency.json has no models"}


def test_leaving_out_and_renaming(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_run(tmp_path / "runs" / name)
    found = collect(tmp_path / "runs", exclude=["runs/a"], rename={f"{tmp_path}/runs/b*": "mine"})
    assert [(cell.key, cell.model) for cell in found.cells] == [("runs/b", "mine"), ("runs/c", "ecg_cpc")]
    assert found.excluded == [("runs/a", "left out by config.exclude")]
    with pytest.raises(UserError, match=r"'runs/d' fits no run"):
        collect(tmp_path / "runs", exclude=["runs/d"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record_id": lambda a: np.append(a[:-1], a[0])}, "record id 'r00000' is there twice"),
        ({"labels": lambda a: np.append(a[:-1], a[0])}, "label 'SR' is there twice"),
        (
            {"scores": lambda a: np.where(np.arange(60)[:, None] == 7, np.nan, a)},
            "score is NaN (nan at record 'r00007'",
        ),
        ({"scores": lambda a: 2 * a}, "score is not a probability"),
        ({"scores": lambda a: a - 0.5}, "score is not a probability"),
        ({"scores": lambda a: a[:-1]}, "expected one row for each record"),
        ({"scores": lambda a: (a > 0.5).astype(int)}, "expected floating point"),
        ({"targets": lambda a: a / 2}, "target is not a class (0.5 at"),
        ({"kinds": lambda a: np.array(["other", *a[1:]])}, "kind 'other'"),
        ({"patient_id": lambda a: a[:-1]}, "patient ids; expected one for each record"),
        ({"targets": None}, "predictions.npz has no targets"),
        ({"record_id": lambda a: np.array(list(a), dtype=object)}, "predictions.npz is damaged"),
    ],
)
def test_predictions_that_cannot_be(tmp_path: Path, change: dict, message: str) -> None:
    run = write_run(tmp_path / "run")
    arrays = draw(1.0)
    for name, function in change.items():
        arrays[name] = None if function is None else function(arrays[name])
    np.savez(run / "predictions.npz", **{name: array for name, array in arrays.items() if array is not None})
    (cell,) = collect(tmp_path).cells
    with pytest.raises(UserError) as error:
        cell.predictions()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_predictions_are_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "predictions.npz"
    np.savez(path, **draw(1.0, records=5))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "byte", "hole"]))
    damaged = {
        "cut": whole[:place],
        "byte": whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :],
        "hole": whole[:place] + whole[place + 8 :],
    }[kind]
    try:
        read_predictions(damaged, path)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_values_of_a_run(tmp_path: Path, kind: str, unit: str) -> None:
    """As `ecgjax.bootstrap` has them with records in the order of their ids, and the same whatever their order."""
    arrays = draw(1.0, with_age=True)
    arrays["targets"][3, 0] = np.nan
    arrays["targets"][:, 2] = 0
    tasks = {"all": ["SR", "AFIB", "STACH", "age"], "rhythm": ["AFIB", "SR"]}
    write_run(tmp_path / "a", arrays=arrays, tasks=tasks)
    rows, columns = np.random.default_rng(0).permutation(60), [3, 1, 0, 2]
    shuffled = {name: a[rows] if len(a) == 60 else a[columns] for name, a in arrays.items()}
    for name in ("targets", "scores"):
        shuffled[name] = shuffled[name][:, columns]
    write_run(tmp_path / "b", arrays=shuffled, tasks=tasks)
    wanted = Bootstrap(level=0.9, replicates=50, kind=kind, unit=unit, seed=4)
    first, second = (cell_bootstrap.compute(cell, cell.predictions(), wanted) for cell in collect(tmp_path).cells)
    assert [(value.task, value.metric) for value in first] == [("all", "auroc"), ("all", "mae"), ("rhythm", "auroc")]
    groups = arrays["patient_id"] if unit == "patient" else None
    for value, columns, metric in zip(first, ([0, 1, 2], [3], [1, 0]), ("auroc", "mae", "auroc"), strict=True):
        expected = bootstrap.intervals(
            arrays["targets"][:, columns],
            arrays["scores"][:, columns],
            metric,
            replicates=50,
            level=0.9,
            seed=4,
            kind=kind,
            groups=groups,
        )
        assert value.replicated.value == pytest.approx(expected.macro_value, abs=1e-12)
        assert (value.low, value.high) == pytest.approx((expected.macro_low, expected.macro_high), abs=1e-12)
        lows = [label["low"] for label in value.labels.values()]
        np.testing.assert_allclose(np.array(lows, float), expected.low, atol=1e-12)
        assert (value.records, value.patients) == (60, 30)
    assert first[0].labels["STACH"] == {"value": None, "low": None, "high": None, "known": 60, "positives": 0}
    for a, b in zip(first, second, strict=True):
        assert a.population == b.population
        np.testing.assert_array_equal(a.replicated.samples, b.replicated.samples)


def test_values_are_kept_whole(tmp_path: Path) -> None:
    write_run(tmp_path / "run", arrays=draw(1.0, with_age=True))
    (cell,) = collect(tmp_path).cells
    wanted = Bootstrap(replicates=20, kind="bca")
    values = cell_bootstrap.compute(cell, cell.predictions(), wanted)
    path = tmp_path / cell_values.file_name(cell, cell.read(), wanted)
    cell_values.write(path, values, wanted)
    for a, b in zip(values, cell_values.read(path, wanted), strict=True):
        np.testing.assert_array_equal(a.replicated.samples, b.replicated.samples)
        np.testing.assert_array_equal(a.replicated.influence, b.replicated.influence)
        assert {**vars(a), "replicated": 0} == {**vars(b), "replicated": 0}
    with pytest.raises(UserError, match="made with replicates 20, kind 'bca'; expected replicates 30, kind 'basic'"):
        cell_values.read(path, Bootstrap(replicates=30, kind="basic"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="not readable"):
        cell_values.read(path, wanted)


def test_the_name_of_kept_values_follows_from_all_they_follow_from(tmp_path: Path) -> None:
    arrays = draw(1.0)
    write_run(tmp_path / "a", arrays=arrays)
    write_run(tmp_path / "b", arrays={**arrays, "scores": arrays["scores"] * np.float32(0.99)})
    write_run(tmp_path / "c", arrays=arrays, protocol="paper")
    write_run(tmp_path / "d", arrays=arrays, tasks={"ptbxl_super": ["SR"]})
    changes = [{}, {"level": 0.9}, {"replicates": 10}, {"kind": "basic"}, {"unit": "patient"}, {"seed": 1}]
    names = [
        cell_values.file_name(cell, cell.read(), Bootstrap(**change))
        for cell in collect(tmp_path).cells
        for change in changes
    ]
    assert len(set(names)) == len(names) == 24


def test_predictions_and_results_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    np.savez(run / "predictions.npz", **draw(0.2, seed=5))
    (cell,) = collect(tmp_path).cells
    with pytest.raises(UserError, match=r"results\.json says .*: they are not of one run"):
        cell_bootstrap.compute(cell, cell.predictions(), Bootstrap(replicates=2))
