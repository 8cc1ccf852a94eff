"""Runs a sweep's units one after the other in this process; leaves to others what they run, goes on after failures.

A cell's directory is its lock's. Whoever holds it looks again whether the cell is done, so nothing is done twice; a
process that dies loses its locks, and the next one continues its cells from the checkpoint. A unit that is too large
for the memory is split into halves, and these again, down to single cells.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from ecgjax.errors import disk_errors
from ecgjax.sweep import feature_choice, locks, summary
from ecgjax.sweep.bucket_sweep import BucketSweep
from ecgjax.sweep.cell_folder import ERROR, LOG, adopt, disk_is_full, logged, out_of_memory, write_error
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.stacking import stacking
from ecgjax.sweep.status import Status
from ecgjax.sweep.units import FOLDER as UNITS
from ecgjax.sweep.units import NOTHING, Keeping, Unit, units
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.supervised import MODES

__all__ = ["ERROR", "LOG", "RunCell", "run"]

RunCell = Callable[[ConfigDict, Path], None]
"""Runs an evaluation in a directory, as `ecgjax.jobs.evaluate.run` does."""

_POLL_SECONDS = 2.0


def run(
    cells: Sequence[Cell],
    store: Path,
    status: Status,
    *,
    retries: int = 0,
    run_cell: RunCell | None = None,
    remote: BucketSweep | None = None,
    keeping: Keeping = NOTHING,
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Runs all cells that are not done; returns when each is done or has failed here `retries` + 1 times.

    Args:
        cells: to run.
        store: folder of the cells' directories.
        status: kept up to date.
        retries: further attempts at a cell that failed, after all others had their turn.
        run_cell: what runs a cell, one at a time; None: units are run as one program, and cells that are alone by
            `ecgjax.jobs.evaluate.run`.
        remote: the bucket that finished cells go to, and may have come to from other machines.
        keeping: what is kept of features; a single cell whose features are kept runs as a program of one head.
        poll_seconds: between looks at cells that other processes run.

    Raises:
        UserError: the disk is full, or `store` cannot be used.
        SystemExit: SIGTERM or Ctrl-C came; the cells under way are saved (143 or 130).
    """
    left = {}
    for cell in cells:
        if summary.finished(store / cell.name):
            status.finish(cell, summary.read(store / cell.name))
        else:
            left[cell.name] = retries
    if not left:
        return
    if run_cell is None:
        fused = units(cells, stacking=stacking(), pool=partial(_pool, keeping))
        planned = [_fed(unit, keeping) for unit in fused]
    else:
        planned = [Unit((cell,), "single") for cell in cells]
    waiting = [unit for unit in planned if any(cell.name in left for cell in unit.cells)]
    run_cell = run_cell or _evaluate()
    gc.collect()
    gc.freeze()  # what is there now stays; a collection after each cell, which frees its arrays, then costs little
    with Interrupt() as interrupt:
        sweep = _Sweep(store, status, retries, left, run_cell, remote, keeping)
        while waiting:
            later, moved = [], False
            while waiting:
                if interrupt.signal is not None:
                    raise SystemExit(interrupt.exit_code)
                unit = waiting.pop(0)
                did = sweep.attempt(unit)
                moved |= did != _ELSEWHERE
                if did == _TOO_LARGE:
                    waiting = [*(half for half in unit.halves() if sweep.left(half)), *waiting]
                elif sweep.left(unit):
                    later.append(unit)
            waiting = later
            if waiting and not moved:
                _wait(poll_seconds, interrupt)


_ELSEWHERE, _TOO_LARGE, _TRIED = "another process runs it", "out of memory", "tried"


class _Sweep:
    """What attempts at units have in common.

    Args:
        store: see `run`.
        status: likewise.
        retries: likewise.
        open_cells: names of the cells that are to be done, with the retries left; kept up to date.
        run_cell: see `run`.
        remote: likewise.
        keeping: likewise.
    """

    def __init__(
        self,
        store: Path,
        status: Status,
        retries: int,
        open_cells: dict[str, int],
        run_cell: RunCell,
        remote: BucketSweep | None,
        keeping: Keeping,
    ) -> None:
        self._store, self._status, self._retries, self._run_cell = store, status, retries, run_cell
        self._open, self._remote, self._keeping = open_cells, remote, keeping

    def left(self, unit: Unit) -> list[Cell]:
        """Cells of a unit that are still to be done."""
        return [cell for cell in unit.cells if cell.name in self._open]

    def attempt(self, unit: Unit) -> str:
        """Runs what is left of a unit: `_ELSEWHERE` if others run all of it, `_TOO_LARGE`, or `_TRIED`."""
        with contextlib.ExitStack() as stack:
            mine = []
            if unit.kind == "single" or self._hold(stack, self._store / UNITS / unit.name):
                mine = [cell for cell in self.left(unit) if self._hold(stack, self._store / cell.name)]
            for cell in self.left(unit):
                if cell not in mine:
                    self._status.skip(cell)
            if not mine:
                return _ELSEWHERE
            if self._remote is not None:
                self._remote.refresh([cell.name for cell in mine])
            cells = []
            for cell in mine:
                if summary.finished(self._store / cell.name):
                    self._done(cell, summary.read(self._store / cell.name), None)
                else:
                    cells.append(cell)
            if not cells:
                return _TRIED
            return self._alone(*cells) if unit.kind == "single" else self._together(unit, cells)

    def _hold(self, stack: contextlib.ExitStack, folder: Path) -> bool:
        """Whether the folder's lock was free; it is held as long as the stack."""
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(locks.held(folder))

    def _alone(self, cell: Cell) -> str:
        folder, started = self._store / cell.name, time.monotonic()
        self._status.start(cell)
        try:
            config = cell.config()
            resumed = adopt(folder, config)
            with logged(folder):
                self._run_cell(config, folder)
        except Exception as error:
            if disk_is_full(error):
                raise
            self._failed(cell, error)
            return _TRIED
        finally:
            gc.collect()
        self._finished(cell, None if resumed else time.monotonic() - started, time.monotonic() - started)
        return _TRIED

    def _together(self, unit: Unit, cells: list[Cell]) -> str:
        from ecgjax.sweep import exact_unit, train_unit

        started, tried = time.monotonic(), {cell.name for cell in cells}
        resumed = {cell.name for cell in cells if (self._store / cell.name / "config.json").exists()}

        def finished(cell: Cell) -> None:
            tried.discard(cell.name)
            share = (time.monotonic() - started) / len(cells)
            self._finished(cell, None if cell.name in resumed else share, share)

        def failed(cell: Cell, error: Exception) -> None:
            tried.discard(cell.name)
            self._failed(cell, error)

        for cell in cells:
            self._status.start(cell, unit.name)
        report = train_unit.Report(finished, failed, partial(self._status.progress, unit.name))
        try:
            together = exact_unit.run if unit.kind == "exact" else train_unit.run
            together(unit, cells, self._store, report, self._keeping)
        except Exception as error:
            if disk_is_full(error):
                raise
            if out_of_memory(error) and len(unit.cells) > 1:
                error.__traceback__ = None  # its frames hold the arrays that were too many
                return _TOO_LARGE
            for cell in cells:
                if cell.name in tried:
                    self._failed(cell, error)
        finally:
            gc.collect()
        return _TRIED

    def _finished(self, cell: Cell, measured: float | None, seconds: float) -> None:
        folder = self._store / cell.name
        (folder / ERROR).unlink(missing_ok=True)
        found = summary.write(folder, measured and round(measured, 3), _device())
        if self._remote is not None:
            self._remote.publish(cell.name)
            found = summary.read(folder)  # another machine may have been first
        self._done(cell, found, seconds)

    def _done(self, cell: Cell, found: dict[str, object], seconds: float | None) -> None:
        self._open.pop(cell.name, None)
        self._status.finish(cell, found, seconds)

    def _failed(self, cell: Cell, error: Exception) -> None:
        attempt = self._retries - self._open[cell.name] + 1
        self._status.fail(cell, write_error(self._store / cell.name, error), attempt)
        self._open[cell.name] -= 1
        if self._open[cell.name] < 0:
            del self._open[cell.name]


def _fed(unit: Unit, keeping: Keeping) -> Unit:
    if unit.kind != "single" or not _kept(keeping, unit.cells[0]):
        return unit
    return Unit(unit.cells, "exact" if MODES[unit.cells[0].mode].exact else "fused")


def _pool(keeping: Keeping, cell: Cell) -> str | None:
    """Linear heads are fed together whatever their seeds and shares of the records: pooled features are small.

    Attention heads are not, as each would need a batch of token sequences, and nothing would be shared.
    """
    return cell.pool if MODES[cell.mode].head == "linear" and _kept(keeping, cell) else None


def _kept(keeping: Keeping, cell: Cell) -> bool:
    return bool(keeping.families) and feature_choice.key_of(cell) in keeping.families


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
