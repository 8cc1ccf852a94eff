import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.jobs import evaluate, sweep
from ecgjax.sweep import locks, plan, runner
from ecgjax.sweep.axes import axis, fixed, product
from tests.sweep import stub

ROOT = Path(__file__).parents[2]


def _status(workdir, name="status.json"):
    return json.loads((workdir / name).read_text())


def _start(module, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, env=environment)


def _until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_a_sweep_runs_each_cell_once_and_ends_with_tables(store, tmp_path, capsys):
    ran = []

    def run_cell(config, folder):
        ran.append(config.seed)
        print("what the evaluation prints")
        stub.run_cell(config, folder)

    sweep.run(stub.config(store), tmp_path, run_cell)
    printed = capsys.readouterr().out
    assert ran == list(range(6))
    assert "6 of 6 cells done, 0 failed" in printed
    assert f"--config=configs/report.py --config.runs={tmp_path}" in printed
    assert "what the evaluation prints" not in printed
    cell = next((tmp_path / "cells").iterdir())
    assert (cell / "log.txt").read_text() == "what the evaluation prints\n"
    with open(tmp_path / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["task"], row["value"]) for row in rows] == [
        (str(i), "synthetic", "0.75") for i in range(6)
    ]
    status = _status(tmp_path)
    assert status["state"] == "done"
    assert status["cells"] == {"all": 6, "done": 6, "running": 0, "failed": 0, "elsewhere": 0, "left": 0}
    assert status["best"]["synthetic"]["validation"] == pytest.approx(0.8)
    assert status["running"] == []
    # A second start runs nothing, and reads summaries that a kill left unwritten from the results.
    (cell / "summary.json").unlink()
    sweep.run(stub.config(store), tmp_path, None)
    printed = capsys.readouterr()
    assert "6 done already" in printed.out
    assert printed.err == ""
    assert (cell / "summary.json").exists()


def test_a_shared_store_of_cells_serves_other_sweeps(store, tmp_path, capsys):
    cells = str(tmp_path / "cells")
    sweep.run(stub.config(store, cells=cells), tmp_path / "a", stub.run_cell)
    more = stub.config(store, product(fixed(stub.S4), axis("seed", range(4, 8))), cells=cells)
    ran = []
    sweep.run(more, tmp_path / "b", lambda config, folder: (ran.append(config.seed), stub.run_cell(config, folder)))
    assert ran == [6, 7]
    linked = list((tmp_path / "b" / "cells").iterdir())
    assert len(linked) == 4
    assert all(path.is_symlink() and (path / "DONE").exists() for path in linked)


def test_failures_are_retried_and_do_not_stop_others(store, tmp_path, capsys):
    tried = []

    def run_cell(config, folder):
        tried.append(config.seed)
        if config.seed == 1:
            raise UserError("the training loss is nan at step 3;\nexpected a finite one")
        if config.seed == 2 and tried.count(2) < 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte")
        if config.seed == 3:
            raise FloatingPointError("invalid value")
        stub.run_cell(config, folder)

    with pytest.raises(SystemExit) as ended:
        sweep.run(stub.config(store, retries=2), tmp_path, run_cell)
    assert ended.value.code == 1
    assert [tried.count(seed) for seed in range(6)] == [1, 3, 2, 3, 1, 1]
    assert tried[:6] == list(range(6))  # failed ones again after all others
    printed = capsys.readouterr().out
    assert "seed=1: the training loss is nan at step 3; expected a finite one (3 attempts)" in printed
    assert "seed=3: FloatingPointError: invalid value (3 attempts)" in printed
    assert "4 of 6 cells done, 2 failed" in printed
    status = _status(tmp_path)
    assert status["state"] == "failed"
    assert status["cells"] == {"all": 6, "done": 4, "running": 0, "failed": 2, "elsewhere": 0, "left": 0}
    reason = {failure["point"]["seed"]: failure["reason"] for failure in status["failures"]}
    assert reason[3] == "FloatingPointError: invalid value"
    failed = next(f["cell"] for f in status["failures"] if f["point"]["seed"] == 3)
    assert "in run_cell" in (tmp_path / "cells" / failed / "error.txt").read_text()
    # The next start tries them again, and their traceback goes when they succeed.
    sweep.run(stub.config(store), tmp_path, stub.run_cell)
    assert not (tmp_path / "cells" / failed / "error.txt").exists()
    assert _status(tmp_path)["state"] == "done"


def test_out_of_memory_is_named(store, tmp_path, capsys):
    def run_cell(config, folder):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes. " + "x" * 500)

    with pytest.raises(SystemExit):
        sweep.run(stub.config(store, (stub.S4,), retries=0), tmp_path, run_cell)
    (failure,) = _status(tmp_path)["failures"]
    assert failure["reason"].startswith("out of memory: RESOURCE_EXHAUSTED")
    assert len(failure["reason"]) == 300
    assert failure["attempts"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"common.interval.replicates": 1}, "config.interval.replicates is 1; expected 2 or more"),
        ({"axes": product(fixed(stub.S4), axis("seed", [0, -1]))}, "config.seed is -1; expected 0 or more"),
        ({"retries": -1}, "config.retries is -1; expected 0 or more"),
    ],
)
def test_settings_that_no_evaluation_takes_are_refused_before_any_runs(store, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        sweep.run(stub.config(store, **change), tmp_path, None)
    assert not (tmp_path / "cells").exists()


def test_a_full_disk_stops_the_sweep(store, tmp_path):
    ran = []

    def run_cell(config, folder):
        ran.append(config.seed)
        raise UserError("metrics.jsonl: no space left to write; free space and start the same command again")

    with pytest.raises(UserError, match="no space left"):
        sweep.run(stub.config(store), tmp_path, run_cell)
    assert ran == [0]


def test_a_signal_between_steps_ends_the_sweep_after_the_cell_saved(store, tmp_path, capsys):
    def run_cell(config, folder):
        if config.seed == 2:
            signal.raise_signal(signal.SIGTERM)  # evaluate would notice, save and leave; here it was in its last step
        stub.run_cell(config, folder)

    with pytest.raises(SystemExit) as ended:
        sweep.run(stub.config(store), tmp_path, run_cell)
    assert ended.value.code == 143
    assert "stopped with 3 of 6 cells left" in capsys.readouterr().err
    assert _status(tmp_path)["state"] == "stopped"


def test_sigterm_in_an_evaluation_ends_the_sweep(store, tiny, tmp_path, monkeypatch):
    mean_loss = evaluate.mean_loss

    def signal_once(pending, step):
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return mean_loss(pending, step)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "mean_loss", signal_once)
        with pytest.raises(SystemExit) as ended:
            sweep.run(_small_sweep(store, {"model": "tiny", "mode": "linear"}), tmp_path)
    assert ended.value.code == 143
    (cell,) = (tmp_path / "cells").iterdir()
    assert "stopped after step 2 of 8" in (cell / "log.txt").read_text()
    assert not (cell / "DONE").exists()


def test_shards_share_a_directory(store, tmp_path):
    ran = []
    for index in (1, 2, 3):
        config = stub.config(store, shard=f"{index}/3")
        sweep.run(config, tmp_path, lambda config, folder: (ran.append(config.seed), stub.run_cell(config, folder)))
        assert _status(tmp_path, f"status-{index}-of-3.json")["state"] == "done"
    assert sorted(ran) == list(range(6))


def test_a_lock_is_exclusive_and_dies_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from ecgjax.sweep import locks\n"
        "with locks.held(Path(sys.argv[1])) as mine:\n    print(mine, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with locks.held(tmp_path) as mine:
        assert not mine
    assert json.loads((tmp_path / "LOCK").read_text())["process"] == holder.pid
    holder.kill()
    holder.wait()
    with locks.held(tmp_path) as mine:
        assert mine
        with locks.held(tmp_path) as again:
            assert not again


def test_two_sweeps_in_one_directory_share_the_cells_of_a_killed_third(store, tmp_path):
    workdir, runs = tmp_path / "sweep", tmp_path / "sweep-runs.txt"
    killed = _start("tests.sweep.stub", workdir, store, 60)
    _until(lambda: runs.exists() and runs.read_text().endswith("\n"))
    config = stub.config(store)
    (first, *_) = plan.make(config).cells
    other = _start("tests.sweep.stub", workdir, store, 0.05)
    # The other one does all but the first cell, which it leaves to the process that has it.
    _until(lambda: len(list((workdir / "cells").glob("*/DONE"))) == 5)
    assert not (workdir / "cells" / first.name / "DONE").exists()
    assert other.poll() is None
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert other.wait(60) == 0
    lines = [line.split() for line in runs.read_text().splitlines()]
    assert [name for process, name in lines if process == str(killed.pid)] == [first.name]
    assert sorted(name for process, name in lines if process == str(other.pid)) == sorted(
        cell.name for cell in plan.make(config).cells
    )


def _small_sweep(store, model=stub.S4):
    # Of other batches, so that each is a program of its own.
    axes = product(fixed(model), axis("batch_size", [16, 8]))
    return stub.config(store, axes, **{"common.epochs": 2, "common.interval.replicates": 20, "common.log_every": 1})


def test_a_killed_sweep_continues_with_the_same_results(store, tmp_path):
    cells = plan.make(_small_sweep(store)).cells
    script = (
        "import sys; from pathlib import Path; from ecgjax.jobs import sweep\n"
        "from tests.sweep.test_runner import _small_sweep\n"
        "sweep.run(_small_sweep(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    driver = subprocess.Popen(
        [sys.executable, "-c", script, str(store), str(tmp_path / "cut")], cwd=ROOT, env=environment
    )
    second = tmp_path / "cut" / "cells" / cells[1].name
    _until(lambda: (second / "metrics.jsonl").exists() and len((second / "metrics.jsonl").read_text()) > 0)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    first = tmp_path / "cut" / "cells" / cells[0].name
    written = (first / "DONE").stat().st_mtime_ns, (first / "results.json").stat().st_mtime_ns
    assert not (second / "DONE").exists()
    sweep.run(_small_sweep(store), tmp_path / "cut")
    assert written == ((first / "DONE").stat().st_mtime_ns, (first / "results.json").stat().st_mtime_ns)
    alone = tmp_path / "alone"
    evaluate.run(cells[1].config(), alone)
    with np.load(alone / "predictions.npz") as whole, np.load(second / "predictions.npz") as cut:
        np.testing.assert_array_equal(whole["scores"], cut["scores"])
    values = [json.loads((folder / "results.json").read_text())["tasks"] for folder in (alone, second)]
    assert values[0] == values[1]


def test_an_unfinished_cell_continues_where_its_store_moved(store, tmp_path):
    def stop(config, folder):
        evaluate.RunDirectory.open(folder, config)
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        sweep.run(stub.config(store, (stub.S4,)), tmp_path / "a", stop)
    moved = tmp_path / "moved"
    moved.symlink_to(store)
    opened = []

    def check(config, folder):
        opened.append(evaluate.RunDirectory.open(folder, config))  # refuses a run of another config
        stub.run_cell(config, folder)

    sweep.run(stub.config(moved, (stub.S4,)), tmp_path / "a", check)
    assert len(opened) == 1


def test_status_estimates_by_model_and_mode(store, tmp_path):
    axes = product(fixed(stub.CPC), axis("mode", ["linear", "finetune"]), axis("seed", range(2)))
    cells = plan.make(stub.config(store, axes)).cells
    status = runner.Status(cells, tmp_path / "status.json")
    assert status.eta() is None
    found = {"validation": 0.5}
    status.finish(cells[0], found)  # before this process: its time is not known
    assert status.eta() is None
    status.start(cells[1])
    assert [cell["point"] for cell in status.as_dict()["running"]] == [cells[1].point]
    status.finish(cells[1], found, 2.0)
    assert status.eta() == 4.0  # two of another mode, of which nothing is known
    status.finish(cells[2], found, 10.0)
    assert status.eta() == 10.0
    assert status.as_dict()["per_hour"] == 600
    status.fail(cells[3], "why", 1)
    assert status.eta() == 0
