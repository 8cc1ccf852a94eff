"""A tensor as a checkpoint stores it: bytes of the file, read only when asked for."""

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from ecgjax.errors import UserError

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in (
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
}
"""Element types by torch's name."""

_LARGEST = 2**62
# A view may repeat its elements (S4 checkpoints hold stride-0 buffers), but not into this much more than the file.
_EXPANSION = 64 * 2**20
_MOST_DIMENSIONS = 64


@dataclass(eq=False, slots=True)
class Storage:
    """A run of bytes in a file, which several tensors may share.

    Attributes:
        nbytes: how many bytes the checkpoint says it has.
        file: the whole file (memory-mapped).
        start: where in the file it begins; None until a legacy file's storages are found behind its pickles.
    """

    nbytes: int
    file: memoryview
    start: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A view into a storage.

    Attributes:
        storage: where the elements lie.
        dtype: element type.
        shape: sizes.
        strides: steps in elements, as torch counts them; 0 repeats.
        offset: first element.
    """

    storage: Storage
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes when written out in full."""
        return self.size * self.dtype.itemsize

    def numpy(self) -> np.ndarray:
        """The elements as a read-only view of the memory-mapped file; nothing is copied."""
        if 0 in self.shape:
            return np.frombuffer(b"", self.dtype).reshape(self.shape)
        size = self.dtype.itemsize
        assert self.storage.start is not None
        return np.ndarray(
            self.shape,
            self.dtype,
            buffer=self.storage.file,
            offset=self.storage.start + self.offset * size,
            strides=tuple(stride * size for stride in self.strides),
        )


def view(storage: Storage, dtype: np.dtype[Any], offset: object, shape: object, strides: object) -> Tensor:
    """A checked view: every element lies inside the storage, and its size is in proportion to the file.

    Raises:
        UserError: negative or absurd sizes, a view past the end of its storage, or one that claims far more than the
            file holds.
    """
    start, sizes, steps = _count(offset), _counts(shape), _counts(strides)
    if len(sizes) != len(steps) or len(sizes) > _MOST_DIMENSIONS:
        raise UserError(
            f"a tensor has {len(sizes)} sizes and {len(steps)} strides; expected as many of each, at most 64"
        )
    tensor = Tensor(storage, dtype, sizes, steps, start)
    if 0 in sizes:
        return tensor
    last = start + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if (last + 1) * dtype.itemsize > storage.nbytes:
        raise UserError(
            f"a tensor of shape {list(sizes)}, strides {list(steps)}, offset {start} reaches element {last} "
            f"of a storage of {storage.nbytes // dtype.itemsize}"
        )
    if tensor.nbytes > len(storage.file) + _EXPANSION:
        raise UserError(
            f"a tensor of shape {list(sizes)} would take {tensor.nbytes:,} bytes of a file of {len(storage.file):,}"
        )
    return tensor


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a dense C-ordered tensor."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _counts(value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)):
        raise UserError(f"a tensor's shape or strides are a {type(value).__name__}; expected a tuple of numbers")
    return tuple(_count(item) for item in value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise UserError(f"a tensor's size, stride or offset is {str(value)[:40]}; expected a number from 0")
    return value
