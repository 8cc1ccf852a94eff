"""Runs a sweep's cells one after the other in this process; leaves to others what they run, and goes on after failures.

A cell's directory is its lock's. Whoever holds it looks again whether the cell is done, so nothing is done twice; a
process that dies loses its locks, and the next one continues its cell from the checkpoint.
"""

import contextlib
import errno
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from ecgjax import atomic
from ecgjax.errors import UserError, disk_errors
from ecgjax.sweep import locks, summary
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.status import Status
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.run_directory import plain

LOG, ERROR = "log.txt", "error.txt"
RunCell = Callable[[ConfigDict, Path], None]
"""Runs an evaluation in a directory, as `ecgjax.jobs.evaluate.run` does."""

_POLL_SECONDS = 2.0
_MOST_REASON = 300


def run(
    cells: Sequence[Cell],
    store: Path,
    status: Status,
    *,
    retries: int = 0,
    run_cell: RunCell | None = None,
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Runs all cells that are not done; returns when each is done or has failed here `retries` + 1 times.

    Args:
        cells: to run.
        store: folder of the cells' directories.
        status: kept up to date.
        retries: further attempts at a cell that failed, after all others had their turn.
        run_cell: what runs a cell; None is `ecgjax.jobs.evaluate.run`.
        poll_seconds: between looks at cells that other processes run.

    Raises:
        UserError: the disk is full, or `store` cannot be used.
        SystemExit: SIGTERM or Ctrl-C came; the cell under way is saved (143 or 130).
    """
    attempts: dict[str, int] = {}
    waiting = []
    for cell in cells:
        if summary.finished(store / cell.name):
            status.finish(cell, summary.read(store / cell.name))
        else:
            waiting.append(cell)
    if not waiting:
        return
    run_cell = run_cell or _evaluate()
    gc.collect()
    gc.freeze()  # what is there now stays; a collection after each cell, which frees its arrays, then costs little
    with Interrupt() as interrupt:
        while waiting:
            later, moved = [], False
            for cell in waiting:
                if interrupt.signal is not None:
                    raise SystemExit(interrupt.exit_code)
                outcome = _attempt(cell, store / cell.name, status, run_cell)
                moved |= outcome is not _ELSEWHERE
                if outcome is _ELSEWHERE:
                    status.skip(cell)
                    later.append(cell)
                elif outcome is not None:
                    attempts[cell.name] = attempts.get(cell.name, 0) + 1
                    status.fail(cell, outcome, attempts[cell.name])
                    if attempts[cell.name] <= retries:
                        later.append(cell)
            waiting = later
            if waiting and not moved:
                _wait(poll_seconds, interrupt)


_ELSEWHERE = "another process runs it"


def _attempt(cell: Cell, folder: Path, status: Status, run_cell: RunCell) -> str | None:
    """None if the cell is done, `_ELSEWHERE`, or why it failed."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locks.held(folder) as mine:
        if not mine:
            return _ELSEWHERE
        if summary.finished(folder):
            status.finish(cell, summary.read(folder))
            return None
        status.start(cell)
        started = time.monotonic()
        resumed = (folder / "config.json").exists()
        try:
            config = cell.config()
            if resumed:
                _adopt(folder / "config.json", config)
            with (
                open(folder / LOG, "a", buffering=1, encoding="utf-8") as log,
                contextlib.redirect_stdout(log),
                contextlib.redirect_stderr(log),
            ):
                run_cell(config, folder)
        except Exception as error:
            if _disk_is_full(error):
                raise
            reason = _reason(error)
            with contextlib.suppress(OSError, UserError):
                atomic.write_text(folder / ERROR, "".join(traceback.format_exception(error)))
            error.__traceback__ = None  # its frames hold the cell's arrays
            return reason
        finally:
            gc.collect()
        (folder / ERROR).unlink(missing_ok=True)
        seconds = time.monotonic() - started
        status.finish(cell, summary.write(folder, None if resumed else round(seconds, 3), _device()), seconds)
        return None


def _adopt(path: Path, config: ConfigDict) -> None:
    """Makes the config of an unfinished cell this sweep's: of cells with one name, only paths can differ."""
    atomic.write_json(path, plain(config))


def _reason(error: Exception) -> str:
    """One line."""
    text = " ".join(str(error).split())
    if "RESOURCE_EXHAUSTED" in text:
        text = f"out of memory: {text}"
    elif not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MOST_REASON else text[: _MOST_REASON - 3] + "..."


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, UserError) and "no space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _wait(seconds: float, interrupt: Interrupt) -> None:
    until = time.monotonic() + seconds
    while interrupt.signal is None and time.monotonic() < until:
        time.sleep(min(0.1, seconds))


def _evaluate() -> RunCell:
    # Imported where something is to be done: that a sweep is done already is said without it.
    from ecgjax.jobs import evaluate

    return evaluate.run


def _device() -> str:
    import jax

    return jax.devices()[0].device_kind
