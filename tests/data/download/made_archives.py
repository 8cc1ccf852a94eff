"""Archives for tests, and what is left of them unpacked."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecgjax.data.download.archives import unpack
from ecgjax.errors import UserError

NOISE = bytes(np.random.default_rng(0).integers(0, 256, 40_000, dtype=np.uint8))


def make_zip(path: Path, members: dict[str, bytes], **more) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **more) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes] | Sequence[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        if isinstance(members, dict):
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        else:
            for info in members:
                archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def split_zip(whole: Path, sizes: Sequence[int]) -> list[Path]:
    """Cuts a zip as zip -s does: a marker in front, offsets within each part, numbers of parts in the directory."""
    content = b"PK\7\10" + whole.read_bytes()
    starts = np.cumsum([0, *sizes])
    end = content.rindex(b"PK\5\6")
    fields = list(struct.unpack_from("<4s4H2LH", content, end))
    directory = fields[6] + 4
    data = bytearray(content)
    at = directory
    while data[at : at + 4] == b"PK\1\2":
        name, extra, comment = struct.unpack_from("<3H", data, at + 28)
        offset = struct.unpack_from("<L", data, at + 42)[0] + 4
        part = int(np.searchsorted(starts, offset, side="right")) - 1
        struct.pack_into("<H", data, at + 34, part)
        struct.pack_into("<L", data, at + 42, offset - int(starts[part]))
        at += 46 + name + extra + comment
    last, first = len(sizes), int(np.searchsorted(starts, directory, side="right")) - 1
    fields[1:3] = last, first
    fields[6] = directory - int(starts[first])
    struct.pack_into("<4s4H2LH", data, end, *fields)
    names = [whole.with_suffix(f".z{i + 1:02d}") for i in range(last)] + [whole]
    for path, start, stop in zip(names, starts, [*starts[1:], len(data)], strict=True):
        path.write_bytes(bytes(data[start:stop]))
    return names


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def attempt(parts: Sequence[Path], folder: Path, **more) -> tuple[list[tuple[str, int]], str]:
    """The files, or the message of the error."""
    try:
        return unpack(parts, folder, **more), ""
    except UserError as error:
        return [], str(error)
