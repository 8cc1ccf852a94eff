"""The zip archive that torch has written since 1.6: a pickle, and one uncompressed entry per storage."""

import struct
import zipfile
from pathlib import Path
from typing import Any

from convert_weights.pickle_machine import unpickle
from convert_weights.tensors import Storage
from convert_weights.torch_objects import CONSTRUCTORS, TypedStorage, admit, storage_id, storage_type
from ecgjax.errors import UserError

_LOCAL_HEADER = struct.Struct("<4s22xHH")


def read(path: Path, file: memoryview) -> Any:
    """The object a torch zip file holds, its tensors still in the file.

    Args:
        path: the file, for its directory of entries.
        file: its bytes.

    Raises:
        UserError: not a whole torch archive, or one that asks for something that is refused.
    """
    infos = _directory(path)
    roots = [info.filename.removesuffix("data.pkl") for info in infos if ("/" + info.filename).endswith("/data.pkl")]
    if len(roots) != 1:
        raise UserError(
            f"a zip file with {len(roots)} entries named data.pkl; expected a file written by torch.save, which has one"
        )
    entries, root = _entries(infos, file), roots[0]
    if root + "constants.pkl" in entries:
        raise UserError(
            "a TorchScript archive (torch.jit.save), which holds a program; expected a checkpoint written by torch.save"
        )
    order = _byte_order(file, entries.get(root + "byteorder"))
    if order != b"little":
        raise UserError(
            f"written on a machine with byte order {order.decode('ascii', 'backslashreplace')!r}; expected 'little'"
        )
    storages: dict[str, Storage] = {}

    def persistent(value: Any) -> TypedStorage:
        kind, name, count = storage_id(value)
        dtype, size, reason = storage_type(kind)
        entry = entries.get(f"{root}data/{name}")
        if entry is None:
            raise UserError(f"storage {name[:40]!r} has no entry in the archive; cut short?")
        start, nbytes = entry
        if nbytes < count * size:
            raise UserError(f"storage {name[:40]!r} claims {count:,} elements of {size} bytes but has {nbytes:,} bytes")
        if name not in storages:
            storages[name] = Storage(nbytes, file, start)
        return TypedStorage(storages[name], dtype, reason)

    start, nbytes = entries[root + "data.pkl"]
    value, _ = unpickle(file[start : start + nbytes], 0, CONSTRUCTORS, persistent, admit)
    return value


def _directory(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, OverflowError, struct.error) as error:
        raise UserError("a damaged zip file, its directory cannot be read; cut short?") from error


def _entries(infos: list[zipfile.ZipInfo], file: memoryview) -> dict[str, tuple[int, int]]:
    """Where each entry's bytes begin, and how many there are."""
    entries: dict[str, tuple[int, int]] = {}
    for info in infos:
        name = info.filename
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise UserError(f"entry {name[:80]!r} is compressed or encrypted; torch stores entries plainly")
        if name in entries:
            raise UserError(f"entry {name[:80]!r} is there twice; expected one")
        header = file[info.header_offset : info.header_offset + _LOCAL_HEADER.size] if info.header_offset >= 0 else b""
        if len(header) != _LOCAL_HEADER.size:
            raise UserError(f"entry {name[:80]!r} lies outside the file; cut short?")
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if magic != b"PK\x03\x04" or start + info.file_size > len(file):
            raise UserError(f"entry {name[:80]!r} lies outside the file; cut short?")
        entries[name] = (start, info.file_size)
    return entries


def _byte_order(file: memoryview, entry: tuple[int, int] | None) -> bytes:
    if entry is None:  # before torch 2.1, which wrote little-endian only
        return b"little"
    return bytes(file[entry[0] : entry[0] + min(entry[1], 16)])
