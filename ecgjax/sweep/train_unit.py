"""Runs the cells of a unit as one program; each ends as `ecgjax.jobs.evaluate` would have ended it alone.

What is shared lies in STORE/.units/NAME until all its cells are done or have failed: unit.json names the cells that the
program has, checkpoints/ holds their state. A cell that is finished, or that another process runs, is left out of a new
program; of one that is continued it stays a part, but nothing is written of it.
"""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from ecgjax import atomic, tasks
from ecgjax.data.batches import evaluation_iterator
from ecgjax.data.cutter import Cutter, Item
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation.labelled import Labelled
from ecgjax.jobs import evaluate_outcome as outcome
from ecgjax.jobs.evaluate_setting import Parts, Subject, check, load, size
from ecgjax.reporting import evaluation_report
from ecgjax.sweep import cell_folder, programs
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.feature_choice import key_of
from ecgjax.sweep.kept_features import Kept
from ecgjax.sweep.units import FOLDER, NOTHING, Keeping, Unit
from ecgjax.training.cached_features import FeatureSource
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog
from ecgjax.training.run_directory import RunDirectory
from ecgjax.training.together import Source, Together

FILE = "unit.json"
KEPT_BYTES = 4 << 30
"""Features of the validation windows that are kept in the host's memory; more are computed again in every epoch."""
SAVE_SECONDS = 60.0
"""Between checkpoints, at ends of epochs: all heads with their moments are some hundred megabytes."""

_PROGRESS_SECONDS = 1.0


class Report(NamedTuple):
    """What is told on the way.

    Attributes:
        finished: a cell is done; its directory is whole.
        failed: a cell failed, others go on.
        progress: (cells that train, steps made, steps of all) of the unit.
    """

    finished: Callable[[Cell], None]
    failed: Callable[[Cell, Exception], None]
    progress: Callable[[int, int, int], None]


@dataclass
class _Run:
    """A cell of the program.

    Attributes:
        cell: see above.
        subject: its model and data, and its directory.
        mine: whether this process writes of it.
        epoch: its best one so far, 0 before the first.
        score: of that.
        logged: losses of this epoch that its log has.
        failure: why it is not trained on, None while it is.
        log: None if not `mine`.
    """

    cell: Cell
    subject: Subject
    mine: bool
    epoch: int = 0
    score: float | None = None
    logged: int = 0
    failure: str | None = None
    log: MetricLog | None = None

    @property
    def live(self) -> bool:
        return self.mine and self.failure is None


@dataclass
class _Unit:
    """The program under way.

    Attributes:
        program: see `Together`.
        state: of it, as it is now.
        source: what items of training are read with.
        batches: Grain iterator of training batches.
        runs: in the program's order.
        total: steps of all epochs.
        steps: of one.
        sharding: of evaluation batches over devices.
        cached: features from the cache, which evaluation reads; None: it reads signals as training does.
        kept: validation batches with their features, None if they are computed anew or `cached`.
        losses: (runs,) of each step of this epoch.
    """

    program: Together
    state: Any
    source: Source
    batches: Any
    runs: list[_Run]
    total: int
    steps: int
    sharding: jax.sharding.Sharding | None = None
    cached: Kept | None = None
    kept: list[tuple[Item, dict[str, Any]]] | None = None
    losses: list[Any] = field(default_factory=list)

    @property
    def data(self) -> Labelled:
        return self.runs[0].subject.data

    @property
    def live(self) -> list[tuple[int, _Run]]:
        return [(i, run) for i, run in enumerate(self.runs) if run.live]


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
        under_way = _begin(unit, wanted, store, report, keeping, interrupt)
        if under_way is None:
            _remove(folder)
            return
        checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints"))
        restored = checkpoints.restore(under_way.state, under_way.batches)
        step = 0 if restored is None else _continue(under_way, restored.state, restored.meta, restored.step, report)
        for run in under_way.runs:
            if run.live:
                run.log = stack.enter_context(MetricLog(run.subject.directory))
                run.log.truncate(step)
        saver = _Saver(checkpoints, step)
        _train(under_way, step, saver, interrupt, report)
        if under_way.live:
            _test(under_way, time.monotonic() - begun, saver, interrupt, report)
    _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other units are there
        folder.parent.rmdir()


class _Saver:
    """Writes checkpoints of a unit, at most one in `SAVE_SECONDS` unless it must."""

    def __init__(self, checkpoints: Checkpoints, step: int) -> None:
        self._checkpoints, self._saved, self._before = checkpoints, step, time.monotonic()

    def save(self, unit: _Unit, step: int, must: bool = False) -> None:
        if step == self._saved or not (must or time.monotonic() - self._before >= SAVE_SECONDS):
            return
        cells = {
            run.cell.name: {name: getattr(run, name) for name in ("epoch", "score", "logged", "failure")}
            for run in unit.runs
        }
        meta = {"cells": cells, "losses": [np.asarray(values).tolist() for values in unit.losses]}
        self._checkpoints.save(step, unit.state, unit.batches, meta=meta, wait=must)
        self._saved, self._before = step, time.monotonic()

    def leave(self, unit: _Unit, step: int, interrupt: Interrupt) -> None:
        """Saves and ends the process."""
        self.save(unit, step, must=True)
        print(f"stopped after step {step} of {unit.total}", file=sys.stderr)
        raise SystemExit(interrupt.exit_code)


def _begin(
    unit: Unit, wanted: set[str], store: Path, report: Report, keeping: Keeping, interrupt: Interrupt
) -> _Unit | None:
    """Sets up the cells' directories and the program: that of the checkpoint, if it has all that are wanted."""
    folder = store / FOLDER / unit.name
    before = _members(folder)
    members = before if wanted <= before else wanted
    parts, runs = Parts(), []
    for cell in unit.cells:
        if cell.name not in members:
            continue
        try:
            runs.append(_Run(cell, _subject(cell, store / cell.name, parts, cell.name in wanted), cell.name in wanted))
        except Exception as error:
            if cell_folder.disk_is_full(error) or cell_folder.out_of_memory(error):
                raise
            if cell.name in wanted:
                report.failed(cell, error)
    if {run.cell.name for run in runs} != before:
        runs = [run for run in runs if run.mine]
        with disk_errors(folder):
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(folder / FILE, {"cells": [run.cell.name for run in runs]})
    if not any(run.mine for run in runs):
        return None
    _check_same_records(runs)
    features: str | Literal[False] | None = keeping.folder if key_of(runs[0].cell) in keeping.families else False
    started = programs.start(unit.kind, [run.subject for run in runs], features, interrupt)
    for run in runs:
        if run.mine:
            with cell_folder.logged(store / run.cell.name):
                print(f"{started.said}, {started.steps} steps in an epoch")
    return _Unit(
        started.program,
        started.program.state,
        started.source,
        started.batches,
        runs,
        runs[0].subject.config.epochs * started.steps,
        started.steps,
        started.sharding,
        started.kept,
    )


def _members(folder: Path) -> set[str]:
    """Names of the cells of the program that has checkpoints there."""
    try:
        return set(json.loads((folder / FILE).read_text(encoding="utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _subject(cell: Cell, folder: Path, parts: Parts, mine: bool) -> Subject:
    config = cell.config()
    head_run, reported = tasks.get(config.task)
    if not mine:
        return load(config, RunDirectory(folder), head_run, reported, parts)
    with cell_folder.logged(folder):
        cell_folder.adopt(folder, config)
        check(config)
        directory = RunDirectory.open(folder, config)
        with directory.setting_up():
            subject = load(config, directory, head_run, reported, parts)
            directory.write_environment(seed=config.seed, data={"fingerprint": subject.data.store.fingerprint})
    return subject


def _check_same_records(runs: Sequence[_Run]) -> None:
    first = runs[0].subject.data.rows
    for run in runs:
        for split, rows in run.subject.data.rows.items():
            if not np.array_equal(rows, first[split]):
                raise ValueError(f"cells {runs[0].cell.name} and {run.cell.name} of one unit: other {split} records")


def _continue(unit: _Unit, state: Any, meta: dict[str, Any], step: int, report: Report) -> int:
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


def _train(unit: _Unit, step: int, saver: _Saver, interrupt: Interrupt, report: Report) -> None:
    told = float("-inf")
    for step in range(step + 1, unit.total + 1):  # noqa: B020
        if not unit.live:
            return
        unit.state, values = unit.program.step(unit.state, unit.source, next(unit.batches))
        unit.losses.append(values)
        epoch, within = divmod(step, unit.steps)
        if within:
            due = [(i, run) for i, run in unit.live if step % run.subject.config.log_every == 0]
            for i, run in due:
                _guarded(run, report, _log, unit, i, run, step)
        else:
            _validate(unit, step, epoch, report)
            saver.save(unit, step)
        if time.monotonic() - told >= _PROGRESS_SECONDS or step == unit.total:
            told = time.monotonic()
            report.progress(len(unit.live), step, unit.total)
        if interrupt.signal is not None and step < unit.total:
            saver.leave(unit, step, interrupt)


def _guarded(run: _Run, report: Report, act: Callable[..., None], *arguments: Any) -> None:
    """What goes wrong with one cell ends that cell only."""
    try:
        act(*arguments)
    except Exception as error:
        if cell_folder.disk_is_full(error) or cell_folder.out_of_memory(error):
            raise
        run.failure = cell_folder.reason(error)
        report.failed(run.cell, error)


def _log(unit: _Unit, i: int, run: _Run, step: int) -> None:
    mean = _mean_loss(unit, i, run, step)
    assert run.log is not None
    run.log.write(step, {"train/loss": mean})
    run.logged = len(unit.losses)


def _mean_loss(unit: _Unit, i: int, run: _Run, step: int) -> float:
    unit.losses = [np.asarray(values) for values in unit.losses]
    return outcome.mean_loss([values[i] for values in unit.losses[run.logged :]], step)


def _validate(unit: _Unit, step: int, epoch: int, report: Report) -> None:
    found = _predicted(unit, "validation", best=False)
    improved = np.zeros(len(unit.runs), bool)

    def one(i: int, run: _Run) -> None:
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


def _predicted(unit: _Unit, split: str, *, best: bool) -> list[tuple[Item, list[tuple[Any, Any]]]]:
    """Batches of a split, each with scores and finiteness of every run."""
    predict = unit.program.predict
    if unit.cached is not None:
        source = unit.cached.source
        return [(_position(item), predict(unit.state, source, item, best)) for item in _items(unit, split)]
    if split == "validation" and unit.kept is None and _fits(unit):
        assert unit.program.features is not None
        unit.kept = [
            (_position(item), jax.device_get(unit.program.features(unit.source, item))) for item in _items(unit, split)
        ]
    if split == "validation" and unit.kept is not None:
        kept = FeatureSource(None, None, on_device=False)
        return [(item, predict(unit.state, kept, features, best)) for item, features in unit.kept]
    return [(_position(item), predict(unit.state, unit.source, item, best)) for item in _items(unit, split)]


def _items(unit: _Unit, split: str) -> Iterator[Item]:
    batch_size = unit.runs[0].subject.config.batch_size
    if unit.cached is not None:
        return unit.cached.evaluation(unit.data.store, unit.data.rows[split], batch_size)
    assert isinstance(unit.source, Cutter)
    return evaluation_iterator(
        unit.data.store, unit.data.rows[split], unit.source, batch_size=batch_size, sharding=unit.sharding
    )


def _position(item: Item) -> Item:
    return {name: np.asarray(item[name]) for name in ("record", "start", "valid")}


def _fits(unit: _Unit) -> bool:
    if unit.program.features is None:
        return False
    assert isinstance(unit.source, Cutter)
    item = next(iter(_items(unit, "validation")))
    shapes = jax.eval_shape(unit.program.features, unit.source, item)
    windows = (unit.data.store.records["samples"].to_numpy()[unit.data.rows["validation"]] // unit.source.window).sum()
    of_one = sum(leaf.size // leaf.shape[0] * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return int(windows) * of_one <= KEPT_BYTES


def _test(unit: _Unit, seconds: float, saver: _Saver, interrupt: Interrupt, report: Report) -> None:
    """Tests the best of each cell, writes its results and DONE."""
    started = time.monotonic()
    found = _predicted(unit, "test", best=True)
    share = (time.monotonic() - started) / len(unit.runs)

    def one(i: int, run: _Run) -> None:
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
