"""Sweeps on a Ray cluster of three nodes on this machine; nodes, workers and drivers are killed for real."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.jobs import sweep
from ecgjax.sweep import locks, plan, ray_executor
from ecgjax.sweep.axes import fixed
from tests.sweep import ray_driver, stub

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    """A head, which runs no task, and two nodes with a processor each."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ecgjax[ray]'")
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short: names of sockets are at most 107 bytes long
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray notes there which cluster is the newest, wherever its files are
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "temp_dir": folder, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
    finally:
        ours = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        with contextlib.suppress(Exception):
            made.shutdown()
        for child in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(ours, timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _driver(*arguments, module="tests.sweep.ray_driver"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _until(condition, process=None, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def _runs(workdir):
    file = workdir / "runs.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def _status(workdir):
    return json.loads((workdir / "status.json").read_text())


def _kill_node(cluster, node_id):
    """Raylet and workers at once, as when a machine is gone."""
    import psutil

    (node,) = (node for node in cluster.worker_nodes if node.node_id == node_id)
    (raylet,) = node.all_processes["raylet"]
    killed = [psutil.Process(raylet.process.pid), *psutil.Process(raylet.process.pid).children(recursive=True)]
    for process in killed:
        process.send_signal(signal.SIGKILL)
    cluster.worker_nodes.discard(node)


def test_a_sweep_goes_on_after_a_node_was_lost(cluster, store, tmp_path):
    cells = plan.make(stub.config(store)).cells
    held = cells[1].name
    with _driver(tmp_path, store, cluster.address) as driver:
        _until(lambda: any(line[:2] == ["begin", held] for line in _runs(tmp_path)), driver)
        # Meanwhile the other node does the others, and the driver hears of it.
        _until(lambda: sum(line[0] == "end" for line in _runs(tmp_path)) == 5, driver)
        _until(lambda: _status(tmp_path)["cells"]["done"] == 5, driver)
        assert [cell["point"]["seed"] for cell in _status(tmp_path)["running"]] == [1]
        (lost,) = (line[3] for line in _runs(tmp_path) if line[:2] == ["begin", held])
        _kill_node(cluster, lost)
        (tmp_path / "release").touch()
        assert driver.wait(180) == 0, driver.stderr.read()
    cluster.add_node(num_cpus=1)
    begun = Counter(line[1] for line in _runs(tmp_path) if line[0] == "begin")
    ended = {line[1]: line[3] for line in _runs(tmp_path) if line[0] == "end"}
    assert begun == {cell.name: 1 + (cell.name == held) for cell in cells}
    assert sorted(line[1] for line in _runs(tmp_path) if line[0] == "end") == sorted(cell.name for cell in cells)
    assert ended[held] != lost
    assert _status(tmp_path)["state"] == "done"
    assert _status(tmp_path)["cells"] == {"all": 6, "done": 6, "running": 0, "failed": 0, "elsewhere": 0, "left": 0}
    assert not list((tmp_path / "cells").glob(".ray-*"))


def test_sigterm_and_kill_of_the_driver_and_sigterm_of_a_worker(cluster, store, tmp_path):
    cells = plan.make(stub.config(store)).cells
    held = tmp_path / "cells" / cells[1].name

    def begun(times):
        return lambda: sum(line[:2] == ["begin", held.name] for line in _runs(tmp_path)) == times

    # SIGTERM of the driver: the tasks are asked to save.
    with _driver(tmp_path, store, cluster.address) as driver:
        _until(begun(1), driver)
        driver.terminate()
        assert driver.wait(180) == 143
        assert "cells left; start the same command again" in driver.stderr.read()
    assert (held / "saved").read_text() == "130"
    assert _status(tmp_path)["state"] == "stopped"
    # kill -9 of the driver: its tasks end, and leave their cells free.
    with _driver(tmp_path, store, cluster.address) as driver:
        _until(begun(2), driver)
        _until(lambda: sum(line[0] == "end" for line in _runs(tmp_path)) == 5, driver)
        driver.kill()
        driver.wait()
    _until(lambda: _is_free(held))
    # SIGTERM of a worker, as when its machine is taken away: saved, and continued by another worker.
    (held / "saved").unlink()
    with _driver(tmp_path, store, cluster.address) as driver:
        _until(begun(3), driver)
        *_, worker = (int(line[2]) for line in _runs(tmp_path) if line[:2] == ["begin", held.name])
        os.kill(worker, signal.SIGTERM)
        _until(begun(4), driver)
        assert (held / "saved").read_text() == "143"
        *_, other = (int(line[2]) for line in _runs(tmp_path) if line[:2] == ["begin", held.name])
        assert other != worker
        (tmp_path / "release").touch()
        assert driver.wait(180) == 0, driver.stderr.read()
    ended = Counter(line[1] for line in _runs(tmp_path) if line[0] == "end")
    assert ended == {cell.name: 1 for cell in cells}
    assert _status(tmp_path)["state"] == "done"


def _is_free(folder):
    with locks.held(folder) as mine:
        return mine


def _evaluations(store, **changes):
    small = {"common.epochs": 3, "common.interval.replicates": 20, "common.log_every": 1, "common.batch_size": 16}
    return stub.config(store, (fixed(stub.S4)), **{**small, **changes})


def test_an_evaluation_whose_worker_is_killed_gives_the_local_result(cluster, store, tmp_path):
    script = (
        "import sys; from pathlib import Path; from ecgjax.jobs import sweep\n"
        "from tests.sweep.test_ray import _evaluations\n"
        "sweep.run(_evaluations(sys.argv[2], **{'executor': 'ray', 'ray.address': sys.argv[3]}), Path(sys.argv[1]))"
    )
    (cell,) = plan.make(_evaluations(store)).cells
    there, here = tmp_path / "ray" / "cells" / cell.name, tmp_path / "local" / "cells" / cell.name
    (tmp_path / "driver.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, str(tmp_path / "ray"), str(store), cluster.address]
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        _until(lambda: (there / "metrics.jsonl").exists() and (there / "metrics.jsonl").read_text(), driver)
        os.kill(json.loads((there / "LOCK").read_text())["process"], signal.SIGKILL)
        assert not (there / "DONE").exists()
        assert driver.wait(240) == 0, driver.stderr.read()
    finally:
        driver.kill()
        driver.wait()
    sweep.run(_evaluations(store), tmp_path / "local")
    with np.load(here / "predictions.npz") as local, np.load(there / "predictions.npz") as remote:
        np.testing.assert_array_equal(local["scores"], remote["scores"])
    values = [json.loads((folder / "results.json").read_text())["tasks"] for folder in (here, there)]
    assert values[0] == values[1]


def test_failures_are_listed_with_their_reasons(cluster, store, tmp_path, capsys):
    def run_cell(config, folder):
        if config.seed == 1:
            raise UserError("the training loss is nan at step 3;\nexpected a finite one")
        if config.seed == 3:
            os._exit(1)  # as a crash in compiled code
        stub.run_cell(config, folder)

    with pytest.raises(SystemExit) as ended:
        sweep.run(ray_driver.config(store, cluster.address, **{"ray.restarts": 1}), tmp_path, run_cell)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "seed=1: the training loss is nan at step 3; expected a finite one (2 attempts)" in printed
    assert "seed=3: its worker was lost 2 times (WorkerCrashedError)" in printed
    assert "4 of 6 cells done, 2 failed" in printed
    assert _status(tmp_path)["state"] == "failed"


def test_a_full_disk_stops_the_sweep(cluster, store, tmp_path):
    def run_cell(config, folder):
        raise UserError("metrics.jsonl: no space left to write; free space and start the same command again")

    with pytest.raises(UserError, match="no space left"):
        sweep.run(ray_driver.config(store, cluster.address), tmp_path, run_cell)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token": ".ray-of-another"}, "is not the driver's; expected a --workdir that all nodes share"),
        ({"version": "0"}, "expected 0, as the driver has"),
        ({"folder": "/nowhere"}, "no folder /nowhere, where the driver was started"),
    ],
)
def test_a_node_that_lacks_what_a_task_needs_is_refused(store, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    cells = plan.make(stub.config(store)).cells
    with ray_executor._site(tmp_path / "cells") as site:
        ray_executor._check(site, cells)
        with pytest.raises(UserError, match=message):
            ray_executor._check(site._replace(**change), cells)


def test_without_ray_and_with_another_executor_it_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"config.executor=ray: .*; expected Ray: pip install 'ecgjax\[ray\]'"):
        sweep.run(ray_driver.config(store, None), tmp_path, stub.run_cell)
    with pytest.raises(UserError, match=r"config.executor is 'cloud'; expected one of local, ray"):
        sweep.run(stub.config(store, executor="cloud"), tmp_path, stub.run_cell)
