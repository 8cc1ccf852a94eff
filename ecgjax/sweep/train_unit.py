"""Runs the cells of a unit as one program; each ends as `ecgjax.jobs.evaluate` would have ended it alone.

What is shared lies in STORE/.units/NAME until all its cells are done or have failed: unit.json names the cells that the
program has, checkpoints/ holds their state. A cell that is finished, or that another process runs, is left out of a new
program; of one that is continued it stays a part, but nothing is written of it.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ecgjax.errors import UserError
from ecgjax.jobs import evaluate_outcome as outcome
from ecgjax.jobs.evaluate_setting import size
from ecgjax.reporting import evaluation_report
from ecgjax.sweep import cell_folder
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.unit_scores import predicted
from ecgjax.sweep.unit_state import Report, Run, UnderWay, begin
from ecgjax.sweep.units import FOLDER, NOTHING, Keeping, Unit
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog

__all__ = ["Report", "run"]

SAVE_SECONDS = 60.0
"""Between checkpoints, at ends of epochs: all heads with their moments are some hundred megabytes."""

_PROGRESS_SECONDS = 1.0


def run(unit: Unit, cells: Sequence[Cell], store: Path, report: Report, keeping: Keeping = NOTHING) -> None:
    """Trains, tests and writes cells; what fails of one is reported, and the others go on.

    Args:
        unit: fused or stacked.
        cells: of it, whose directories this process has locked and which are not finished.
        store: folder of the cells' directories.
        report: what is told on the way.
        keeping: what is kept of features.

    Raises:
        UserError: the disk is full, or features cannot be kept.
        SystemExit: SIGTERM or Ctrl-C came and everything is saved (143 or 130).
    """
    folder = store / FOLDER / unit.name
    wanted = {cell.name for cell in cells}
    with Interrupt() as interrupt, ExitStack() as stack:
        begun = time.monotonic()
        under_way = begin(unit, wanted, store, report, keeping, interrupt)
        if under_way is None:
            remove(folder)
            return
        checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints"))
        restored = checkpoints.restore(under_way.state, under_way.batches)
        step = 0 if restored is None else _continue(under_way, restored.state, restored.meta, restored.step, report)
        for run in under_way.runs:
            if run.live:
                run.log = stack.enter_context(MetricLog(run.subject.directory))
                run.log.truncate(run.at(step, under_way.steps))
        saver = _Saver(checkpoints, step)
        _train(under_way, step, saver, interrupt, report)
        if under_way.live:
            _test(under_way, time.monotonic() - begun, saver, interrupt, report)
    remove(folder)


def remove(folder: Path) -> None:
    """Removes what cells of a unit shared."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other units are there
        folder.parent.rmdir()


class _Saver:
    """Writes checkpoints of a unit, at most one in `SAVE_SECONDS` unless it must."""

    def __init__(self, checkpoints: Checkpoints, step: int) -> None:
        self._checkpoints, self._saved, self._before = checkpoints, step, time.monotonic()

    def save(self, unit: UnderWay, step: int, must: bool = False) -> None:
        if step == self._saved or not (must or time.monotonic() - self._before >= SAVE_SECONDS):
            return
        cells = {
            run.cell.name: {name: getattr(run, name) for name in ("epoch", "score", "logged", "failure")}
            for run in unit.runs
        }
        meta = {"cells": cells, "losses": [np.asarray(values).tolist() for values in unit.losses]}
        self._checkpoints.save(step, unit.state, unit.batches, meta=meta, wait=must)
        self._saved, self._before = step, time.monotonic()

    def leave(self, unit: UnderWay, step: int, interrupt: Interrupt) -> None:
        """Saves and ends the process."""
        self.save(unit, step, must=True)
        print(f"stopped after step {step} of {unit.total}", file=sys.stderr)
        raise SystemExit(interrupt.exit_code)


def _continue(unit: UnderWay, state: Any, meta: dict[str, Any], step: int, report: Report) -> int:
    unit.state, unit.losses = state, [np.asarray(values, np.float32) for values in meta["losses"]]
    for run in unit.runs:
        for name, value in meta["cells"][run.cell.name].items():
            setattr(run, name, value)
        if run.mine and run.failure is not None:
            report.failed(run.cell, UserError(run.failure))
        if run.live:
            with cell_folder.logged(run.subject.directory.path):
                print(f"continuing after step {step} of {unit.total}")
    return step


def _train(unit: UnderWay, step: int, saver: _Saver, interrupt: Interrupt, report: Report) -> None:
    told = float("-inf")
    for step in range(step + 1, unit.total + 1):  # noqa: B020
        if not unit.live:
            return
        unit.state, values = unit.program.step(unit.state, unit.source, next(unit.batches))
        unit.losses.append(values)
        epoch, within = divmod(step, unit.steps)
        if within:
            for i, run in unit.live:
                own = run.at(step, unit.steps)
                if within < run.steps and own % run.subject.config.log_every == 0:
                    _guarded(run, report, _log, unit, i, run, own)
        else:
            _validate(unit, epoch, report)
            saver.save(unit, step)
        if time.monotonic() - told >= _PROGRESS_SECONDS or step == unit.total:
            told = time.monotonic()
            report.progress(len(unit.live), step, unit.total)
        if interrupt.signal is not None and step < unit.total:
            saver.leave(unit, step, interrupt)


def _guarded(run: Run, report: Report, act: Callable[..., None], *arguments: Any) -> None:
    """What goes wrong with one cell ends that cell only."""
    try:
        act(*arguments)
    except Exception as error:
        if cell_folder.disk_is_full(error) or cell_folder.out_of_memory(error):
            raise
        run.failure = cell_folder.reason(error)
        report.failed(run.cell, error)


def _log(unit: UnderWay, i: int, run: Run, step: int) -> None:
    mean = _mean_loss(unit, i, run, step)
    assert run.log is not None
    run.log.write(step, {"train/loss": mean})
    run.logged = len(unit.losses)


def _mean_loss(unit: UnderWay, i: int, run: Run, step: int) -> float:
    unit.losses = [np.asarray(values) for values in unit.losses]
    return outcome.mean_loss([values[i] for values in unit.losses[run.logged : run.steps]], step)


def _validate(unit: UnderWay, epoch: int, report: Report) -> None:
    found = predicted(unit, "validation", best=False)
    improved = np.zeros(len(unit.runs), bool)

    def one(i: int, run: Run) -> None:
        step = epoch * run.steps
        mean = _mean_loss(unit, i, run, step)
        scores = outcome.gather(run.subject.data, "validation", ((item, *each[i]) for item, each in found))
        values = outcome.validate(run.subject, scores, step)
        assert run.log is not None
        run.log.write(step, {"epoch": epoch, "train/loss": mean, **values})
        if run.score is None or values["validation/score"] > run.score:
            run.epoch, run.score, improved[i] = epoch, values["validation/score"], True

    for i, run in unit.live:
        _guarded(run, report, one, i, run)
    if improved.any():
        unit.state = unit.program.keep(unit.state, improved)
    unit.losses = []
    for run in unit.runs:
        run.logged = 0


def _test(unit: UnderWay, seconds: float, saver: _Saver, interrupt: Interrupt, report: Report) -> None:
    """Tests the best of each cell, writes its results and DONE."""
    started = time.monotonic()
    found = predicted(unit, "test", best=True)
    share = (time.monotonic() - started) / len(unit.runs)

    def one(i: int, run: Run) -> None:
        subject, folder = run.subject, run.subject.directory.path
        started = time.monotonic() - share
        scores = outcome.gather(subject.data, "test", ((item, *each[i]) for item, each in found))
        parts = unit.program.one(unit.state, i)
        frozen = 0 if "encoder" in parts["params"] else size(subject.model.variables["params"])
        trained = size(parts["params"])
        with cell_folder.logged(folder):
            outcome.write(
                subject,
                scores,
                best={"epoch": run.epoch, "score": run.score},
                parameters={"trained": trained, "total": trained + frozen},
                training_seconds=seconds / len(unit.runs),
                started=started,
            )
            outcome.save_weights(subject, parts["params"], parts["rest"])
            subject.directory.finish()
            evaluation_report.show(folder)
        report.finished(run.cell)

    for i, run in unit.live:
        if interrupt.signal is not None:
            saver.leave(unit, unit.total, interrupt)
        _guarded(run, report, one, i, run)
