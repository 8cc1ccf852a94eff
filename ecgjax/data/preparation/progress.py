"""How far a preparation is: a bar with records/s and time left on a terminal, a line now and then elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ecgjax.terminal import TerminalBar

_SECONDS_BETWEEN_LINES = 30.0


class ReadingProgress(TerminalBar):
    """Counts records; use as a context manager.

    Args:
        total: records of the data set.
        done: records of shards that an earlier attempt finished.

    Attributes:
        done: records so far.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self.done, self._before = total, done, done
        self._begin = self._last_line = time.monotonic()
        super().__init__(
            Console(stderr=True) if sys.stderr.isatty() else None,
            TextColumn("reading"),
            BarColumn(),
            MofNCompleteColumn(),
            _RecordsPerSecond(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rejected]}"),
            transient=True,
            description="",
            total=total,
            completed=done,
            rejected="",
        )

    def advance(self, rejected: int) -> None:
        """One more record was taken up; `rejected` is the number of those left out so far."""
        self.done += 1
        if self.move(advance=1, rejected=f"{rejected:,} rejected" if rejected else ""):
            return
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = (self.done - self._before) / (now - self._begin)
            print(
                f"reading  {self.done:,}/{self._total:,}  {rate:,.0f} records/s  "
                f"ETA {(self._total - self.done) / rate:,.0f} s  {rejected:,} rejected",
                file=sys.stderr,
                flush=True,
            )


class _RecordsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} records/s" if task.speed else "")
