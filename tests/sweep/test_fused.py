"""Cells that run as one program end as each would have ended alone."""

import contextlib
import json
import signal

import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.jobs import evaluate, evaluate_outcome, sweep
from ecgjax.sweep import locks, plan, runner, train_unit, unit_scores
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.units import FOLDER, units
from ecgjax.training import fused_heads
from ecgjax.training.checkpoints import Checkpoints
from tests.sweep import fused

pytestmark = pytest.mark.usefixtures("tiny", "undrawn")
STEPS = 64 // 16
DRAW, KEEP = evaluate_outcome.evaluation_report.draw, evaluate_outcome.cell_values.keep


@pytest.fixture(scope="module")
def whole(store, weights, tmp_path_factory):
    """A sweep that ran as one program without trouble."""
    workdir = tmp_path_factory.mktemp("whole")
    config = fused.config(store, weights)
    (unit,) = units(plan.make(config).cells)
    assert (unit.kind, len(unit.cells)) == ("fused", 9)
    sweep.run(config, workdir)
    return workdir


def _status(workdir):
    return json.loads((workdir / "status.json").read_text())


def _cells(store, weights):
    return plan.make(fused.config(store, weights)).cells


def _check_all(store, weights, workdir, whole):
    """Every cell's results and log are those of the sweep that was not disturbed."""
    for cell in _cells(store, weights):
        folder, undisturbed = workdir / "cells" / cell.name, whole / "cells" / cell.name
        fused.check_equal(folder, undisturbed, tolerance=0)
    assert not (workdir / "cells" / FOLDER).exists()


def test_cells_equal_those_run_alone(store, weights, whole, tmp_path):
    status = _status(whole)
    assert status["cells"]["done"] == 9
    assert status["running"] == []
    assert not (whole / "cells" / FOLDER).exists()
    for cell in _cells(store, weights)[::2]:
        folder = whole / "cells" / cell.name
        fused.check_equal(folder, fused.run_alone(cell, tmp_path / cell.name))
        assert (folder / "summary.json").exists()
        assert "trained with 8 other heads" in (folder / "log.txt").read_text()


def test_all_files_of_a_run_are_there(store, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_outcome.evaluation_report, "draw", DRAW)
    monkeypatch.setattr(evaluate_outcome.cell_values, "keep", KEEP)
    axes = product(fixed({"model": "tiny", "data.labels": "labels"}), axis("mode", ["linear", "frozen"]))
    config = fused.config(store, weights, axes, **{"common.epochs": 1})
    sweep.run(config, tmp_path / "fused")
    for cell in plan.make(config).cells[:1]:
        fused.check_equal(tmp_path / "fused" / "cells" / cell.name, fused.run_alone(cell, tmp_path / "alone"))


def test_a_head_that_diverges_fails_alone(store, weights, tmp_path, capsys):
    rates = [1e-3, 3e38, 1e-2]
    axes = product(fixed({"model": "tiny", "mode": "linear", "data.labels": "labels"}), axis("learning_rate", rates))
    config = fused.config(store, weights, axes, retries=1)
    calm, wild, warm = plan.make(config).cells
    with pytest.raises(SystemExit):
        sweep.run(config, tmp_path / "three")
    (failure,) = _status(tmp_path / "three")["failures"]
    assert (failure["point"]["learning_rate"], failure["attempts"]) == (3e38, 2)
    with pytest.raises(UserError) as alone:
        evaluate.run(wild.config(), tmp_path / "wild")
    assert failure["reason"] == str(alone.value)
    assert "Traceback" in (tmp_path / "three" / "cells" / wild.name / "error.txt").read_text()
    assert not (tmp_path / "three" / "cells" / wild.name / "DONE").exists()
    assert not (tmp_path / "three" / "cells" / FOLDER).exists()
    without = product(
        fixed({"model": "tiny", "mode": "linear", "data.labels": "labels"}), axis("learning_rate", rates[::2])
    )
    sweep.run(fused.config(store, weights, without), tmp_path / "two")
    for cell in (calm, warm):
        fused.check_equal(tmp_path / "three" / "cells" / cell.name, tmp_path / "two" / "cells" / cell.name, 1e-6)


def test_a_killed_unit_continues_as_if_it_had_not_been(store, weights, whole, tmp_path, monkeypatch):
    config = fused.config(store, weights)
    save, saved = Checkpoints.save, []

    def save_and_die(self, step, *arguments, **named):
        save(self, step, *arguments, **named)
        saved.append(step)
        if step == 2 * STEPS:
            self.wait()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_unit, "SAVE_SECONDS", 0.0)
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(config, tmp_path)
    assert saved == [STEPS, 2 * STEPS]
    steps = []
    build = fused_heads.build

    def counted(*arguments):
        program = build(*arguments)
        return program._replace(step=lambda *own: (steps.append(1), program.step(*own))[1])

    monkeypatch.setattr(fused_heads, "build", counted)
    sweep.run(config, tmp_path)
    assert len(steps) == STEPS  # of three epochs the last
    _check_all(store, weights, tmp_path, whole)


def test_a_kill_while_results_are_written_repeats_no_training(store, weights, whole, tmp_path, monkeypatch):
    config = fused.config(store, weights)
    write, written = evaluate_outcome.write, []

    def write_and_die(subject, *arguments, **named):
        if len(written) == 4:
            raise KeyboardInterrupt
        write(subject, *arguments, **named)
        written.append(subject.directory.path)

    with monkeypatch.context() as patch:
        patch.setattr(train_unit, "SAVE_SECONDS", 0.0)
        patch.setattr(evaluate_outcome, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(config, tmp_path)
    times = {path: (path / "DONE").stat().st_mtime_ns for path in written}
    assert len(times) == 4
    monkeypatch.setattr(train_unit, "_validate", None)  # would be called at the end of an epoch
    sweep.run(config, tmp_path)
    assert {path: (path / "DONE").stat().st_mtime_ns for path in written} == times
    _check_all(store, weights, tmp_path, whole)


def test_sigterm_in_mid_epoch_saves_all_cells(store, weights, whole, tmp_path, monkeypatch, capsys):
    config = fused.config(store, weights)
    progress = runner.Status.progress

    def signal_once(self, unit, cells, step, steps):
        if step == STEPS + 2:
            signal.raise_signal(signal.SIGTERM)
        return progress(self, unit, cells, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(train_unit, "_PROGRESS_SECONDS", 0.0)
        patch.setattr(runner.Status, "progress", signal_once)
        with pytest.raises(SystemExit) as stopped:
            sweep.run(config, tmp_path)
    assert stopped.value.code == 143
    assert f"stopped after step {STEPS + 2} of {3 * STEPS}" in capsys.readouterr().err
    assert _status(tmp_path)["state"] == "stopped"
    sweep.run(config, tmp_path)
    assert f"continuing after step {STEPS + 2}" in next((tmp_path / "cells").glob("*/log.txt")).read_text()
    _check_all(store, weights, tmp_path, whole)


def test_a_unit_that_is_too_large_is_halved_until_it_fits(store, weights, whole, tmp_path, monkeypatch):
    built, build = [], fused_heads.build

    def limited(model, heads, *sharding):
        built.append(len(heads))
        if len(heads) > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5 bytes")
        return build(model, heads, *sharding)

    monkeypatch.setattr(fused_heads, "build", limited)
    config = fused.config(store, weights, fused.mixed()[:5], retries=0)
    sweep.run(config, tmp_path)
    assert built == [5, 3, 2, 2]  # and the fifth as a cell alone
    for cell in plan.make(config).cells:
        fused.check_equal(tmp_path / "cells" / cell.name, whole / "cells" / cell.name)


def test_a_finished_and_a_locked_cell_are_left_out(store, weights, whole, tmp_path, monkeypatch):
    config = fused.config(store, weights)
    cells = _cells(store, weights)
    evaluate.run(cells[0].config(), tmp_path / "cells" / cells[0].name)
    done = (tmp_path / "cells" / cells[0].name / "DONE").stat().st_mtime_ns
    built, build = [], fused_heads.build

    def building(model, heads, *sharding):
        built.append(len(heads))
        holder.close()  # what another process holds becomes free when the unit is under way
        return build(model, heads, *sharding)

    monkeypatch.setattr(fused_heads, "build", building)
    folder = tmp_path / "cells" / cells[1].name
    folder.mkdir()
    holder = contextlib.ExitStack()
    assert holder.enter_context(locks.held(folder))
    sweep.run(config, tmp_path)
    assert built == [7, 1]
    assert (tmp_path / "cells" / cells[0].name / "DONE").stat().st_mtime_ns == done
    for cell in cells[1:]:
        fused.check_equal(tmp_path / "cells" / cell.name, whole / "cells" / cell.name)


def test_a_cell_that_cannot_be_set_up_fails_alone(store, weights, tmp_path):
    axes = product(fixed({"model": "tiny", "mode": "linear"}), axis("data.labels", ["labels", "lables", "joint"]))
    with pytest.raises(SystemExit):
        sweep.run(fused.config(store, weights, axes, retries=0, **{"common.epochs": 1}), tmp_path)
    status = _status(tmp_path)
    assert status["cells"]["done"] == 2
    assert "has no label set 'lables'" in status["failures"][0]["reason"]


def test_features_of_validation_are_computed_once_where_they_fit(store, weights, whole, tmp_path, monkeypatch):
    config = fused.config(store, weights)
    seen, build = [], fused_heads.build

    def counted(*arguments):
        program = build(*arguments)
        assert program.features is not None
        predict = program.predict
        return program._replace(predict=lambda *own: (seen.append(type(own[1]).__name__), predict(*own))[1])

    monkeypatch.setattr(fused_heads, "build", counted)
    sweep.run(config, tmp_path / "kept")
    assert seen == ["FeatureSource"] * 3 + ["Cutter"]  # three epochs, then the test
    seen.clear()
    monkeypatch.setattr(unit_scores, "KEPT_BYTES", 0)
    sweep.run(config, tmp_path)
    assert seen == ["Cutter"] * 4
    for cell in _cells(store, weights):  # the same where they are not kept
        fused.check_equal(tmp_path / "cells" / cell.name, whole / "cells" / cell.name, 1e-6)


def test_status_of_a_unit(store, weights, tmp_path, monkeypatch):
    cells = _cells(store, weights)
    status = runner.Status(cells, tmp_path / "status.json")
    now = [100.0]
    monkeypatch.setattr("ecgjax.sweep.status.time.monotonic", lambda: now[0])
    for cell in cells[:6]:
        status.start(cell, "unit")
    status.progress("unit", 6, 10, 100)
    assert (status.eta(), status.as_dict()["heads_per_second"]) == (None, None)
    now[0] += 20
    status.progress("unit", 6, 30, 100)  # a step in a second: 70 s left, then three more cells at 100 / 6 s each
    assert status.eta() == pytest.approx(70 + 50)
    found = status.as_dict()
    assert found["heads_per_second"] == pytest.approx(6 / 100)
    assert found["cells"] == {"all": 9, "done": 0, "running": 6, "failed": 0, "elsewhere": 0, "left": 9}
    assert "step 30/100  0.06 heads/s" in status._text()
    for cell in cells[:6]:
        status.finish(cell, {"validation": 0.5}, 20.0)
    assert status.eta() == pytest.approx(60)
    assert status.as_dict()["heads_per_second"] is None
    assert np.isclose(status.as_dict()["per_hour"], 180)


def _pooled(store, weights, tmp_path):
    """Three streams of batches: of two seeds, and of half of the records. Fixed crops, features in a cache."""
    base = fixed({"model": "tiny", "mode": "linear", "data.labels": "labels", "data.crops": "fixed"})
    axes = chain(product(base, axis("seed", range(2))), product(base, fixed({"data.ratio": 0.5, "seed": 1})))
    return fused.config(store, weights, axes, features="cache", features_folder=str(tmp_path / "features"))


def test_fixed_crops_fuse_seeds_and_shares_of_the_records(store, weights, tmp_path, monkeypatch):
    built, build = [], fused_heads.build
    monkeypatch.setattr(fused_heads, "build", lambda model, heads, *more: (
        built.append(len(heads)), build(model, heads, *more))[1])  # fmt: skip
    config = _pooled(store, weights, tmp_path)
    sweep.run(config, tmp_path / "sweep")
    assert built == [3]
    steps = set()
    for cell in plan.make(config).cells:
        folder = tmp_path / "sweep" / "cells" / cell.name
        fused.check_equal(folder, fused.run_alone(cell, tmp_path / cell.name))
        steps.add(fused.read_log(folder)[-1]["step"])
    assert steps == {3 * STEPS, 3 * STEPS // 2}


def test_sigterm_in_a_unit_of_several_streams(store, weights, tmp_path, monkeypatch):
    config = _pooled(store, weights, tmp_path)
    sweep.run(config, tmp_path / "whole")
    progress = runner.Status.progress

    def signal_once(self, unit, cells, step, steps):
        if step == STEPS + 3:  # where the share of the records is through with its epoch
            signal.raise_signal(signal.SIGTERM)
        return progress(self, unit, cells, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(train_unit, "_PROGRESS_SECONDS", 0.0)
        patch.setattr(runner.Status, "progress", signal_once)
        with pytest.raises(SystemExit):
            sweep.run(config, tmp_path / "cut")
    sweep.run(config, tmp_path / "cut")
    for cell in plan.make(config).cells:
        fused.check_equal(tmp_path / "cut" / "cells" / cell.name, tmp_path / "whole" / "cells" / cell.name, 0)
