"""Archives as the publishers make them, and as an enemy would."""

import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgjax.data.download import archives
from ecgjax.data.download.archives import Limits, grouped, is_archive, unpack
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


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_names() -> None:
    yes = ["a.zip", "a.ZIP", "a.z01", "a.tar", "records.tar.gz", "x.tgz", "exams_part0.hdf5.zip"]
    no = [".zip", "a/.tar", "labevents.csv.gz", "a.gz", "a.7z", "a.zip.part", "a.z1", "zip", "a.hdf5"]
    assert all(map(is_archive, yes))
    assert not any(map(is_archive, no))
    names = ["Child_ecg.zip", "Child_ecg.z02", "Child_ecg.z01", "other.zip", "lone.z01", "a.csv", "sub/Child_ecg.z01"]
    assert grouped(names) == [("Child_ecg.z01", "Child_ecg.z02", "Child_ecg.zip"), ("other.zip",)]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tgz", "plain tar.gz"])
def test_formats(tmp_path: Path, out: Path, kind: str) -> None:
    members = {"records/A00001.h5": NOISE, "records/A00002.h5": b"", "records/deep/er/x": b"y"}
    if kind == "zip":
        path = make_zip(tmp_path / "records.zip", members)
    else:
        suffix = kind.removeprefix("plain ")
        path = make_tar(tmp_path / f"records.{suffix}", members, "w" if kind in ("tar", "plain tar.gz") else "w:gz")
    counts: list[int] = []
    files = unpack([path], out, counts.append)
    assert contents(out) == members
    assert files == [("records/A00001.h5", 40_000), ("records/A00002.h5", 0), ("records/deep/er/x", 1)]
    assert sum(counts) == 40_001


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["exams_part0.hdf5"], ["exams_part0.hdf5"]),
        (
            ["ECGData/a.csv", "ECGData/b.csv", "__MACOSX/ECGData/._a.csv", ".DS_Store"],
            ["ECGData/a.csv", "ECGData/b.csv"],
        ),
        (["A00001.h5", "A00002.h5"], ["records/A00001.h5", "records/A00002.h5"]),
        (["records/A.h5", "README"], ["README", "records/A.h5"]),
        (["./x/a", "x/b"], ["x/a", "x/b"]),
        (["x\\a", "x\\b"], ["x/a", "x/b"]),
    ],
)
def test_where_things_go(tmp_path: Path, out: Path, members: list[str], expected: list[str]) -> None:
    path = make_zip(tmp_path / "records.zip", dict.fromkeys(members, b"1"))
    assert [name for name, _ in unpack([path], out)] == expected == sorted(contents(out))


@pytest.mark.parametrize("sizes", [[30_000], [30_000, 50_000], [100], [81_000, 36_000, 1_000]])
def test_split_zip(tmp_path: Path, out: Path, sizes: list[int]) -> None:
    members = {f"Child_ecg/P00/P0000{i}/x.dat": NOISE[i:] + bytes(i) for i in range(3)}
    parts = split_zip(make_zip(tmp_path / "Child_ecg.zip", members), sizes)
    assert len(parts) == len(sizes) + 1
    unpack(parts, out)
    assert contents(out) == members


@pytest.mark.parametrize("last", [22, 60, 200])
def test_split_zip_cut_in_its_directory(tmp_path: Path, out: Path, last: int) -> None:
    members = {f"x/{i}": NOISE[i:] for i in range(3)}
    whole = make_zip(tmp_path / "x.zip", members)
    unpack(split_zip(whole, [whole.stat().st_size + 4 - last]), out)
    assert contents(out) == members


@pytest.mark.parametrize("last", [300, 2_000])
def test_split_zip_with_64_bit_fields(tmp_path: Path, out: Path, last: int) -> None:
    """As written where a part has over 4 GB or the archive over 65,535 members: all numbers in their 64-bit places."""
    members = {f"x/{i}": NOISE[i:] for i in range(3)}
    whole = make_zip(tmp_path / "x.zip", members)
    content = b"PK\7\10" + whole.read_bytes()
    cut, end = len(content) - last, content.rindex(b"PK\5\6")
    at = begin = struct.unpack_from("<L", content, end + 16)[0] + 4
    directory = b""
    while content[at : at + 4] == b"PK\1\2":
        fields = list(struct.unpack_from("<4s6H3L5H2L", content, at))
        name = content[at + 46 : at + 46 + fields[10]]
        part, offset = divmod(fields[16] + 4, cut)
        large = struct.pack("<2H3QL", 1, 28, fields[9], fields[8], offset, part)
        at += 46 + fields[10] + fields[11] + fields[12]
        fields[8] = fields[9] = fields[16] = 0xFFFFFFFF
        fields[11:14] = [len(large) + 4, 0, 0xFFFF]
        directory += struct.pack("<4s6H3L5H2L", *fields) + name + b"UT\0\0" + large
    part, offset = divmod(begin, cut)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 1, part, 3, 3, len(directory), offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 1, begin + len(directory) - cut, 2)
    tail = struct.pack("<4s4H2LH", b"PK\5\6", *[0xFFFF] * 4, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    rebuilt = content[:begin] + directory + record + locator + tail
    (tmp_path / "x.z01").write_bytes(rebuilt[:cut])
    whole.write_bytes(rebuilt[cut:])
    unpack([tmp_path / "x.z01", whole], out)
    assert contents(out) == members


def test_split_zip_of_the_zip_program(tmp_path: Path, out: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("needs the zip program")
    import subprocess

    folder = tmp_path / "Child_ecg"
    for i in range(40):
        (folder / f"P{i:02d}").mkdir(parents=True)
        (folder / f"P{i:02d}" / "x.dat").write_bytes(NOISE[i:] * 1)
    subprocess.run(["zip", "-q", "-s", "64k", "-r", "Child_ecg.zip", "Child_ecg"], cwd=tmp_path, check=True)
    parts = sorted(tmp_path.glob("Child_ecg.z[0-9][0-9]"))
    assert len(parts) > 10
    unpack([*parts, tmp_path / "Child_ecg.zip"], out)
    assert contents(out / "Child_ecg") == contents(folder)


def test_split_zip_with_a_part_missing_or_swapped(tmp_path: Path, out: Path) -> None:
    parts = split_zip(make_zip(tmp_path / "a.zip", {"x/1": NOISE, "x/2": NOISE[::-1]}), [20_000, 20_000])
    with pytest.raises(UserError, match=r"a.zip: has 3 parts, found 2; expected .z01, .z02"):
        unpack(parts[1:], out)
    with pytest.raises(UserError, match=r"a.zip: "):
        unpack([parts[1], parts[0], parts[2]], out)
    with pytest.raises(UserError, match=r"a.zip: "):
        unpack([parts[2]], out)


def test_archives_within_archives(tmp_path: Path, out: Path) -> None:
    inner = make_tar(tmp_path / "inner.tar.gz", {"a/1": NOISE, "a/2": b"2"}, "w:gz")
    parts = split_zip(make_zip(tmp_path / "cut.zip", {"s/1": NOISE}), [20_000])
    middle = make_zip(tmp_path / "middle.zip", {"m/inner.tar.gz": inner.read_bytes(), "m/table.csv.gz": b"kept"})
    members = {"top/middle.zip": middle.read_bytes(), **{f"top/{part.name}": part.read_bytes() for part in parts}}
    path = make_zip(tmp_path / "outer.zip", members)
    files = unpack([path], out)
    expected = {"top/m/a/1": NOISE, "top/m/a/2": b"2", "top/m/table.csv.gz": b"kept", "top/s/1": NOISE}
    assert contents(out) == expected
    assert dict(files) == {name: len(content) for name, content in expected.items()}


def test_too_many_archives_within_archives(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "0.zip", {"x": b""})
    for i in range(1, 5):
        path = make_zip(tmp_path / f"{i}.zip", {path.name: path.read_bytes()})
    with pytest.raises(UserError, match="more than 3 archives within each other"):
        unpack([path], out)


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


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_goes_on_after_an_interruption(tmp_path: Path, out: Path, monkeypatch, kind: str) -> None:
    members = {f"x/{i}": NOISE[i:] for i in range(6)}
    path = make_zip(tmp_path / "x.zip", members) if kind == "zip" else make_tar(tmp_path / "x.tar", members)
    written: list[str] = []

    def stopping(source: Path, target: Path) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(Path(target).name)
        shutil.move(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(KeyboardInterrupt):
        unpack([path], out)
    assert sorted(contents(out)) == ["x/0", "x/1", "x/2"]
    before = {name: (out / name).stat().st_ino for name in contents(out)}
    if kind == "zip":  # tar has no checksums
        (out / "x/1").write_bytes(b"?" * (len(NOISE) - 1))
    written[:] = ["", "", "", ""]  # stops no more
    unpack([path], out)
    assert contents(out) == members
    assert written[4:] == (["1", "3", "4", "5"] if kind == "zip" else ["3", "4", "5"])
    assert (out / "x/0").stat().st_ino == before["x/0"]


def test_disk_space_is_checked_before(tmp_path: Path, out: Path, monkeypatch) -> None:
    path = make_zip(tmp_path / "x.zip", {"x/a": NOISE})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda place: usage(10**9, 0, 256 << 20))
    with pytest.raises(UserError, match=r"x.zip: unpacking needs 268.5 MB in .*, 268.4 MB are free; free space"):
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
