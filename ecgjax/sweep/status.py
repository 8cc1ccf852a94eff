"""How a sweep stands: counted, estimated, shown on a terminal, and written to status.json.

status.json:

    state       "running", "stopped" (by a signal), "failed" (ended with cells that are not done) or "done"
    shard       "I/N"
    cells       all; done, running, failed, elsewhere (another process runs them), left (neither done nor failed)
    running     name and point of each cell that this process runs (or its Ray tasks do)
    eta         seconds left, from cells of the same model and mode that ended here, or from a unit under way; null
                before there is one
    heads_per_second  cells that units under way train in a second, whole trainings; null if there is none
    per_hour    cells that ended here per hour, of each cell's own time
    best        head run -> cell, point, validation score of its best checkpoint: the best by validation so far
    failures    cell, point, reason, attempts
    updated     when this was written, UTC
"""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from ecgjax import atomic
from ecgjax.sweep.cells import Cell
from ecgjax.terminal import TerminalBar
from ecgjax.training.progress import clock

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FILES = 1.0


class Status:
    """The state of a sweep in this process.

    Args:
        cells: of this process's shard.
        file: status.json.
        shard: "I/N".
        stream: where progress is shown; standard error by default.

    Attributes:
        cells: by name.
        done: summary.json of each cell that is done, by its name.
        running: cells that run now, by name.
        elsewhere: names of cells that another process runs.
        failures: reason and number of attempts of each cell that failed.
    """

    def __init__(self, cells: Sequence[Cell], file: Path, shard: str = "1/1", stream: TextIO | None = None) -> None:
        self.cells, self._file, self._shard = {cell.name: cell for cell in cells}, file, shard
        self.done: dict[str, Mapping[str, Any]] = {}
        self.elsewhere: set[str] = set()
        self.failures: dict[str, tuple[str, int]] = {}
        self.running: dict[str, Cell] = {}
        self._programs: dict[str, str] = {}  # of each cell that runs, the unit it is in
        self._progress: dict[str, _Progress] = {}
        self._started = False  # nothing is shown of a sweep that is done already
        self._best: dict[str, tuple[float, Cell]] = {}
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._stream = stream or sys.stderr
        self._last_file = self._last_line = float("-inf")
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()
        console = Console(file=self._stream) if self._stream.isatty() else None
        self._bar = TerminalBar(console, *columns, redirect=False, description="sweep", total=len(self.cells), text="")

    def __enter__(self) -> "Status":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)
        ended = "done" if len(self.done) == len(self.cells) else "failed"
        self.write("stopped" if kind is not None and issubclass(kind, SystemExit | KeyboardInterrupt) else ended)

    def start(self, cell: Cell, unit: str | None = None) -> None:
        """A cell begins here, alone or in a unit."""
        self.running[cell.name], self._started = cell, True
        self._programs[cell.name] = unit or cell.name
        self._progress.pop(unit or cell.name, None)
        self.elsewhere.discard(cell.name)
        self._show()

    def finish(self, cell: Cell, summary: Mapping[str, Any], seconds: float | None = None) -> None:
        """A cell is done: here in `seconds`, or before or elsewhere."""
        self.running.pop(cell.name, None)
        self.done[cell.name] = summary
        self.elsewhere.discard(cell.name)
        self.failures.pop(cell.name, None)
        if seconds is not None:
            self._seconds[cell.model, cell.mode].append(seconds)
        score, run = summary["validation"], cell.identity["run"]["name"]
        if score is not None and (run not in self._best or score > self._best[run][0]):
            self._best[run] = score, cell
        self._show()

    def fail(self, cell: Cell, reason: str, attempts: int) -> None:
        """A cell failed."""
        self.running.pop(cell.name, None)
        self.failures[cell.name] = reason, attempts
        self._show()

    def skip(self, cell: Cell) -> None:
        """Another process runs the cell."""
        self.elsewhere.add(cell.name)
        self._show()

    def progress(self, unit: str, cells: int, step: int, steps: int) -> None:
        """A unit trains so many cells, and has made `step` of `steps` steps."""
        first = self._progress[unit].first if unit in self._progress else (step, time.monotonic())
        self._progress[unit] = _Progress(cells, first, (step, time.monotonic()), steps)
        self._show()

    def refresh(self) -> None:
        """Shows and writes what has changed, if it is time."""
        self._show()

    def eta(self) -> float | None:
        """Seconds left, if as many programs run at once as do now.

        A cell takes as long as those of its model and mode did on average, else as all did; a cell of a unit counts
        with its share of the unit.
        """
        shares = [found.left + found.spent for found in self._under_way()]
        known = [seconds for found in self._seconds.values() for seconds in found] or shares
        if not known:
            return None
        overall = sum(known) / len(known)
        total = 0.0
        for name, cell in self.cells.items():
            if name not in self.done and name not in self.failures:
                unit = self._progress.get(self._programs[name]) if name in self.running else None
                found = self._seconds.get((cell.model, cell.mode))
                if unit is not None and unit.rate:
                    total += unit.left
                else:
                    total += sum(found) / len(found) if found else overall
        return total / max(len({self._programs[name] for name in self.running}), 1)

    def _under_way(self) -> list["_Progress"]:
        units = {self._programs[name] for name in self.running}
        return [found for unit, found in self._progress.items() if unit in units and found.rate]

    def as_dict(self, state: str = "running") -> dict[str, Any]:
        """Content of status.json."""
        known = [seconds for found in self._seconds.values() for seconds in found]
        return {
            "state": state,
            "shard": self._shard,
            "cells": {"all": len(self.cells), **self._counts()},
            "running": [{"cell": name, "point": cell.point} for name, cell in self.running.items()],
            "eta": self.eta(),
            "per_hour": round(3600 * len(known) / sum(known), 1) if known and sum(known) else None,
            "heads_per_second": self._heads_per_second(),
            "best": {
                run: {"cell": cell.name, "point": cell.point, "validation": score}
                for run, (score, cell) in self._best.items()
            },
            "failures": [
                {"cell": name, "point": self.cells[name].point, "reason": reason, "attempts": attempts}
                for name, (reason, attempts) in self.failures.items()
            ],
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def write(self, state: str = "running") -> None:
        """Writes status.json."""
        atomic.write_json(self._file, self.as_dict(state))

    def _heads_per_second(self) -> float | None:
        found = self._under_way()
        return round(sum(unit.cells * unit.rate / unit.steps for unit in found), 4) if found else None

    def _counts(self) -> dict[str, int]:
        done, failed = len(self.done), len(self.failures)
        counts = {"done": done, "running": len(self.running), "failed": failed, "elsewhere": len(self.elsewhere)}
        return {**counts, "left": len(self.cells) - done - failed}

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last_file >= _SECONDS_BETWEEN_FILES:
            self._last_file = now
            self.write()
        last = len(self.done) + len(self.failures) == len(self.cells)
        if self._bar.shown:
            self._bar.move(completed=len(self.done), text=self._text())
        elif self._started and (last or now - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = now
            print(f"sweep  {len(self.done)}/{len(self.cells)}  {self._text()}", file=self._stream, flush=True)

    def _text(self) -> str:
        counts = self._counts()
        parts = [f"{counts[key]} {key}" for key in ("failed", "elsewhere") if counts[key]]
        eta = self.eta()
        parts += [f"ETA {clock(eta)}"] if eta else []
        if len(self.running) == 1:
            parts.append(f"now {title(*self.running.values())}")
        elif self.running:
            parts.append(f"{len(self.running)} running")
        under_way = self._under_way()
        if len(under_way) == 1:
            parts.append(f"step {under_way[0].last[0]}/{under_way[0].steps}")
        if under_way:
            parts.append(f"{self._heads_per_second():.3g} heads/s")
        if self._best:
            run, (score, cell) = next(reversed(self._best.items()))
            parts.append(f"best {run} {score:.3f} (validation) {cell.model} {cell.mode}")
        return "  ".join(parts)


class _Progress(NamedTuple):
    """Of a unit: cells that train; step and time when this was first told, and last; steps of all."""

    cells: int
    first: tuple[int, float]
    last: tuple[int, float]
    steps: int

    @property
    def rate(self) -> float:
        """Steps per second, 0 if not known yet."""
        steps, seconds = (last - first for first, last in zip(self.first, self.last, strict=True))
        return steps / seconds if seconds else 0.0

    @property
    def left(self) -> float:
        """Seconds left, of one cell's share."""
        return (self.steps - self.last[0]) / self.rate / max(self.cells, 1)

    @property
    def spent(self) -> float:
        """Seconds that the steps made took, of one cell's share."""
        return self.last[0] / self.rate / max(self.cells, 1)


def title(cell: Cell) -> str:
    """A cell in a few words: what it is, then the rest of its point."""
    rest = (
        f"{field.rpartition('.')[2]}={value}"
        for field, value in cell.point.items()
        if field not in ("model", "task", "mode")
    )
    return " ".join((cell.model, cell.mode, cell.identity["run"]["name"], *rest))
