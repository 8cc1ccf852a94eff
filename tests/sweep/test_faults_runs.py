"""What may go wrong around a sweep of real trainings: afterwards it has what an undisturbed one has, each cell once."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.jobs import sweep
from ecgjax.sweep import locks, plan, train_unit
from ecgjax.sweep.units import FOLDER, units
from ecgjax.training.logging import MetricLog
from tests.sweep import faulty

ROOT = Path(__file__).parents[2]
LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
SECONDS = 240  # of a process, on a slow machine


@pytest.fixture(autouse=True, scope="module")
def precision(tiny):
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", "highest")
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.fixture(scope="module")
def undisturbed(precision, store, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    sweep.run(faulty.config(store), workdir)
    cells = plan.make(faulty.config(store)).cells
    assert sorted(len(unit.cells) for unit in units(cells)) == [1, 3]
    return workdir


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(train_unit, "SAVE_SECONDS", 0)


def _start(workdir, store, step=0, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **more}
    command = [sys.executable, "-m", "tests.sweep.faulty", str(workdir), str(store), str(step)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def _check_as_undisturbed(workdir, undisturbed, store, without=()):
    """Each cell has the results, the log and the config of an undisturbed sweep, and is counted once."""
    cells = [cell for cell in plan.make(faulty.config(store)).cells if cell.name not in without]
    for cell in cells:
        here, there = (folder / "cells" / cell.name for folder in (workdir, undisturbed))
        assert (here / "DONE").exists()
        with np.load(here / "predictions.npz") as mine, np.load(there / "predictions.npz") as theirs:
            np.testing.assert_allclose(mine["scores"], theirs["scores"], atol=2e-5)
            np.testing.assert_array_equal(mine["record_id"], theirs["record_id"])
        mine, theirs = (json.loads((folder / "results.json").read_text()) for folder in (here, there))
        assert mine["best"]["epoch"] == theirs["best"]["epoch"]
        assert mine["tasks"]["synthetic"]["auroc"]["value"] == pytest.approx(
            theirs["tasks"]["synthetic"]["auroc"]["value"], abs=1e-6
        )
        assert _steps(here) == _steps(there)
        assert (here / "config.json").read_bytes() == (there / "config.json").read_bytes()
        assert json.loads((here / "summary.json").read_text())["values"]
    with open(workdir / "cells.csv", newline="") as file:
        assert sorted(row["cell"] for row in csv.DictReader(file)) == sorted(cell.name for cell in cells)
    left = {path.name for path in (workdir / "cells" / FOLDER).rglob("*") if path.is_file()}
    assert left <= {locks.FILE}  # of a unit that was split, or that another process has ended
    assert not list(workdir.rglob("*.tmp"))


def _steps(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_driver_whose_clock_jumps_loses_nothing(store, undisturbed, tmp_path, monkeypatch, often):
    """Killed in a unit of three heads while the clock was eight years ahead; then it jumps both ways, once in a save.

    Orbax waits for its saves by the clock of the wall: a jump may make it give one up, which the second attempt mends.
    """
    ahead = {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": "+3000d", "DONT_FAKE_MONOTONIC": "1"} if LIBFAKETIME else {}
    assert _start(tmp_path, store, 6, **ahead).wait(SECONDS) == -signal.SIGKILL
    assert not list((tmp_path / "cells").glob("*/DONE"))
    wall, write, jumps, offset = time.time, MetricLog.write, {2: -1e8, 5: 2e8}, [0.0]

    def jump(self, step, values):
        write(self, step, values)
        offset[0] += jumps.pop(step, 0.0)

    monkeypatch.setattr(time, "time", lambda: wall() + offset[0])
    monkeypatch.setattr(MetricLog, "write", jump)
    sweep.run(faulty.config(store), tmp_path)
    monkeypatch.undo()
    assert not jumps
    _check_as_undisturbed(tmp_path, undisturbed, store)


def test_sigterm_in_a_unit_saves_it_and_no_step_is_made_twice(store, undisturbed, tmp_path, monkeypatch):
    write, signals = MetricLog.write, iter([signal.SIGTERM])  # a second one would end the process at once

    def preempted(self, step, values):
        write(self, step, values)
        if step == 6 and next(signals, None):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MetricLog, "write", preempted)
    with pytest.raises(SystemExit) as ended:
        sweep.run(faulty.config(store), tmp_path)
    monkeypatch.undo()
    assert ended.value.code == 143
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    sweep.run(faulty.config(store), tmp_path)
    _check_as_undisturbed(tmp_path, undisturbed, store)
    logs = [path.read_text() for path in (tmp_path / "cells").glob("*/log.txt")]
    assert sum("continuing after step 6 of 12" in text for text in logs) == 3


def test_a_loss_that_is_nan_in_one_head_leaves_the_others_as_they_are(store, undisturbed, tmp_path, capsys):
    config = faulty.config(store, (*faulty.RATES, 3e38), retries=0)
    with pytest.raises(SystemExit) as ended:
        sweep.run(config, tmp_path)
    assert ended.value.code == 1
    (failure,) = json.loads((tmp_path / "status.json").read_text())["failures"]
    assert failure["point"]["learning_rate"] == 3e38
    assert "expected a" in failure["reason"]
    assert "4 of 5 cells done, 1 failed" in capsys.readouterr().out
    assert not (tmp_path / "cells" / failure["cell"] / "DONE").exists()
    _check_as_undisturbed(tmp_path, undisturbed, store)


def test_a_unit_that_is_out_of_memory_is_split_until_it_fits(store, undisturbed, tmp_path, monkeypatch):
    run, sizes = train_unit.run, []

    def small(unit, cells, *more):
        sizes.append(len(cells))
        if len(cells) > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.")
        run(unit, cells, *more)

    monkeypatch.setattr(train_unit, "run", small)
    sweep.run(faulty.config(store), tmp_path)
    assert sizes == [3, 2]  # and one alone
    assert json.loads((tmp_path / "status.json").read_text())["failures"] == []
    _check_as_undisturbed(tmp_path, undisturbed, store)


def test_two_sweeps_in_one_directory_do_each_cell_once(store, undisturbed, tmp_path):
    other = _start(tmp_path, store)
    end = time.monotonic() + SECONDS
    while not list((tmp_path / "cells").glob("*/metrics.jsonl")):
        assert time.monotonic() < end
        assert other.poll() is None
        time.sleep(0.02)
    sweep.run(faulty.config(store), tmp_path)
    assert other.wait(SECONDS) == 0
    _check_as_undisturbed(tmp_path, undisturbed, store)
    for log in (tmp_path / "cells").glob("*/log.txt"):
        assert log.read_text().count("heads on one frozen encoder") <= 1
        assert "continuing" not in log.read_text()


def test_a_full_disk_stops_a_sweep_and_room_lets_it_go_on(store, undisturbed, tmp_path, often):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here (root can)")
    try:
        with pytest.raises(UserError, match="no space left to write"):
            sweep.run(faulty.config(store), disk)
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        sweep.run(faulty.config(store), disk)
        _check_as_undisturbed(disk, undisturbed, store)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_changed_config_with_the_same_directory_is_refused_and_changes_nothing(store, undisturbed, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(undisturbed, workdir)
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    for change, text in (
        ({"common.epochs": 4}, "config.common.epochs was 3 and is 4"),
        ({"common.weight_decay": 0.5}, "config.common.weight_decay was None and is 0.5"),
        ({"rates": (1e-3, 1e-2)}, "its axes were others"),
    ):
        with pytest.raises(UserError, match=text) as refused:
            sweep.run(faulty.config(store, **change), workdir)
        assert str(workdir) in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before
