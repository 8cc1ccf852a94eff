"""The stream that torch wrote before 1.6 and still can: pickles, the storages' keys, then storage after storage."""

import struct
from typing import Any

from convert_weights.pickle_machine import unpickle
from convert_weights.pickle_values import Name
from convert_weights.tensors import Storage
from convert_weights.torch_objects import CONSTRUCTORS, TypedStorage, admit, storage_id, storage_type
from ecgjax.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
START = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")
"""How such a file begins."""


def read(file: memoryview) -> Any:
    """The object a torch file of the old format holds, its tensors still in the file.

    Raises:
        UserError: not a whole torch file, or one that asks for something that is refused.
    """
    magic, position = _plain(file, 0)
    protocol, position = _plain(file, position)
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise UserError(f"torch's format version is {str(protocol)[:40]}; expected {_PROTOCOL}")
    system, position = _plain(file, position)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError("written on a machine with big-endian numbers; expected little-endian")
    storages: dict[str, tuple[Storage, int, int]] = {}

    def persistent(value: Any) -> TypedStorage | Name:
        # Whole modules name their classes this way, with the source text beside them.
        if isinstance(value, tuple) and len(value) == 4 and value[0] == "module" and isinstance(value[1], Name):
            return value[1]
        kind, name, count = storage_id(value)
        dtype, size, reason = storage_type(kind)
        if name not in storages:
            storages[name] = (Storage(count * size, file), count, size)
        storage, known_count, known_size = storages[name]
        if (count, size) != (known_count, known_size):
            raise UserError(
                f"storage {name[:40]!r} is both {known_count:,} x {known_size} bytes and {count:,} x {size}; damaged?"
            )
        return TypedStorage(storage, dtype, reason)

    value, position = unpickle(file, position, CONSTRUCTORS, persistent, admit)
    keys, position = _plain(file, position)
    _place(file, position, keys, storages)
    return value


def _place(file: memoryview, position: int, keys: object, storages: dict[str, tuple[Storage, int, int]]) -> None:
    if not isinstance(keys, list) or not all(isinstance(name, str) for name in keys) or len(set(keys)) != len(keys):
        raise UserError("the list of storages is damaged; expected a list of names")
    for name in keys:
        if name not in storages:
            raise UserError(f"storage {name[:40]!r} is stored, but no tensor of the file says of which type")
        storage, count, size = storages[name]
        stored = struct.unpack("<q", file[position : position + 8])[0] if position + 8 <= len(file) else None
        if stored != count or position + 8 + count * size > len(file):
            raise UserError(
                f"storage {name[:40]!r} claims {count:,} x {size} bytes, which the file does not hold; cut short?"
            )
        storage.start = position + 8
        position += 8 + count * size
    missing = next((name for name, (storage, _, _) in storages.items() if storage.start is None), None)
    if missing is not None:
        raise UserError(f"storage {missing[:40]!r} is used by a tensor but not stored; cut short?")


def _plain(file: memoryview, position: int) -> tuple[Any, int]:
    """One of the small pickles around the main one: numbers, strings and containers only."""
    return unpickle(file, position, {}, storage_id, _admit_nothing)


def _admit_nothing(name: Name) -> None:
    raise UserError(f"the file's header asks for {name}; refused, expected plain values")
