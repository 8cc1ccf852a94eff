"""A progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from ecgjax import distributed
from ecgjax.terminal import TerminalBar

_SECONDS_BETWEEN_LINES = 10.0


class ProgressBar(TerminalBar):
    """Shows step, metrics, rate and time left; use as a context manager.

    Args:
        label: what is running.
        total: number of steps.
        start: steps already done before this process (a resumed run).
        records_per_step: turns the step rate into records/s; None leaves it out.
        stream: where it is shown; standard error by default, so that standard output stays clean.

    Of a run's processes the first shows it.
    """

    def __init__(
        self, label: str, total: int, start: int = 0, records_per_step: int | None = None, stream: TextIO | None = None
    ) -> None:
        self._label, self._total, self._start, self._records = label, total, start, records_per_step
        self._stream, self._shown = stream or sys.stderr, distributed.first()
        self._first: tuple[int, float] | None = None
        self._last_line = float("-inf")
        super().__init__(
            Console(file=self._stream) if self._shown and self._stream.isatty() else None,
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            description=label,
            total=total,
            completed=start,
            text="compiling",
        )

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows `values` after `step` steps; plain lines come at most every ten seconds, and at the end."""
        now = time.monotonic()
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        rate = self._rate(step, now)
        if rate:
            records = "" if self._records is None else f"  {rate * self._records:,.1f} records/s"
            text += f"{records}  ETA {clock((self._total - step) / rate)}"
        if self.move(completed=step, text=text):
            return
        if self._shown and (now - self._last_line >= _SECONDS_BETWEEN_LINES or step == self._total):
            self._last_line = now
            print(f"{self._label}  {step}/{self._total}  {text}", file=self._stream, flush=True)

    def _rate(self, step: int, now: float) -> float | None:
        # The first interval holds the compilation: the clock starts at the first update.
        if self._first is None:
            self._first = (step, now)
        first_step, first_time = self._first
        return (step - first_step) / (now - first_time) if step > first_step and now > first_time else None


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
