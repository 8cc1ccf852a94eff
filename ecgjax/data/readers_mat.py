"""MATLAB files without a WFDB header: the records of CPSC2018, and bare matrices described by a sidecar.

What a file declares is checked before SciPy decodes it, because SciPy allocates it.
"""

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers_array import from_array
from ecgjax.data.readers_xml import as_number, sex
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.sidecar import read_sidecar
from ecgjax.errors import UserError

_LARGEST = 2**26
_DEEPEST = 4
_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_CPSC2018_RATE = 500.0


def matches(path: Path) -> bool:
    """Whether `path` is a MATLAB file: by its text for versions 5 and 7, by its suffix for version 4."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(128)
    return head.startswith(b"MATLAB ") or (path.suffix.lower() == ".mat" and _looks_like_version_4(head))


def _looks_like_version_4(head: bytes) -> bool:
    if len(head) < 21:
        return False
    kind, rows, columns, imaginary, length = struct.unpack_from("<5i", head)
    return 0 <= kind < 100 and min(rows, columns) > 0 and imaginary in (0, 1) and 1 < length <= 64


def read(path: Path) -> Recording:
    """Reads a record of CPSC2018 (structure `ECG` of sex, age and data in mV at 500 Hz), or a matrix with a sidecar.

    The matrix is `val`, as in the Challenges, or the only one of the file. Challenge records with their header beside
    them are WFDB.

    Raises:
        UserError: the file is damaged, of version 7.3, or holds no such thing; or there is no sidecar for a matrix.
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise UserError(f"{path}: {size} bytes; expected a MATLAB file of at most {_LARGEST}")
    content = path.read_bytes()
    if content.startswith(b"MATLAB 7.3"):
        raise UserError(f"{path}: MATLAB version 7.3; expected version 4 to 7 (save with -v7)")
    import scipy.io

    try:
        if content.startswith(b"MATLAB "):
            _check(path, content)
        else:
            _check_version_4(path, content)
        variables = scipy.io.loadmat(io.BytesIO(content))
    except UserError:
        raise
    except Exception as error:  # What SciPy raises on malformed files is not a set list.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: damaged or not a MATLAB file ({reason})") from error
    record = variables.get("ECG")
    if isinstance(record, np.ndarray) and record.dtype.names and "data" in record.dtype.names and record.size == 1:
        return _cpsc2018(path, record.ravel()[0])
    matrices = {
        name: value
        for name, value in variables.items()
        if not name.startswith("__") and isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size > 1
    }
    if "val" not in matrices and len(matrices) != 1:
        raise UserError(f"{path}: matrices {', '.join(sorted(matrices)) or '(none)'}; expected `val` or a single one")
    return from_array(path, matrices["val" if "val" in matrices else next(iter(matrices))], read_sidecar(path))


def _cpsc2018(path: Path, record: Any) -> Recording:
    data = np.asarray(record["data"])
    if data.dtype.kind not in "iuf" or data.ndim != 2 or 12 not in data.shape or data.shape == (12, 12):
        raise UserError(f"{path}: ECG.data is {data.dtype} of shape {data.shape}; expected 12 leads by samples in mV")
    metadata: dict[str, Any] = {}
    fields = record.dtype.names
    for key in ("age", "sex"):
        words = [str(value) for value in np.asarray(record[key]).ravel()[:1]] if key in fields else []
        value = (as_number(words[0]) if key == "age" else sex(words[0])) if words else None
        if value is not None and (isinstance(value, str) or 0 <= value < 150):
            metadata[key] = value
    signal = (data.T if data.shape[0] == 12 else data).astype(np.float64)
    return from_channels(path.stem, signal, CANONICAL, _CPSC2018_RATE, source=path, metadata=metadata)


def _check_version_4(path: Path, content: bytes) -> None:
    """Checks that the matrices of a version 4 file are inside of it."""
    at = 0
    while at < len(content):
        _, rows, columns, imaginary, name = struct.unpack_from("<5i", content, at)
        width = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(struct.unpack_from("<i", content, at)[0] // 10 % 10, 8)
        if min(rows, columns, name) < 0:
            raise UserError(f"{path}: damaged, a matrix of {rows} x {columns}; expected positive numbers")
        at += 20 + name + rows * columns * width * (2 if imaginary else 1)
        if at > len(content):
            raise UserError(f"{path}: truncated, a matrix of {rows} x {columns} is longer than the file")


def _check(path: Path, content: bytes) -> None:
    """Checks the sizes that a version 5 file declares, compressed or not."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise UserError(f"{path}: damaged, its byte order is {content[126:128]!r}; expected IM or MI")
    at = 128
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        if at + 8 + size > len(content):
            raise UserError(f"{path}: truncated, a variable is longer than the file")
        element = content[at + 8 : at + 8 + size]
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            element = unpacker.decompress(element, _LARGEST)
            if unpacker.unconsumed_tail:
                raise UserError(f"{path}: a variable of more than {_LARGEST} bytes; expected one ECG")
            kind, inner = struct.unpack_from(order + "II", element)
            element = element[8 : 8 + inner]
        if kind == _MATRIX:
            _check_matrix(path, element, order, 0)
        at += 8 + size


def _elements(path: Path, content: bytes, order: str) -> Any:
    """The (type, data) pairs in a matrix; small ones have their size in the upper half of the type."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        if kind >> 16:
            yield kind & 0xFFFF, content[at + 4 : at + 4 + min(kind >> 16, 4)]
            at += 8
        else:
            if at + 8 + size > len(content):
                raise UserError(f"{path}: damaged, a part of a variable is longer than the variable")
            yield kind, content[at + 8 : at + 8 + size]
            at += 8 + size + (-size) % 8


def _check_matrix(path: Path, content: bytes, order: str, depth: int) -> None:
    """Checks that a matrix has as many values as its dimensions say, and likewise all within it."""
    parts = list(_elements(path, content, order))
    if not parts:
        return
    if depth > _DEEPEST or len(parts) < 3:
        raise UserError(f"{path}: variables nested deeper than {_DEEPEST} levels, or damaged; expected one ECG")
    kind = parts[0][1][0 if order == "<" else 3]
    if kind not in (_CELL, _STRUCT, _CHAR, *_NUMERIC):
        raise UserError(f"{path}: a variable of class {kind}; expected numbers, text or a structure of them")
    dimensions = np.frombuffer(parts[1][1], order + "i4").tolist()
    count = math.prod(dimensions)
    if not dimensions or min(dimensions) < 0:
        raise UserError(f"{path}: damaged, a variable of dimensions {dimensions}")
    if kind in (_CELL, _STRUCT):
        inner = [data for name, data in parts[2:] if name == _MATRIX]
        fields = 1
        if kind == _STRUCT:
            length, names = (parts[3][1], parts[4][1]) if len(parts) > 4 else (b"\0" * 4, b"")
            width = int(np.frombuffer(length[:4], order + "i4")[0])
            fields = len(names) // width if width > 0 else 0
        if count * fields != len(inner) or (kind == _STRUCT and not fields and count > 1):
            raise UserError(f"{path}: damaged, {len(inner)} values in a variable of dimensions {dimensions}")
        for data in inner:
            _check_matrix(path, data, order, depth + 1)
    elif count and (len(parts) < 4 or count > len(parts[3][1])):
        raise UserError(f"{path}: damaged, fewer values than dimensions {dimensions} say")
