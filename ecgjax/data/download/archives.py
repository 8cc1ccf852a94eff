"""Unpacks archives of unknown makers: zip, split zip, tar, tar.gz, and archives within them.

Only ordinary files come out, with ordinary modes, below the given folder; links, devices, climbing paths, encrypted or
overlapping members and bombs are refused before anything is written. A killed unpacking goes on where it stopped.
"""

import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ecgjax.data.download.display import in_words
from ecgjax.data.download.remote_file import safe_name
from ecgjax.data.download.split_zip import JoinedZip
from ecgjax.errors import UserError, disk_errors

_CHUNK = 1 << 20
_LONGEST_READ = 64 << 20  # bytes at once; a tar header may ask for any number of them
_SPARE = 256 << 20  # bytes of the disk that stay free
_MAC_LEFTOVERS = {"__MACOSX", ".DS_Store"}
_DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    OverflowError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may turn into.

    Attributes:
        ratio: bytes that may come out of one byte; recordings give 2 to 10.
        exempt: bytes that may come out of any archive, however small.
        total: bytes that may come out in all.
        members: number of members.
        depth: archives within archives.
    """

    ratio: int = 100
    exempt: int = 256 << 20
    total: int = 2 << 40
    members: int = 2_000_000
    depth: int = 3


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    crc: int | None
    open: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked; parts of a split zip count, single compressed files do not."""
    return re.search(r"[^/]\.(zip|z\d\d|tar|tar\.gz|tgz)$", name.lower()) is not None


def grouped(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The archives among `names`: each a tuple of one, or of the parts of a split zip with NAME.zip last."""
    archives = []
    for name in sorted(names):
        if not is_archive(name) or re.search(r"\.z\d\d$", name.lower()):
            continue
        stem = name[:-4].lower()
        parts = [other for other in names if re.fullmatch(re.escape(stem) + r"\.z\d\d", other.lower())]
        archives.append((*sorted(parts, key=str.lower), name) if name.lower().endswith(".zip") else (name,))
    return archives


def unpack(
    parts: Sequence[Path],
    folder: Path,
    report: Callable[[int], None] = lambda count: None,
    limits: Limits = Limits(),
) -> list[tuple[str, int]]:
    """Unpacks an archive below `folder`, where only an earlier attempt at the same archive may have left something.

    A single folder or file at the top stays there; several go into a folder with the archive's name.

    Args:
        parts: the archive; or the parts of a split zip, the .zip last.
        folder: where to.
        report: is told how many more bytes are unpacked.
        limits: of what comes out.

    Returns:
        Path relative to `folder` and size of each file.

    Raises:
        UserError: the archive is damaged, hostile or too large for the disk.
    """
    size = sum(part.stat().st_size for part in parts)
    allowed = min(limits.total, max(limits.exempt, limits.ratio * size))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files, _ = _unpack(parts, folder, allowed, limits, limits.depth, report)
    return sorted(files.items())


def _unpack(
    parts: Sequence[Path], folder: Path, allowed: int, limits: Limits, depth: int, report: Callable[[int], None]
) -> tuple[dict[str, int], int]:
    """Files by name with sizes, and the number of bytes that may still come out."""
    label = parts[-1].name
    with _problems(label), _opened(parts) as members:
        chosen = _checked(members, label, allowed, limits)
        prefix = _prefix(chosen, label)
        _check_space(chosen, folder / prefix, label)
        for name, member in chosen.items():
            _extract(member, folder / prefix / name, label, report)
    files = {prefix + name: member.size for name, member in chosen.items()}
    allowed -= sum(files.values())
    for inner in grouped(list(files)):
        if depth <= 1:
            raise UserError(f"{label}: more than {limits.depth} archives within each other; expected recordings")
        paths = [folder / name for name in inner]
        place = PurePosixPath(inner[-1]).parent
        found, allowed = _unpack(paths, folder / place, allowed, limits, depth - 1, report)
        for path, name in zip(paths, inner, strict=True):
            path.unlink()
            del files[name]
        files.update((str(place / name), size) for name, size in found.items())
    return files, allowed


@contextmanager
def _problems(label: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(f"{label}: {error}; unpack it by hand, for example with 7z x") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{label}: damaged archive ({reason!a}); delete it and start again") from error


@contextmanager
def _opened(parts: Sequence[Path]) -> Iterator[Iterator[_Member]]:
    if parts[-1].name.lower().endswith(".zip"):
        with JoinedZip(parts) if len(parts) > 1 else open(parts[0], "rb") as file, zipfile.ZipFile(file) as archive:
            yield _zip_members(archive, parts)
    else:
        with open(parts[0], "rb") as file:
            # By content: the .tar.gz of SPH is not compressed.
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            plain: IO[bytes] = gzip.GzipFile(fileobj=file) if compressed else file  # type: ignore[assignment]
            with tarfile.open(fileobj=_Careful(plain), mode="r:") as tar:
                yield _tar_members(tar, parts[0].name)


def _zip_members(archive: zipfile.ZipFile, parts: Sequence[Path]) -> Iterator[_Member]:
    packed, size = 0, sum(part.stat().st_size for part in parts)
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise UserError(f"{parts[-1].name}: {info.filename!a} is encrypted; expected an open archive")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{parts[-1].name}: {info.filename!a} is a link or device; expected files")
        packed += info.compress_size
        if packed > size:
            raise UserError(f"{parts[-1].name}: its members overlap; expected an ordinary archive")
        if not info.is_dir() and kind != stat.S_IFDIR:
            yield _Member(info.filename, info.file_size, info.CRC, partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile, label: str) -> Iterator[_Member]:
    def contents(info: tarfile.TarInfo) -> IO[bytes]:
        file = archive.extractfile(info)
        if file is None:
            raise tarfile.ReadError(info.name)
        return file

    for info in archive:
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise UserError(f"{label}: {info.name!a} is a link, device or sparse file; expected ordinary files")
        yield _Member(info.name, info.size, None, partial(contents, info))


class _Careful(io.RawIOBase):
    """A file that refuses to read more at once than memory holds."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.name = ""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _checked(members: Iterator[_Member], label: str, allowed: int, limits: Limits) -> dict[str, _Member]:
    """The members to unpack, by safe name."""
    chosen: dict[str, _Member] = {}
    total = 0
    for count, member in enumerate(members, 1):
        total += member.size
        if member.size < 0 or total > allowed or count > limits.members:
            raise UserError(
                f"{label}: would unpack to more than {in_words(allowed)} or {limits.members:,} files; refused as a bomb"
            )
        name = safe_name(member.name, label)
        if _MAC_LEFTOVERS.intersection(name.split("/")):
            continue
        if name in chosen:
            raise UserError(f"{label}: {name!a} occurs twice; expected each file once")
        chosen[name] = member
    for name in chosen:
        for parent in PurePosixPath(name).parents:
            if str(parent) in chosen:
                raise UserError(f"{label}: {str(parent)!a} is both a file and a folder")
    return chosen


def _prefix(names: Sequence[str] | dict[str, _Member], label: str) -> str:
    tops = {name.split("/")[0] for name in names}
    stem = re.sub(r"\.(zip|tar|tar\.gz|tgz)$", "", label, flags=re.IGNORECASE)
    return "" if len(tops) <= 1 or stem in tops else f"{stem}/"


def _check_space(members: dict[str, _Member], folder: Path, label: str) -> None:
    needed = sum(member.size for name, member in members.items() if _size(folder / name) != member.size)
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if needed + _SPARE > free:
        raise UserError(
            f"{label}: unpacking needs {in_words(needed + _SPARE)} in {place}, {in_words(free)} are free; free space "
            "and start the same command again"
        )


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _extract(member: _Member, target: Path, label: str, report: Callable[[int], None]) -> None:
    if _size(target) == member.size and (member.crc is None or _crc(target) == member.crc):
        report(member.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.part")
    written = 0
    try:
        with member.open() as source, open(temporary, "wb") as sink:
            while piece := source.read(min(_CHUNK, member.size - written + 1)):
                written += len(piece)
                if written > member.size:
                    break
                sink.write(piece)
                report(len(piece))
        if written != member.size:
            raise UserError(f"{label}: {member.name!a} has not the {member.size:,} bytes that it should have")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _crc(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            crc = zlib.crc32(piece, crc)
    return crc
