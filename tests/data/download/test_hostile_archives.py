"""Archives as an enemy would make them, and as damage does."""

import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgjax.data.download.archives import Limits, is_archive, unpack
from ecgjax.errors import UserError
from tests.data.download.made_archives import NOISE, attempt, contents, make_tar, make_zip, split_zip


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../evil", "..", "C:\\evil", "\\\\host\\x", "a/\x01b", "x\n"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_climbing_paths(tmp_path: Path, out: Path, kind: str, name: str) -> None:
    members = {"good/a": b"1", name: b"evil"}
    path = make_zip(tmp_path / "a.zip", members) if kind == "zip" else make_tar(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match="unsafe file name"):
        unpack([path], out)
    assert contents(tmp_path).keys() == {path.name}, "nothing was written, not even the good one"


def special(kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo("records/link")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar(tmp_path: Path, out: Path, kind: bytes) -> None:
    path = make_tar(tmp_path / "records.tar.gz", [special(kind)], "w:gz")
    with pytest.raises(UserError, match=r"records.tar.gz: 'records/link' is a link, device or sparse file; expected"):
        unpack([path], out)
    assert contents(out) == {}


def test_links_in_zip(tmp_path: Path, out: Path) -> None:
    info = zipfile.ZipInfo("a/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(UserError, match="a link or device"):
        unpack([tmp_path / "a.zip"], out)


def test_modes_are_ordinary(tmp_path: Path, out: Path) -> None:
    info = tarfile.TarInfo("x/run")
    info.mode, info.uid, info.size = 0o6777, 12345, 1
    unpack([make_tar(tmp_path / "x.tar", [info])], out)
    reference = tmp_path / "reference"
    reference.write_bytes(b"")
    found = (out / "x/run").stat()
    assert (found.st_mode, found.st_uid) == (reference.stat().st_mode, os.getuid())
    assert not found.st_mode & 0o7111


def test_bombs(tmp_path: Path, out: Path) -> None:
    limits = Limits(ratio=100, exempt=1_000_000, total=10_000_000, members=50)
    flat = make_zip(tmp_path / "flat.zip", {"x/zeros": bytes(2_000_000)})
    many = make_zip(tmp_path / "many.zip", {f"x/{i}": b"" for i in range(51)})
    nested = make_zip(
        tmp_path / "nested.zip", {"x/a.zip": make_zip(tmp_path / "a.zip", {"zeros": bytes(1_500_000)}).read_bytes()}
    )
    gz = make_tar(tmp_path / "flat.tar.gz", {"x/zeros": bytes(2_000_000)}, "w:gz")
    for path in (flat, many, nested, gz):
        with pytest.raises(UserError, match="refused as a bomb"):
            unpack([path], out / path.name, limits=limits)
    assert "zeros" not in {Path(name).name for name in contents(out)}
    assert unpack([make_zip(tmp_path / "fine.zip", {"x": bytes(900_000)})], out / "fine", limits=limits)
    stored = tmp_path / "large.zip"
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("x", NOISE * 300)
    with pytest.raises(UserError, match=r"more than 10.0 MB or 50 files"):
        unpack([stored], out / "large", limits=limits)


def test_overlapping_members(tmp_path: Path, out: Path) -> None:
    """Many directory entries for the same bytes, as in the bombs of D. Fifield."""
    path = make_zip(tmp_path / "a.zip", {"x/0": NOISE})
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    start = struct.unpack_from("<L", content, end + 16)[0]
    entry = content[start:end]
    entries = b"".join(entry.replace(b"x/0", f"x/{i}".encode()) for i in range(9))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(entries), start, 0)
    path.write_bytes(content[:start] + entries + tail)
    with pytest.raises(UserError, match=r"a.zip: .*(overlap|damaged)"):
        unpack([path], out)
    assert contents(out) == {}


def test_sizes_that_lie(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"x/0": bytes(100_000)})
    content = path.read_bytes()
    for found, declared in ((100_000, 99_000), (100_000, 101_000)):
        path.write_bytes(content.replace(struct.pack("<L", found), struct.pack("<L", declared)))
        with pytest.raises(UserError, match=r"^a.zip: "):
            unpack([path], out)
        assert contents(out) == {}, "neither whole nor in part"


def test_duplicates_and_files_that_are_folders(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x/a", b"2")
    with pytest.raises(UserError, match="'x/a' occurs twice"):
        unpack([tmp_path / "a.zip"], out)
    with pytest.raises(UserError, match="'x/a' is both a file and a folder"):
        unpack([make_zip(tmp_path / "b.zip", {"x/a": b"1", "x/a/b": b"2"})], out)


def test_encrypted(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"x": b"1"})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        unpack([path], out)


def test_compression_of_another_kind(tmp_path: Path, out: Path) -> None:
    """Windows writes Deflate64 for large members."""
    path = make_zip(tmp_path / "a.zip", {"x": b"1"})
    content = bytearray(path.read_bytes())
    content[8] = content[content.index(b"PK\1\2") + 10] = 9
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.zip: .*compression.*unpack it by hand, for example with 7z x"):
        unpack([path], out)


@pytest.mark.parametrize("content", [b"", b"PK", b"<html>sign in</html>", NOISE, bytes(10_240), b"\x1f\x8b\x08\x00"])
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_no_archive(tmp_path: Path, out: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    files, message = attempt([tmp_path / name], out)
    assert files == []
    assert "\n" not in message
    if message:
        assert message.startswith(f"{name}: damaged archive")
    else:
        assert content in (b"", bytes(10_240)), "an empty tar is no more than zeros"


def test_a_tar_header_that_wants_all_memory(tmp_path: Path, out: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 50 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    with pytest.raises(UserError, match="damaged archive"):
        unpack([tmp_path / "a.tar.gz"], out)


def test_damage_is_found(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/a", NOISE)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.zip: damaged archive \(.*CRC.*\); delete it and start again"):
        unpack([path], out)
    assert contents(out) == {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(min_size=1, max_size=12).filter(lambda name: "\0" not in name and not is_archive(name)),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_fuzz_names(tmp_path: Path, names: list[str]) -> None:
    """Whatever the names: everything is below the folder, or nothing was written."""
    folder = tmp_path / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "a.zip"
    try:
        make_zip(path, dict.fromkeys(names, b"1"))
    except (UnicodeEncodeError, ValueError):
        return
    files, message = attempt([path], folder / "in" / "out")
    assert "\n" not in message
    assert set(contents(folder)) == {"a.zip"} | {f"in/out/{name}" for name, _ in files}
    assert not (files and message)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["zip", "tar", "tgz", "split"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 10**6),
)
def test_fuzz_bytes(tmp_path_factory, tmp_path: Path, kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    """Damaged archives give an error of one line, and never a file outside."""
    folder = tmp_path / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    members = {"x/a": b"abc" * 50, "x/b": NOISE[:300]}
    if kind == "zip":
        parts = [make_zip(folder / "a.zip", members)]
    elif kind == "split":
        parts = split_zip(make_zip(folder / "a.zip", members), [150])
    else:
        parts = [make_tar(folder / f"a.{kind}", members, "w" if kind == "tar" else "w:gz")]
    content = bytearray(parts[-1].read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    parts[-1].write_bytes(content[: len(content) - cut % 7 * (cut % len(content)) // 7])
    limits = Limits(exempt=1 << 20, total=1 << 20)
    _, message = attempt(parts, folder / "in" / "out", limits=limits)
    assert "\n" not in message
    outside = set(contents(folder)) - {part.name for part in parts}
    assert all(name.startswith("in/out/") for name in outside)


def test_zlib_is_not_fooled_by_crc(tmp_path: Path, out: Path) -> None:
    """A file of the same size that an earlier attempt did not write is replaced."""
    path = make_zip(tmp_path / "x.zip", {"a": b"right"})
    out.mkdir()
    (out / "a").write_bytes(b"wrong")
    assert zlib.crc32(b"wrong") != zlib.crc32(b"right")
    unpack([path], out)
    assert (out / "a").read_bytes() == b"right"
