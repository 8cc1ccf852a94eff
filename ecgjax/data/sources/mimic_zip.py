"""WFDB records straight from the zip of MIMIC-IV-ECG (33 GB, 1.6 million members), without unpacking it.

The zip's directory is read once, when the records are listed, through a memory map and into arrays: a `zipfile.ZipFile`
would need over a gigabyte for it in every worker. Where a record lies is written into its key, so that reading one is
two seeks.
"""

import functools
import io
import mmap
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgjax.data import readers_wfdb
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError

_RECORD = re.compile(rb"(?:.*/)?p(\d+)/s(\d+)/(\d+)\.(hea|dat)")
_KEY = re.compile(r"([^#@]+)@(\d+)\+(\d+),(\d+)\+(\d+)")
_LARGEST_MEMBER = 2**24
_LARGEST_TABLE = 2**31
# Local headers are a few dozen bytes longer than the member's name; reading that much more saves a second read.
_MARGIN = 512


@dataclass(frozen=True)
class Members:
    """The directory of the zip.

    Attributes:
        study: (records,) int64, ascending, of the records that have both files.
        places: (records, 4) int64: offset and packed bytes of the header, and of the signal file.
        tables: offset and packed bytes of the CSV files.
    """

    study: np.ndarray
    places: np.ndarray
    tables: dict[str, tuple[int, int]]


def members(archive: Path) -> Members:
    """Reads the directory.

    Raises:
        UserError: not a complete zip file, or no records in it.
    """
    halves: dict[bytes, tuple[list[int], list[int], list[int]]] = {b"hea": ([], [], []), b"dat": ([], [], [])}
    tables = {}
    for name, offset, packed in _directory(archive):
        if record := _RECORD.fullmatch(name):
            if record[2] == record[3]:
                for values, value in zip(halves[record[4]], (int(record[2]), offset, packed), strict=True):
                    values.append(value)
        elif name.endswith(b".csv"):
            tables[os.path.basename(name.decode("utf-8", "replace"))] = (offset, packed)
    (headers, *header), (signals, *signal) = (
        [np.array(values, np.int64) for values in halves[kind]] for kind in (b"hea", b"dat")
    )
    study, i, j = np.intersect1d(headers, signals, return_indices=True)
    if not len(study):
        raise UserError(f"{archive}: no member p10000032/s40689238/40689238.hea or the like; expected MIMIC-IV-ECG 1.0")
    return Members(study, np.stack([*(v[i] for v in header), *(v[j] for v in signal)], axis=1), tables)


def keys(prefix: str, names: list[str], studies: np.ndarray, directory: Members) -> list[str]:
    """Keys for `read`: the zip's path, the record's name in it, and where its two files lie, if they are there.

    Args:
        prefix: path of the zip relative to --raw.
        names: of the records, as "files/p1000/p10000032/s40689238/40689238".
        studies: (records,) number of each record's study.
        directory: of the zip.
    """
    at = np.minimum(np.searchsorted(directory.study, studies), len(directory.study) - 1)
    there = directory.study[at] == studies
    return [
        f"{prefix}#{name}" + ("@{}+{},{}+{}".format(*place) if found else "")
        for name, place, found in zip(names, directory.places[at].tolist(), there.tolist(), strict=True)
    ]


def read(archive: Path, place: str) -> Recording:
    """Reads one record.

    Args:
        archive: the zip.
        place: what follows "#" in its key.

    Raises:
        UserError: it is not in the zip, its bytes are damaged, or it is no 12-lead WFDB record.
    """
    key = _KEY.fullmatch(place)
    if key is None:
        raise UserError(f"{archive}: no {place}.hea and .dat; expected both files of every record")
    folder, _, stem = key[1].rpartition("/")
    header_at, header_packed, signal_at, signal_packed = (int(text) for text in key.groups()[1:])
    with tempfile.TemporaryDirectory(prefix="ecgjax-") as temporary:
        for suffix, offset, packed in ((".hea", header_at, header_packed), (".dat", signal_at, signal_packed)):
            content = member(archive, stem + suffix, offset, packed)
            Path(temporary, stem + suffix).write_bytes(content)
        try:
            return readers_wfdb.read(Path(temporary, stem + ".hea"))
        except UserError as error:
            raise UserError(str(error).replace(temporary, f"{archive}/{folder}")) from error


def member(archive: Path, name: str, offset: int, packed: int, largest: int = _LARGEST_MEMBER) -> bytes:
    """The content of a member, checked against its checksum.

    Args:
        archive: the zip.
        name: file name without folders, which must be what the zip has at `offset`.
        offset: of the member's local header.
        packed: bytes it takes in the zip.
        largest: number of bytes that it may have.

    Raises:
        UserError: it is damaged, encrypted, packed by an unknown method, or larger than `largest`.
    """
    what = f"{archive}: {name}"
    if packed > largest:
        raise UserError(f"{what} takes {packed} bytes; expected at most {largest}")
    content = _pread(archive, packed + _MARGIN, offset)
    if len(content) < 30 or content[:4] != b"PK\3\4":
        raise UserError(f"{what} is not where the zip's directory has it; was the zip replaced meanwhile?")
    flags, method, _, _, crc = struct.unpack_from("<HHHHL", content, 6)
    start = 30 + sum(struct.unpack_from("<HH", content, 26))
    # After members that were packed in one go comes their checksum, which the header lacks.
    if len(content) < start + packed + 12:
        content = _pread(archive, start + packed + 12, offset)
    found = content[30 : 30 + struct.unpack_from("<H", content, 26)[0]].rpartition(b"/")[2]
    if found != name.encode():
        raise UserError(f"{what} is not where the zip's directory has it; was the zip replaced meanwhile?")
    if flags & 1 or method not in (0, 8):
        raise UserError(f"{what} is encrypted or packed by method {method}; expected stored or deflated")
    if flags & 8:
        after = content[start + packed :][:8]
        crc = int.from_bytes(after[4:8] if after[:4] == b"PK\7\x08" else after[:4], "little")
    data = content[start : start + packed]
    try:
        data = data if method == 0 else zlib.decompressobj(-15).decompress(data, largest + 1)
    except zlib.error as error:
        raise UserError(f"{what} is damaged ({error})") from error
    if len(data) > largest:
        raise UserError(f"{what} has more than {largest} bytes")
    if zlib.crc32(data) != crc:
        raise UserError(f"{what} is damaged; its checksum is not the one in the zip")
    return data


def table(archive: Path, name: str, directory: Members) -> bytes:
    """The content of a CSV file in the zip."""
    return member(archive, name, *directory.tables[name], largest=_LARGEST_TABLE)


def _directory(archive: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and packed bytes of every member (APPNOTE 6.3.10, sections 4.3.12 to 4.3.16)."""
    broken = UserError(f"{archive}: not a complete zip file; was it downloaded to the end?")
    if os.path.getsize(archive) < 22:
        raise broken
    with open(archive, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.rfind(b"PK\5\6", max(0, len(content) - 22 - 2**16))
        if end < 0 or end + 22 > len(content):
            raise broken
        number, size, at = struct.unpack_from("<HLL", content, end + 10)
        if number == 0xFFFF or 0xFFFFFFFF in (size, at):
            signature, _, end64 = struct.unpack_from("<4sLQ", content, max(0, end - 20))
            if signature != b"PK\6\7" or end64 + 56 > len(content) or content[end64 : end64 + 4] != b"PK\6\6":
                raise broken
            number, size, at = struct.unpack_from("<QQQ", content, end64 + 32)
        if at + size > len(content):
            raise broken
        for _ in range(number):
            if content[at : at + 4] != b"PK\1\2" or at + 46 > len(content):
                raise broken
            packed, unpacked, names, extras, comments = struct.unpack_from("<LLHHH", content, at + 20)
            offset = struct.unpack_from("<L", content, at + 42)[0]
            name = content[at + 46 : at + 46 + names]
            if 0xFFFFFFFF in (packed, unpacked, offset):
                extra = content[at + 46 + names : at + 46 + names + extras]
                packed, offset = _wide(extra, packed, unpacked, offset, broken)
            at += 46 + names + extras + comments
            yield name, offset, packed


def _wide(extra: bytes, packed: int, unpacked: int, offset: int, broken: UserError) -> tuple[int, int]:
    """Packed bytes and offset where the 32-bit fields are full: they are in the ZIP64 extra field, in fixed order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            fields = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            wide = [next(fields, value) if value == 0xFFFFFFFF else value for value in (unpacked, packed, offset)]
            return wide[1], wide[2]
        at += 4 + length
    raise broken


@functools.lru_cache(maxsize=2)
def _open(archive: Path) -> io.FileIO:
    return io.FileIO(archive)


def _pread(archive: Path, size: int, offset: int) -> bytes:
    # pread leaves no position behind, so threads and forked workers may share the handle.
    return os.pread(_open(archive).fileno(), size, offset)
