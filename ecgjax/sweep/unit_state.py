"""What a unit's program and its cells are while they are trained, and how they begin; see `train_unit`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ecgjax import atomic, tasks
from ecgjax.data.cutter import Item
from ecgjax.errors import disk_errors
from ecgjax.jobs.evaluate_setting import Parts, Subject, check, load
from ecgjax.sweep import cell_folder, programs
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.feature_choice import key_of
from ecgjax.sweep.kept_features import Kept
from ecgjax.sweep.units import FOLDER, Keeping, Unit
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog
from ecgjax.training.run_directory import RunDirectory
from ecgjax.training.together import Source, Together

FILE = "unit.json"


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
class Run:
    """A cell of the program.

    Attributes:
        cell: see above.
        subject: its model and data, and its directory.
        steps: of an epoch; the program's epochs may be longer, and the cell waits for their end.
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
    steps: int
    epoch: int = 0
    score: float | None = None
    logged: int = 0
    failure: str | None = None
    log: MetricLog | None = None

    @property
    def live(self) -> bool:
        return self.mine and self.failure is None

    def at(self, step: int, steps: int) -> int:
        """Its own steps by a step of the program, whose epochs have `steps`."""
        epoch, within = divmod(step, steps)
        return epoch * self.steps + min(within, self.steps)


@dataclass
class UnderWay:
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
        kept: validation batches with their features, None if they are computed anew, or `cached`.
        losses: (runs,) of each step of this epoch.
    """

    program: Together
    state: Any
    source: Source
    batches: Any
    runs: list[Run]
    total: int
    steps: int
    sharding: jax.sharding.Sharding | None = None
    cached: Kept | None = None
    kept: list[tuple[Item, dict[str, Any]]] | None = None
    losses: list[Any] = field(default_factory=list)

    @property
    def live(self) -> list[tuple[int, Run]]:
        return [(i, run) for i, run in enumerate(self.runs) if run.live]


def begin(
    unit: Unit, wanted: set[str], store: Path, report: Report, keeping: Keeping, interrupt: Interrupt
) -> UnderWay | None:
    """Sets up the cells' directories and the program: that of the checkpoint, if it has all that are wanted."""
    folder = store / FOLDER / unit.name
    before = _members(folder)
    members = before if wanted <= before else wanted
    parts, runs = Parts(), []
    for cell in unit.cells:
        if cell.name not in members:
            continue
        try:
            subject = subject_of(cell, store / cell.name, parts, cell.name in wanted)
            steps = len(subject.data.rows["train"]) // subject.config.batch_size
            runs.append(Run(cell, subject, cell.name in wanted, steps))
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
    kinds = keeping.families.get(key_of(runs[0].cell), ())
    started = programs.start(unit.kind, [run.subject for run in runs], kinds, keeping.folder, interrupt)
    for run in runs:
        if run.mine:
            with cell_folder.logged(store / run.cell.name):
                print(f"{started.said}, {run.steps} steps in an epoch")
    return UnderWay(
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


def subject_of(cell: Cell, folder: Path, parts: Parts, mine: bool) -> Subject:
    """What a cell evaluates on what; where this process writes of it, its directory is set up too.

    Raises:
        UserError: as the evaluation alone would.
    """
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
