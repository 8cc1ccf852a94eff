"""The safetensors format: a JSON header and the tensors' bytes.

Reference: https://huggingface.co/docs/safetensors, section Format. The header is checked as strictly as there: no
holes, no overlaps, no name twice.
"""

import json
import math
import struct
from typing import Any

from convert_weights.tensors import DTYPES, Storage, Tensor, row_major, view
from ecgjax.errors import UserError

_LARGEST_HEADER = 100_000_000  # the format's own limit
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def looks_like(file: memoryview) -> bool:
    """Whether the file begins as a safetensors file does: the header's length, then a brace."""
    return len(file) > 8 and file[8] == ord("{") and struct.unpack("<Q", file[:8])[0] <= len(file) - 8


def read(file: memoryview) -> dict[str, Tensor]:
    """The tensors by name, still in the file.

    Raises:
        UserError: a damaged header, or one that disagrees with the file's size.
    """
    length = struct.unpack("<Q", file[:8])[0]
    if length > _LARGEST_HEADER:
        raise UserError(f"the safetensors header claims {length:,} bytes; expected at most {_LARGEST_HEADER:,}")
    try:
        header = json.loads(bytes(file[8 : 8 + length]), object_pairs_hook=_once)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError("the safetensors header is damaged; expected JSON") from error
    if not isinstance(header, dict):
        raise UserError("the safetensors header is damaged; expected a JSON object")
    header.pop("__metadata__", None)
    body = file[8 + length :]
    tensors = {name: _tensor(name, entry, body) for name, entry in header.items()}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].storage.start, item[1].nbytes)):
        if tensor.storage.start != end:
            raise UserError(
                f"tensor {name[:80]!r} begins at byte {tensor.storage.start}; expected {end}, without holes or overlaps"
            )
        end += tensor.nbytes
    if end != len(body):
        raise UserError(f"the safetensors header describes {end:,} bytes where the file has {len(body):,}; cut short?")
    return tensors


def _tensor(name: str, entry: Any, body: memoryview) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UserError(f"tensor {name[:80]!r} has a damaged header entry; expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise UserError(f"tensor {name[:80]!r} is of type {str(dtype)[:20]!r}; expected one of {', '.join(_DTYPES)}")
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if (
        len(numbers) > 64
        or len(offsets) != 2
        or not all(type(number) is int and 0 <= number < 2**62 for number in numbers)
    ):
        raise UserError(f"tensor {name[:80]!r} has damaged sizes or offsets; expected numbers from 0")
    begin, end = offsets
    element = DTYPES[_DTYPES[dtype]]
    if not begin <= end <= len(body) or end - begin != math.prod(shape) * element.itemsize:
        raise UserError(
            f"tensor {name[:80]!r} of shape {shape} lies at bytes {begin}-{end} of {len(body):,}, which does not fit"
        )
    return view(Storage(end - begin, body, begin), element, 0, shape, row_major(tuple(shape)))


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(items)
    if len(names) != len(items):
        raise UserError("the safetensors header names a tensor twice; expected once")
    return names
