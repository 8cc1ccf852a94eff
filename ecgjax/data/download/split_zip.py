"""A zip archive in several parts (NAME.z01, NAME.z02, ..., NAME.zip) seen as one ordinary archive.

The parts are one file cut in pieces, except that the directory at its end counts offsets from the beginning of the part
in which a member lies (APPNOTE.TXT 6.3, sections 4.3.16 and 4.4.1.5). The view below keeps the bytes of all parts up to
the directory and puts a directory with offsets from the beginning behind them, so that `zipfile` reads it.
"""

import io
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

from ecgjax.errors import UserError

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_LONGEST_COMMENT = 1 << 16
_LONGEST_DIRECTORY = 1 << 30


class JoinedZip(io.RawIOBase):
    """Read-only file over the parts, in order; the last is the .zip.

    Raises:
        UserError: the parts are not those of one archive.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        super().__init__()
        self._name = parts[-1].name
        self._files = [part.open("rb") for part in parts]
        sizes = [part.stat().st_size for part in parts]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._data = sum(sizes)
        self._tail, self._position = b"", 0
        try:
            directory_start, directory = self._directory(sizes[-1])
            self._tail = _rewritten(directory, self._absolute, directory_start, self._name)
        except struct.error as error:
            self.close()
            raise self._damaged() from error
        except UserError:
            self.close()
            raise
        self._data = directory_start

    def _directory(self, last: int) -> tuple[int, bytes]:
        tail_start = self._data - min(last, _LONGEST_COMMENT + _END.size)
        tail = self._slice(tail_start, self._data - tail_start)
        found = tail.rfind(b"PK\5\6")
        if found < 0:
            raise self._damaged()
        _, disk, first_disk, _, _, size, offset, _ = _END.unpack_from(tail, found)
        if disk not in (len(self._files) - 1, _FULL16):
            raise UserError(f"{self._name}: has {disk + 1} parts, found {len(self._files)}; expected .z01, .z02, ...")
        locator = tail_start + found - _END64_LOCATOR.size
        if locator >= 0 and self._slice(locator, 4) == b"PK\6\7":
            _, disk64, offset64, _ = _END64_LOCATOR.unpack(self._slice(locator, _END64_LOCATOR.size))
            record = self._slice(self._absolute(disk64, offset64), _END64.size)
            _, _, _, _, _, first_disk, _, _, size, offset = _END64.unpack(record)
        start = self._absolute(first_disk, offset)
        if size > _LONGEST_DIRECTORY or start + size > self._data:
            raise self._damaged()
        return start, self._slice(start, size)

    def _absolute(self, disk: int, offset: int) -> int:
        if disk >= len(self._starts):
            raise self._damaged()
        return self._starts[disk] + offset

    def _damaged(self) -> UserError:
        return UserError(f"{self._name}: damaged; expected the last part of a split zip archive")

    def _slice(self, start: int, size: int) -> bytes:
        """Bytes of the parts, fewer at the end; damaged archives may ask for any."""
        pieces = []
        while size > 0 and 0 <= start < self._data:
            number = bisect_right(self._starts, start) - 1
            end = self._starts[number + 1] if number + 1 < len(self._starts) else self._data
            self._files[number].seek(start - self._starts[number])
            piece = self._files[number].read(min(size, end - start))
            if not piece:
                break
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._data + len(self._tail)}[whence]
        if base + offset < 0:
            raise OSError(22, "negative seek position")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._data + len(self._tail)
        size = max(0, end - self._position) if size is None or size < 0 else size
        content = self._slice(self._position, min(size, self._data - self._position))
        if self._position + len(content) >= self._data:
            skip = self._position + len(content) - self._data
            content += self._tail[skip : skip + size - len(content)]
        self._position += len(content)
        return content

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


def _rewritten(directory: bytes, absolute: Callable[[int, int], int], start: int, name: str) -> bytes:
    """The directory with offsets from the beginning, and the records that end an archive."""
    entries, position = [], 0
    while position < len(directory):
        fields = list(_ENTRY.unpack_from(directory, position))
        if fields[0] != b"PK\1\2":
            raise UserError(f"{name}: damaged directory; expected a split zip archive")
        name_length, extra_length, comment_length = fields[10:13]
        body = position + _ENTRY.size
        path = directory[body : body + name_length]
        extra = directory[body + name_length : body + name_length + extra_length]
        position = body + name_length + extra_length + comment_length
        packed, size, disk, offset = fields[8], fields[9], fields[13], fields[16]
        extra, (size, packed, offset, disk) = _without_zip64(extra, size, packed, offset, disk)
        place = absolute(disk, offset)
        large = struct.pack("<2H3Q", 1, 24, size, packed, place)
        fields[8] = fields[9] = fields[16] = _FULL32
        fields[10], fields[11], fields[12], fields[13] = name_length, len(large) + len(extra), 0, 0
        entries.append(_ENTRY.pack(*fields) + path + large + extra)
    content = b"".join(entries)
    end = start + len(content)
    count = len(entries)
    return (
        content
        + _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, len(content), start)
        + _END64_LOCATOR.pack(b"PK\6\7", 0, end, 1)
        + _END.pack(b"PK\5\6", 0, 0, min(count, _FULL16), min(count, _FULL16), _FULL32, _FULL32, 0)
    )


def _without_zip64(
    extra: bytes, size: int, packed: int, offset: int, disk: int
) -> tuple[bytes, tuple[int, int, int, int]]:
    """The extra field less its 64-bit numbers, and these in place of the ones that did not fit."""
    kept, position = b"", 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        block = extra[position : position + 4 + length]
        position += 4 + length
        if kind != 1:
            kept += block
            continue
        at = 4
        if size == _FULL32:
            (size,), at = struct.unpack_from("<Q", block, at), at + 8
        if packed == _FULL32:
            (packed,), at = struct.unpack_from("<Q", block, at), at + 8
        if offset == _FULL32:
            (offset,), at = struct.unpack_from("<Q", block, at), at + 8
        if disk == _FULL16:
            (disk,) = struct.unpack_from("<L", block, at)
    return kept, (size, packed, offset, disk)
