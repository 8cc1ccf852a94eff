"""Runs a sweep's units as tasks of a Ray cluster: Ray places them, queues them, and starts lost ones again.

Each task is `runner.run` on the cells of one unit (`ecgjax.sweep.units`) in a worker process of some node. All nodes
see the work directory under one path, or it is in a bucket, and have ecgjax in one version; a task refuses to begin
where that is not so. Locks and checkpoints of the cells do the rest: a unit whose node was lost is continued by another
node (with a bucket, begun again: what was not finished was on the node), and nothing is done twice. What happens in
the tasks reaches the driver's `Status` through a queue on the driver's node.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from ml_collections import ConfigDict

import ecgjax
from ecgjax import host_memory, numerics
from ecgjax.errors import UserError, disk_errors
from ecgjax.sweep import ray_cluster, runner, summary
from ecgjax.sweep.bucket_sweep import BucketSweep
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.status import Status
from ecgjax.sweep.units import NOTHING, Keeping, Unit, units
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.supervised import MODES

_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 2.0
_SECONDS_BETWEEN_PROGRESS = 1.0
_JAX_SETTINGS = ("jax_default_matmul_precision", "jax_compilation_cache_dir")

BucketArguments = tuple[Path | str | None, str | None, str | None]


class _Site(NamedTuple):
    """What every task must find on its node.

    Attributes:
        version: of ecgjax.
        folder: working directory of the driver; relative paths in cells start there.
        store: folder of the cells' directories.
        token: a file in it that the driver wrote.
        bucket: arguments of `BucketSweep`, whose store on the node is used then.
        jax: values of `_JAX_SETTINGS`.
        keeping: what is kept of features; their places are as on the driver's machine.
    """

    version: str
    folder: str
    store: str
    token: str
    bucket: BucketArguments | None
    jax: dict[str, Any]
    keeping: Keeping


def run(
    cells: Sequence[Cell],
    store: Path,
    status: Status,
    *,
    retries: int = 0,
    run_cell: runner.RunCell | None = None,
    placing: ConfigDict,
    bucket: BucketArguments | None = None,
    keeping: Keeping = NOTHING,
) -> None:
    """Runs all cells that are not done; returns when each is done or has failed.

    Args:
        cells: to run.
        store: folder of the cells' directories, on a file system that all nodes share.
        status: kept up to date.
        retries: further attempts at a cell that failed, by the task that has it.
        run_cell: see `runner.run`; importable on the nodes.
        placing: config.ray of a sweep, see `ecgjax.sweep.settings`.
        bucket: arguments of the sweep's `BucketSweep`, if it has one; `store` is then its folder on this machine.
        keeping: see `runner.run`.

    Raises:
        UserError: no Ray, no cluster at the address, a node that lacks what it needs, or the disk is full.
        SystemExit: SIGTERM or Ctrl-C came; the tasks have saved and ended (143 or 130).
    """
    for cell in cells:
        if summary.finished(store / cell.name):
            status.finish(cell, summary.read(store / cell.name))
    left = [cell for cell in cells if cell.name not in status.done]
    if not left:
        return
    ray = ray_cluster.import_ray()
    remote = BucketSweep(*bucket) if bucket else None
    with ray_cluster.connected(ray, placing.address), _site(store, bucket, keeping) as site:
        queue = ray_cluster.queue(ray)
        options = ray_cluster.task_options(ray, placing)
        task = ray.remote(**options)(_run_unit)
        with Interrupt() as interrupt:
            if run_cell is not None:
                planned = tuple(Unit((cell,), "single") for cell in cells)
            elif any(MODES[cell.mode].trains_encoder for cell in left):
                planned = _ask(ray, ray.remote(**options)(_plan).remote(tuple(cells), site), interrupt)
            else:
                planned = units(cells)
            waiting = [unit for unit in planned if any(cell.name not in status.done for cell in unit.cells)]
            pending = {task.remote(unit.cells, site, queue, retries, run_cell): unit for unit in waiting}
            cancelled = float("-inf")
            while pending:
                if interrupt.signal is not None and time.monotonic() - cancelled > _CANCEL_SECONDS:
                    cancelled = time.monotonic()
                    for future in pending:  # repeated, since Ray does not promise that it arrives; see _run_unit
                        ray.cancel(future)
                ended, _ = ray.wait(list(pending), num_returns=len(pending), timeout=_POLL_SECONDS)
                for name, arguments in queue.get_nowait_batch(queue.size()):
                    getattr(status, name)(*arguments)
                status.refresh()  # long cells send nothing for a while
                for future in ended:
                    if remote:
                        remote.refresh([cell.name for cell in pending[future].cells])
                    _settle(ray, future, pending.pop(future), store, status, placing.restarts)
            if interrupt.signal is not None:
                raise SystemExit(interrupt.exit_code)


def _plan(cells: tuple[Cell, ...], site: _Site) -> tuple[Unit, ...]:
    """A task: the units of cells for the devices that a task gets, which decide how many trainings are stacked."""
    from ecgjax.sweep.stacking import stacking

    _check(site, cells)
    return units(cells, stacking=stacking())


def _ask(ray: Any, future: Any, interrupt: Interrupt) -> Any:
    """What a task returns.

    Raises:
        UserError: the task cannot run.
        SystemExit: a signal came meanwhile.
    """
    while not ray.wait([future], timeout=_POLL_SECONDS)[0]:
        if interrupt.signal is not None:
            raise SystemExit(interrupt.exit_code)
    try:
        return ray.get(future)
    except ray.exceptions.RayTaskError as error:
        raise UserError(f"Ray: {_one_line(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise UserError(f"Ray: no worker stays alive ({type(error).__name__}); expected nodes with ecgjax") from error


def _one_line(error: BaseException) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:300]


def _run_unit(
    cells: tuple[Cell, ...], site: _Site, queue: Any, retries: int, run_cell: runner.RunCell | None
) -> dict[str, tuple[str, int]]:
    """The task: reasons and numbers of attempts of the cells that failed. Runs in a worker's main thread."""
    _check(site, cells)
    for name, value in site.jax.items():
        jax.config.update(name, value)
    host_memory.keep_freed()
    reports = _Reports(queue)
    remote = BucketSweep(*site.bucket) if site.bucket else None
    store = remote.store if remote else Path(site.store)
    try:
        runner.run(
            cells, store, cast(Status, reports), retries=retries, run_cell=run_cell, remote=remote, keeping=site.keeping
        )
    except SystemExit as stopped:
        # ray.cancel comes as SIGINT. After a SIGTERM, of a node that is taken away, the worker goes, and Ray starts
        # the task elsewhere.
        if stopped.code != 130:
            raise
    return reports.failures


class _Reports:
    """In a worker, what stands for the driver's `Status`."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._told = float("-inf")
        self.failures: dict[str, tuple[str, int]] = {}

    def start(self, cell: Cell, unit: str | None = None) -> None:
        self._queue.put(("start", (cell, unit)))

    def progress(self, *arguments: Any) -> None:
        """Of many, one in a second is passed on."""
        if time.monotonic() - self._told > _SECONDS_BETWEEN_PROGRESS:
            self._told = time.monotonic()
            self._queue.put(("progress", arguments))

    def finish(self, cell: Cell, summary: Mapping[str, Any], seconds: float | None = None) -> None:
        self.failures.pop(cell.name, None)
        self._queue.put(("finish", (cell, summary, seconds)))

    def fail(self, cell: Cell, reason: str, attempts: int) -> None:
        self.failures[cell.name] = reason, attempts
        self._queue.put(("fail", (cell, reason, attempts)))

    def skip(self, cell: Cell) -> None:
        self._queue.put(("skip", (cell,)))


def _settle(ray: Any, future: Any, unit: Unit, store: Path, status: Status, restarts: int) -> None:
    """Brings the status in line with how a unit ended, whatever was reported of it on the way."""
    failures: dict[str, tuple[str, int]] = {}
    try:
        failures = ray.get(future)
    except ray.exceptions.TaskCancelledError:
        pass
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError):  # of the place, not of a cell
            raise UserError(str(cause)) from error
        failures = {cell.name: (_one_line(cause), 1) for cell in unit.cells}
    except ray.exceptions.RayError as error:
        text = f"its worker was lost {restarts + 1} times ({type(error).__name__}); expected config.ray.restarts to do"
        failures = {cell.name: (text, restarts + 1) for cell in unit.cells}
    for cell in unit.cells:
        status.running.pop(cell.name, None)
        if cell.name not in status.done and summary.finished(store / cell.name):
            status.finish(cell, summary.read(store / cell.name))
        elif cell.name in failures and cell.name not in status.done:
            status.fail(cell, *failures[cell.name])


@contextmanager
def _site(store: Path, bucket: BucketArguments | None = None, keeping: Keeping = NOTHING) -> Iterator[_Site]:
    """Leaves a file in the store, for tasks to see that theirs is the same one."""
    store = store.resolve()
    token = store / f".ray-{uuid.uuid4().hex}"
    with disk_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        token.touch()
    try:
        settings = {name: getattr(jax.config, name) for name in _JAX_SETTINGS}
        yield _Site(ecgjax.__version__, os.getcwd(), str(store), token.name, bucket, settings, keeping)
    finally:
        token.unlink(missing_ok=True)


def _check(site: _Site, cells: Sequence[Cell]) -> None:
    here = f"Ray node {socket.gethostname()}"
    if not site.bucket and not (Path(site.store) / site.token).exists():
        raise UserError(f"{here}: {site.store} is not the driver's; expected a --workdir that all nodes share")
    if ecgjax.__version__ != site.version or any(cell.identity["numerics"] != numerics.VERSION for cell in cells):
        raise UserError(f"{here}: has ecgjax {ecgjax.__version__}; expected {site.version}, as the driver has")
    try:
        os.chdir(site.folder)
    except OSError as error:
        raise UserError(f"{here}: no folder {site.folder}, where the driver was started; expected it there") from error
