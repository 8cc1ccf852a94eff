"""Progress of a download: a bar on a terminal, a line every half minute elsewhere."""

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ecgjax.terminal import TerminalBar

_SECONDS_BETWEEN_LINES = 30.0


class Display(TerminalBar):
    """Counts bytes and files from any thread; use as a context manager.

    Args:
        label: what is going on.
        console: where it is shown.
        files: how many there are.
        size: bytes in all, or None where the publisher does not say.
    """

    def __init__(self, label: str, console: Console, files: int, size: int | None) -> None:
        self._label, self._console, self._files, self._size = label, console, files, size
        self._lock = threading.Lock()
        self._done_files = self._done_bytes = 0
        self._began = self._last_line = time.monotonic()
        super().__init__(
            console if console.is_terminal else None,
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            description=label,
            total=size,
            files=self._count(),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is None and self._bar is None:
            self._line()

    def bytes(self, count: int) -> None:
        """More bytes are there; fewer, if negative."""
        with self._lock:
            self._done_bytes += count
            if self.move(completed=self._done_bytes):
                return
            if time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
                self._line()

    def file(self) -> None:
        """One more file is complete."""
        with self._lock:
            self._done_files += 1
            # Without published sizes the mean of the files so far foretells the rest.
            total = self._size or round(self._done_bytes / self._done_files * self._files)
            self.move(files=self._count(), total=total)

    def _count(self) -> str:
        return f"{self._done_files:,}/{self._files:,} files"

    def _line(self) -> None:
        self._last_line = time.monotonic()
        seconds = max(self._last_line - self._began, 1e-3)
        size = "" if self._size is None else f" of {in_words(self._size)}"
        done = self._done_bytes / self._size if self._size else self._done_files / max(self._files, 1)
        left = f", {seconds / done - seconds:,.0f} s left" if 0 < done < 1 else ""
        say(
            self._console,
            f"{self._label}: {self._count()}, {in_words(self._done_bytes)}{size}, "
            f"{in_words(self._done_bytes / seconds)}/s{left}",
        )


def say(console: Console, text: str) -> None:
    """Prints one line as it is: file names are no markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def in_words(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if abs(size) < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
