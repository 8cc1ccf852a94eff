"""What a sweep keeps in a cell's directory beside the evaluation's own files: log.txt and error.txt."""

import contextlib
import errno
import traceback
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from ecgjax import atomic
from ecgjax.errors import UserError
from ecgjax.training.run_directory import plain

LOG, ERROR = "log.txt", "error.txt"
_MOST_REASON = 300


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[None]:
    """What is printed goes to the cell's log.txt."""
    with (
        open(folder / LOG, "a", buffering=1, encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def adopt(folder: Path, config: ConfigDict) -> bool:
    """Makes the config of an unfinished cell this sweep's: of cells with one name, only paths can differ.

    Returns:
        Whether the cell was begun before.
    """
    path = folder / "config.json"
    if not path.exists():
        return False
    atomic.write_json(path, plain(config))
    return True


def write_error(folder: Path, error: Exception) -> str:
    """Writes the traceback to error.txt, frees what its frames hold, and says the reason in one line."""
    with contextlib.suppress(OSError, UserError):
        atomic.write_text(folder / ERROR, "".join(traceback.format_exception(error)))
    error.__traceback__ = None  # its frames hold the cell's arrays
    return reason(error)


def reason(error: Exception) -> str:
    """Why a cell failed, in one line."""
    text = " ".join(str(error).split())
    if out_of_memory(error):
        text = f"out of memory: {text}"
    elif not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MOST_REASON else text[: _MOST_REASON - 3] + "..."


def out_of_memory(error: Exception) -> bool:
    """Whether a device, or this process, had too little memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def disk_is_full(error: BaseException | None) -> bool:
    """Whether this, or what caused it, is a full disk: other cells would fail alike."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, UserError) and "no space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
