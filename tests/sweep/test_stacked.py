"""Trainings that run as one program end as each would have ended alone."""

import json
import subprocess
import sys

import pytest

from ecgjax.errors import UserError
from ecgjax.jobs import evaluate, sweep
from ecgjax.models.model import load_model
from ecgjax.sweep import plan, stacking, train_unit
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.units import FOLDER, units
from ecgjax.training import stacked
from ecgjax.training.checkpoints import Checkpoints
from tests.conftest import virtual_devices
from tests.sweep import fused, stub

pytestmark = pytest.mark.usefixtures("tiny")
STEPS = 64 // 16


def config(store):
    """Three trainings of one shape, differing in rate, decay and seed; they are run once, without retries."""
    tiny = fixed({"model": "tiny", "mode": "finetune"})
    axes = chain(
        product(tiny, axis("learning_rate", [1e-3, 3e38])),
        product(tiny, fixed({"learning_rate": 1e-4, "weight_decay": 0.1, "seed": 1})),
    )
    small = {"common.epochs": 3, "common.batch_size": 16, "common.interval.replicates": 20, "common.log_every": 3}
    return stub.config(store, axes, **{**small, "retries": 0, "common.data.placement": "device"})


@pytest.fixture(scope="module")
def cells(store, tiny):
    return plan.make(config(store)).cells


@pytest.fixture(scope="module")
def alone(cells, tiny, tmp_path_factory):
    """Folders of the cells that end well, each run by itself, and what is said of the one that does not."""
    root = tmp_path_factory.mktemp("alone")
    folders = {i: fused.run_alone(cells[i], root / cells[i].name) for i in (0, 2)}
    with pytest.raises(UserError) as wild:
        evaluate.run(cells[1].config(), root / "wild")
    return folders, str(wild.value)


@pytest.fixture(scope="module")
def whole(store, tiny, tmp_path_factory):
    """A sweep without trouble but the one that diverges."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.raises(SystemExit):
        sweep.run(config(store), workdir)
    return workdir


def _check(workdir, cells, alone, tolerance):
    folders, reason = alone
    status = json.loads((workdir / "status.json").read_text())
    assert status["cells"]["done"] == 2
    (failure,) = status["failures"]
    assert (failure["point"]["learning_rate"], failure["reason"]) == (3e38, reason)
    assert not (workdir / "cells" / FOLDER).exists()
    for i, folder in folders.items():
        ours = workdir / "cells" / cells[i].name
        fused.check_equal(ours, folder, tolerance)
        assert "trained with 2 other runs" in (ours / "log.txt").read_text()
        assert load_model("tiny", ours / "weights")


def test_units_of_a_sweep(cells):
    found = units(cells, stacking=stacking.stacking())
    assert [(unit.kind, len(unit.cells)) for unit in found] == [("stacked", 3)]


def test_cells_equal_those_run_alone(whole, cells, alone):
    _check(whole, cells, alone, 2e-3)  # see tests/training/test_stacked.py


def test_a_killed_unit_continues_as_if_it_had_not_been(store, cells, whole, tmp_path, monkeypatch):
    save, steps, build = Checkpoints.save, [], stacked.build

    def save_and_die(self, step, *arguments, **named):
        save(self, step, *arguments, **named)
        if step == 2 * STEPS:
            self.wait()
            raise KeyboardInterrupt

    def counted(*arguments, **named):
        program = build(*arguments, **named)
        return program._replace(step=lambda *own: (steps.append(1), program.step(*own))[1])

    with monkeypatch.context() as patch:
        patch.setattr(train_unit, "SAVE_SECONDS", 0.0)
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(config(store), tmp_path)
    monkeypatch.setattr(stacked, "build", counted)
    with pytest.raises(SystemExit):
        sweep.run(config(store), tmp_path)
    assert len(steps) == STEPS  # of three epochs the last
    for i in (0, 2):
        fused.check_equal(tmp_path / "cells" / cells[i].name, whole / "cells" / cells[i].name, 0)


def test_a_unit_that_is_too_large_is_halved(store, cells, whole, tmp_path, monkeypatch):
    built, build = [], stacked.build

    def limited(runs, *arguments, **named):
        built.append(len(runs))
        if len(runs) > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5 bytes")
        return build(runs, *arguments, **named)

    monkeypatch.setattr(stacked, "build", limited)
    with pytest.raises(SystemExit):
        sweep.run(config(store), tmp_path)
    assert built == [3, 2]
    for i in (0, 2):
        fused.check_equal(tmp_path / "cells" / cells[i].name, whole / "cells" / cells[i].name, 2e-3)


ON_EIGHT_DEVICES = """
import sys
from pathlib import Path
import jax
from ecgjax.jobs import evaluate, sweep
from ecgjax.models import registry
from ecgjax.sweep import plan
from tests.sweep.test_stacked import config
registry._MODELS["tiny"] = "tests.jobs.tiny_model"
assert jax.device_count() == 8
made, workdir = config(sys.argv[1]), Path(sys.argv[2])
evaluate.run(plan.make(made).cells[0].config(), workdir / "alone")
sweep.run(made, workdir / "sweep")
"""


def test_the_same_on_eight_devices(store, cells, alone, tmp_path):
    command = [sys.executable, "-c", ON_EIGHT_DEVICES, str(store), str(tmp_path)]
    done = subprocess.run(command, env=virtual_devices(8), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 1, done.stderr  # one cell diverges
    _check(tmp_path / "sweep", cells, alone, 2e-3)
    fused.check_equal(tmp_path / "alone", alone[0][0], 2e-3)  # its batches shared out among eight
    log = (tmp_path / "sweep" / "cells" / cells[0].name / "log.txt").read_text()
    assert "trained with 2 other runs on 3 x 2 devices" in log
