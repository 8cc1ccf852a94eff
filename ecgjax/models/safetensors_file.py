"""Writes and reads safetensors files tensor by tensor, so that no more than one is there twice.

When written, views and transposes are laid out one at a time. When read, arrays lie as JAX wants them on a CPU, which
then takes them over as they are.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
_HEADER_ALIGNMENT = 64
_ARRAY_ALIGNMENT = 64


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors to a file.

    Args:
        path: the file.
        tensors: arrays by name, of any strides.
        metadata: text for the header.
    """
    # Wide elements first, as the format's own library does: all are aligned to their own size, without holes.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        shape, dtype = tensors[name].shape, tensors[name].dtype
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype.name], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _HEADER_ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)


def read(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, np.ndarray]]:
    """Reads what `write` wrote.

    Args:
        path: the file.
        wanted: which names.

    Yields:
        Name and array, one after the other.

    Raises:
        ValueError: not a safetensors file, or cut short.
    """
    kinds = {code: np.dtype(getattr(ml_dtypes, name, name)) for name, code in _DTYPES.items()}
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8)) if start <= size else None
        if not isinstance(header, dict):
            raise ValueError("it has no header")
        header.pop("__metadata__", None)
        for name in filter(wanted, header):
            try:
                kind, shape, (begin, end) = (
                    kinds[header[name]["dtype"]],
                    header[name]["shape"],
                    header[name]["data_offsets"],
                )
                if not 0 <= begin <= end <= size - start:
                    raise ValueError(f"tensor {name!r} lies outside the file")
            except (KeyError, TypeError) as error:
                raise ValueError(f"tensor {name!r} is not described") from error
            array = _aligned(end - begin)
            file.seek(start + begin)
            file.readinto(array.data)
            yield name, array.view(kind).reshape(shape)


def _aligned(nbytes: int) -> np.ndarray:
    whole = np.empty(nbytes + _ARRAY_ALIGNMENT, np.uint8)
    start = -whole.ctypes.data % _ARRAY_ALIGNMENT
    return whole[start : start + nbytes]
