"""Runs jobs in other processes; one that dies is reported with what it was doing.

Not `concurrent.futures`: its workers outlive a killed parent, and it cannot say which job broke a worker.
"""

import functools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from ecgjax.errors import UserError

Report = Callable[[str, Any], None]
"""Called by a job: `report(kind, value)`; what is reported must be picklable."""

_HEARTBEAT = 0.2
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Any = None
    doing: Any = None


def run(
    function: Callable[[Any, Report], None],
    jobs: Sequence[Any],
    workers: int,
    receive: Callable[[Any, str, Any], None],
    died: Callable[[Any, Any, int | None], Exception],
) -> None:
    """Calls `function(job, report)` for every job.

    Args:
        function: importable by name; it runs in this process if `workers` is 1.
        jobs: picklable; begun in their order.
        workers: number of processes.
        receive: called here as `receive(job, kind, value)` for each report, and with kind "done" after each job.
        died: makes the error of a process that died: of its job, the value that it last reported as "doing", and its
            exit code.

    Raises:
        UserError: one that a job raised; what `receive` raises; what `died` makes. No process is left then.
    """
    if workers == 1 or len(jobs) == 0:
        for job in jobs:
            function(job, functools.partial(receive, job))
            receive(job, "done", None)
        return
    queue = iter(jobs)
    with _started(function, min(workers, len(jobs))) as crew:
        for worker in crew:
            _assign(worker, queue)
        while any(worker.job is not None for worker in crew):
            busy = {worker.connection: worker for worker in crew if worker.job is not None}
            for ready in wait(list(busy), _HEARTBEAT):
                worker = busy[ready]  # type: ignore[index]
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join(5)
                    raise died(worker.job, worker.doing, worker.process.exitcode) from None
                if kind == "user error":
                    raise UserError(value)
                if kind == "error":
                    raise RuntimeError(f"in a worker process:\n{value}")
                if kind == "doing":
                    worker.doing = value
                receive(worker.job, kind, value)
                if kind == "done":
                    _assign(worker, queue)


def default_workers() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _assign(worker: _Worker, queue: Iterator[Any]) -> None:
    worker.job = worker.doing = None
    job = next(queue, None)
    if job is not None:
        worker.job = job
        # A worker that died before it got a job is found by the next `recv`.
        try:
            worker.connection.send(job)
        except OSError:
            return


@contextmanager
def _started(function: Callable[[Any, Report], None], count: int) -> Iterator[list[_Worker]]:
    context = multiprocessing.get_context("spawn")
    crew: list[_Worker] = []
    try:
        with _for_children():
            for _ in range(count):
                here, there = context.Pipe()
                process = context.Process(target=_serve, args=(function, there), daemon=True)
                process.start()
                there.close()
                crew.append(_Worker(process, here))
        yield crew
    finally:
        for worker in crew:
            worker.connection.close()
            worker.process.kill()
        for worker in crew:
            worker.process.join()
            worker.process.close()


@contextmanager
def _for_children() -> Iterator[None]:
    """What processes started here inherit: no interrupts from the keyboard, and one thread for linear algebra each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if main:
            signal.signal(signal.SIGINT, handler)


def _serve(function: Callable[[Any, Report], None], connection: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def report(kind: str, value: Any) -> None:
        connection.send((kind, value))

    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            function(job, report)
            report("done", None)
        except UserError as error:
            report("user error", str(error))
        except BrokenPipeError:
            return
        except BaseException:
            report("error", traceback.format_exc())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
