"""The bar behind a progress display: it is there on a terminal only, where a display shows no lines of its own."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn


class TerminalBar:
    """Shows one rich bar from entering to leaving; without a console it shows nothing. Displays build on it.

    Args:
        console: the terminal; None where there is none.
        columns: of the bar.
        transient: whether the bar goes when it is left.
        redirect: whether what is printed meanwhile goes above the bar.
        task: what rich's `add_task` takes: description, total, completed, and the columns' own fields.
    """

    def __init__(
        self,
        console: Console | None,
        *columns: ProgressColumn,
        transient: bool = False,
        redirect: bool = True,
        **task: Any,
    ) -> None:
        self._bar: Progress | None = None
        if console is not None:
            self._bar = Progress(
                *columns, console=console, transient=transient, redirect_stdout=redirect, redirect_stderr=redirect
            )
            self._task = self._bar.add_task(**task)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def shown(self) -> bool:
        """Whether there is a terminal."""
        return self._bar is not None

    def move(self, **changes: Any) -> bool:
        """Changes what rich's `update` takes; False without a bar, where a display may print a line."""
        if self._bar is None:
            return False
        self._bar.update(self._task, **changes)
        return True
