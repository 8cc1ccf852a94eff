"""Archives as the publishers make them."""

import os
import shutil
import struct
from collections import namedtuple
from pathlib import Path

import pytest

from ecgjax.data.download import archives
from ecgjax.data.download.archives import grouped, is_archive, unpack
from ecgjax.errors import UserError
from tests.data.download.made_archives import NOISE, contents, make_tar, make_zip, split_zip


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
