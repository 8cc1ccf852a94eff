"""Writes torch files without torch, opcode for opcode as torch 2 does, so that tests can make any checkpoint."""

import io
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    "bool": "BoolStorage",
    "uint8": "ByteStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
# Sizes, in bytes, that torch's zip entries are padded to.
ALIGNMENT = 64


@dataclass(eq=False)
class View:
    """A tensor over part of an array's elements, which other views may share; strides and offset in elements."""

    base: np.ndarray
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(eq=False)
class Parameter:
    """A `torch.nn.Parameter`."""

    data: Any


@dataclass(eq=False)
class Object:
    """An instance of some class, as Python pickles it."""

    module: str
    name: str
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Call:
    """A call of some function: what hostile files are made of, and pathlib's paths."""

    module: str
    name: str
    arguments: tuple[Any, ...]


class Pickler:
    """Python's protocol 2 for the values above; `storages` collects the arrays met, in order."""

    def __init__(self, legacy: bool = False) -> None:
        self.out = io.BytesIO()
        self.legacy = legacy
        self.storages: list[np.ndarray] = []
        self._memo: dict[Any, int] = {}
        self._alive: list[Any] = []  # the memo goes by id, which must not be used again

    def dump(self, value: Any) -> bytes:
        self.out.write(b"\x80\x02")
        self._save(value)
        self.out.write(b".")
        return self.out.getvalue()

    def _remember(self, key: Any, value: Any = None) -> None:
        index = self._memo[key] = len(self._memo)
        self._alive.append(value)
        self.out.write(b"q" + bytes([index]) if index < 256 else b"r" + struct.pack("<I", index))

    def _remember_new(self) -> None:
        """Takes up a place in the memo that is never recalled."""
        self._remember(("new", len(self._memo)))

    def _recall(self, key: Any) -> bool:
        index = self._memo.get(key)
        if index is None:
            return False
        self.out.write(b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index))
        return True

    def _save(self, value: Any) -> None:
        if value is None:
            self.out.write(b"N")
        elif isinstance(value, bool):
            self.out.write(b"\x88" if value else b"\x89")
        elif isinstance(value, int):
            self._integer(value)
        elif isinstance(value, float):
            self.out.write(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            self._text(value)
        elif isinstance(value, tuple):
            self._tuple(value)
        elif not self._recall(id(value)):
            self._new(value)

    def _new(self, value: Any) -> None:
        if isinstance(value, OrderedDict):
            self._call("collections", "OrderedDict", ())
            self._remember(id(value), value)
            self._items(value)
        elif isinstance(value, dict):
            self.out.write(b"}")
            self._remember(id(value), value)
            self._items(value)
        elif isinstance(value, list):
            self.out.write(b"]")
            self._remember(id(value), value)
            self._elements(value)
        elif isinstance(value, Object):
            self._global(value.module, value.name)
            self.out.write(b")\x81")
            self._remember(id(value), value)
            self._save(value.state)
            self.out.write(b"b")
        elif isinstance(value, Call):
            self._call(value.module, value.name, value.arguments)
            self._remember(id(value), value)
        elif isinstance(value, Parameter):
            self._call("torch._utils", "_rebuild_parameter", (value.data, True, OrderedDict()))
            self._remember(id(value), value)
        else:
            view = value if isinstance(value, View) else View(value, value.shape, _dense(value.shape))
            self._tensor(view)
            self._remember(id(value), (value, view))

    def _tensor(self, view: View) -> None:
        self._global("torch._utils", "_rebuild_tensor_v2")
        self.out.write(b"((")
        if not any(view.base is storage for storage in self.storages):
            self.storages.append(view.base)
        self._text("storage")
        self._global("torch", STORAGES[str(view.base.dtype)])
        # The old format made the key's string anew each time, so that it is never taken from the memo.
        self._text(self.key(view.base), fresh=self.legacy)
        self._text("cpu")
        self._integer(view.base.size)
        if self.legacy:
            self.out.write(b"N")
        self.out.write(b"t")
        self._remember_new()
        self.out.write(b"Q")
        self._integer(view.offset)
        self._tuple(view.shape)
        self._tuple(view.strides)
        self._save(False)
        self._call("collections", "OrderedDict", ())
        self._remember_new()
        self.out.write(b"t")
        self._remember_new()
        self.out.write(b"R")

    def key(self, storage: np.ndarray) -> str:
        """The name that an array's bytes are stored under."""
        index = next(i for i, known in enumerate(self.storages) if known is storage)
        return str(94058140850064 + 16 * index) if self.legacy else str(index)

    def _call(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self._global(module, name)
        self._tuple(arguments)
        self.out.write(b"R")

    def _global(self, module: str, name: str) -> None:
        if not self._recall(("global", module, name)):
            self.out.write(f"c{module}\n{name}\n".encode())
            self._remember(("global", module, name))

    def _integer(self, value: int) -> None:
        if 0 <= value < 2**8:
            self.out.write(b"K" + struct.pack("<B", value))
        elif 0 <= value < 2**16:
            self.out.write(b"M" + struct.pack("<H", value))
        elif -(2**31) <= value < 2**31:
            self.out.write(b"J" + struct.pack("<i", value))
        else:
            digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out.write(b"\x8a" + bytes([len(digits)]) + digits)

    def _text(self, value: str, fresh: bool = False) -> None:
        if fresh or not self._recall(("text", value)):
            encoded = value.encode()
            self.out.write(b"X" + struct.pack("<I", len(encoded)) + encoded)
            self._remember_new() if fresh else self._remember(("text", value))

    def _tuple(self, values: tuple[Any, ...]) -> None:
        if not values:
            self.out.write(b")")
            return
        if len(values) > 3:
            self.out.write(b"(")
        for value in values:
            self._save(value)
        self.out.write({1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t"))
        self._remember_new()

    def _elements(self, values: list[Any]) -> None:
        for batch in _batches(values):
            if len(batch) > 1:
                self.out.write(b"(")
            for value in batch:
                self._save(value)
            self.out.write(b"e" if len(batch) > 1 else b"a")

    def _items(self, values: dict[Any, Any]) -> None:
        for batch in _batches(list(values.items())):
            if len(batch) > 1:
                self.out.write(b"(")
            for key, value in batch:
                self._save(key)
                self._save(value)
            self.out.write(b"u" if len(batch) > 1 else b"s")


def write_zip(path: Path, value: Any) -> None:
    """Writes what `torch.save(value, path)` does."""
    pickler = Pickler()
    program = pickler.dump(value)
    write_archive(path, {"data.pkl": program, **storage_entries(pickler.storages)})


def storage_entries(storages: list[np.ndarray]) -> dict[str, Any]:
    """Archive entries of the storages and of torch's version marks."""
    return {
        ".format_version": b"1",
        ".storage_alignment": str(ALIGNMENT).encode(),
        "byteorder": b"little",
        **{f"data/{index}": storage for index, storage in enumerate(storages)},
        "version": b"3\n",
        ".data/serialization_id": b"0" * 40,
    }


def write_archive(path: Path, entries: dict[str, Any], compression: int = zipfile.ZIP_STORED) -> None:
    """Writes torch's zip archive: entries (bytes or arrays) uncompressed, each aligned."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(f"{path.stem}/{name}")
            info.compress_type = compression
            content = (
                memoryview(np.ascontiguousarray(content).reshape(-1).view(np.uint8))
                if isinstance(content, np.ndarray)
                else content
            )
            start = archive.fp.tell() + 30 + len(info.filename)
            padding = -(start + 4) % ALIGNMENT
            info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            archive.writestr(info, content)


def write_legacy(path: Path, value: Any) -> None:
    """Writes what `torch.save(value, path, _use_new_zipfile_serialization=False)` does."""
    pickler = Pickler(legacy=True)
    program = pickler.dump(value)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = sorted(pickler.key(storage) for storage in pickler.storages)
    by_key = {pickler.key(storage): storage for storage in pickler.storages}
    with open(path, "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, system):
            file.write(Pickler().dump(part))
        file.write(program)
        file.write(Pickler().dump(keys))
        for key in keys:
            file.write(struct.pack("<q", by_key[key].size))
            file.write(np.ascontiguousarray(by_key[key]).tobytes())


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    # torch gives axes of size 0 the stride they would have at size 1.
    return tuple(
        int(np.prod([max(size, 1) for size in shape[axis + 1 :]], dtype=np.int64)) for axis in range(len(shape))
    )


def _batches(values: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(values), 1000):
        yield values[first : first + 1000]


def bfloat16(values: Any) -> np.ndarray:
    """An array of bfloat16."""
    return np.asarray(values, ml_dtypes.bfloat16)
