"""Runs exact probes that share an encoder and a store: its features once, then one cell after the other."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ecgjax.jobs import evaluate_exact
from ecgjax.jobs.evaluate_setting import Parts, Subject, announce_data
from ecgjax.reporting import evaluation_report
from ecgjax.sweep import cell_folder
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.feature_choice import key_of
from ecgjax.sweep.train_unit import remove
from ecgjax.sweep.unit_state import Report, subject_of
from ecgjax.sweep.units import FOLDER, Keeping, Unit
from ecgjax.training.interrupt import Interrupt


def run(unit: Unit, cells: Sequence[Cell], store: Path, report: Report, keeping: Keeping) -> None:
    """Fits, tests and writes cells; what fails of one is reported, and the others go on.

    Args:
        unit: an exact one.
        cells: of it, whose directories this process has locked and which are not finished.
        store: folder of the cells' directories.
        report: what is told on the way.
        keeping: what is kept of features; of others they lie in STORE/.units/NAME until the unit is done.

    Raises:
        UserError: the disk is full, or features cannot be kept.
        SystemExit: SIGTERM or Ctrl-C came (143 or 130); features and finished cells are saved.
    """
    kept = key_of(cells[0]) in keeping.families
    own = store / FOLDER / unit.name / evaluate_exact.FEATURES
    parts = Parts()
    subjects: list[tuple[Cell, Subject]] = []

    def guarded(cell: Cell, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if cell_folder.disk_is_full(error) or cell_folder.out_of_memory(error):
                raise
            report.failed(cell, error)

    def load(cell: Cell) -> None:
        subjects.append((cell, subject_of(cell, store / cell.name, parts, True)))

    for cell in cells:
        guarded(cell, partial(load, cell))
    with Interrupt() as interrupt:
        started = time.monotonic()
        if subjects:
            folder = keeping.folder if kept else own
            cache = evaluate_exact.obtain([subject for _, subject in subjects], folder, interrupt)
        share = (time.monotonic() - started) / max(len(subjects), 1)

        def one(cell: Cell, subject: Subject) -> None:
            with cell_folder.logged(subject.directory.path):
                announce_data(subject, f"{len(subject.config.probe.strengths)} strengths")
                print(f"one of {len(subjects)} probes on features from {cache.folder}")
                evaluate_exact.fit(subject, cache, share)
                subject.directory.finish()
                evaluation_report.show(subject.directory.path)
            report.finished(cell)

        for done, (cell, subject) in enumerate(subjects):
            if interrupt.signal is not None:
                raise SystemExit(interrupt.exit_code)
            guarded(cell, partial(one, cell, subject))
            report.progress(len(subjects) - done - 1, done + 1, len(subjects))
    remove(own.parent)
