"""Tracings of the CODE data sets (Telehealth Network of Minas Gerais): HDF5, 4096 x 12 zero-padded, 400 Hz."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ecgjax.errors import UserError

if TYPE_CHECKING:
    import h5py

SAMPLING_RATE = 400.0
FLAGS = {"1dAVb": "1AVB", "RBBB": "RBBB", "LBBB": "LBBB", "SB": "SBRAD", "AF": "AFIB", "ST": "STACH"}
"""Column of the publisher -> class, in the benchmark's order; the files have ST before AF."""

_SAMPLES = 4096
_ACQUIRED = (2800, 4000)  # 7 and 10 s: what the devices record, centred in 4096 samples.
_LARGEST_BLOCK = 64 * 2**20


def check(path: Path, *, exams: int | None = None) -> int:
    """Number of tracings in a file.

    Args:
        path: of the HDF5 file.
        exams: how many there should be, or None.

    Raises:
        UserError: no HDF5 file, no data set `tracings` of (exams, samples, 12) numbers, or another number of them.
    """
    with _named(path), _opened(path) as file:
        tracings = file.get("tracings")
        shape = getattr(tracings, "shape", None)
        if shape is None or len(shape) != 3 or shape[2] != 12 or tracings.dtype.kind != "f":
            raise UserError(f"{path}: data set 'tracings' has shape {shape}; expected (exams, {_SAMPLES}, 12) numbers")
        if exams is not None and shape[0] != exams:
            raise UserError(f"{path}: {shape[0]} tracings for {exams} exams; expected as many")
        return int(shape[0])


def exam_ids(path: Path) -> np.ndarray:
    """(exams,) int64: the data set `exam_id` of a file; 0 is a row without exam.

    Raises:
        UserError: no HDF5 file, or no data set `exam_id` of whole numbers.
    """
    with _named(path), _opened(path) as file:
        ids = file.get("exam_id")
        if ids is None or getattr(ids, "ndim", 0) != 1 or ids.dtype.kind not in "iu":
            raise UserError(f"{path}: no data set 'exam_id' of whole numbers; it has {', '.join(file) or 'nothing'}")
        return np.asarray(ids[:], np.int64)


def read_row(path: Path, row: int) -> np.ndarray:
    """(samples, 12): one tracing as stored.

    Rows that are compressed together are read together, and kept until another block is asked for.

    Raises:
        UserError: the file cannot be read there.
    """
    with _named(path, f"row {row}: "):
        tracings = _tracings(str(path))
        if not 0 <= row < len(tracings):
            raise UserError(f"{path}: no row {row}; it has {len(tracings)}")
        together = tracings.chunks[0] if tracings.chunks else 1
        row_bytes = tracings.dtype.itemsize * tracings.shape[1] * tracings.shape[2]
        size = together if together * row_bytes <= _LARGEST_BLOCK else 1
        return _block(str(path), row // size, size)[row % size]


def acquired(tracing: np.ndarray, *, padding: Literal["default", "paper"] = "default") -> np.ndarray:
    """The part of a tracing that was recorded.

    7 and 10 s exams lie in the middle of 4096 samples, with zeros in all leads around them. By default the zeros
    outside an acquisition of such a length are cut; zeros inside it stay, so that a lead-off at either end does not
    make an exam shorter. A tracing that fits neither length loses its zeros at both ends only.

    The benchmark's preparation ("paper") counts all samples where every lead is 0, also inside, and cuts half as many
    (rounded down) from each end.

    Args:
        tracing: (samples, leads).
        padding: see above.

    Raises:
        UserError: every value is 0.
    """
    filled = np.flatnonzero(tracing.any(axis=1))
    if not len(filled):
        raise UserError("every value is zero")
    samples = len(tracing)
    if padding == "paper":
        cut = (samples - len(filled)) // 2
        return tracing[cut : samples - cut]
    first, last = int(filled[0]), int(filled[-1]) + 1
    for length in _ACQUIRED:
        start = (samples - length) // 2
        if 0 < start <= first and last <= start + length:
            return tracing[start : start + length]
    return tracing[first:last]


@contextmanager
def _named(path: Path, where: str = "") -> Iterator[None]:
    """Turns what h5py raises on damaged files into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: {where}damaged ({' '.join(str(error).split())}); expected a whole HDF5 file"
        ) from error


def _opened(path: Path) -> "h5py.File":
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: reading HDF5 needs h5py; install it with: pip install 'ecgjax[formats]'") from error
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected an HDF5 file")
    # Without locks, which network file systems may refuse; nobody writes here.
    return h5py.File(path, "r", locking=False)


@lru_cache(maxsize=2)
def _tracings(path: str) -> "h5py.Dataset":
    return _opened(Path(path))["tracings"]


@lru_cache(maxsize=1)
def _block(path: str, number: int, size: int) -> np.ndarray:
    return np.asarray(_tracings(path)[number * size : (number + 1) * size])
