"""The zip's directory and members against the standard library's reader, in every form that zip files come in."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgjax.data.sources import mimic_zip
from ecgjax.errors import UserError

RECORD = "a/files/p1000/p10000032/s{0}/{0}"


def pack(path: Path, studies: int, method: int = zipfile.ZIP_DEFLATED, target=None) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    content = {"a/LICENSE.txt": b"x", "a/record_list.csv": b"study_id\n1\n"}
    for study in rng.permutation(studies):
        for kind in rng.permutation(["hea", "dat"]):
            content[RECORD.format(40_000_000 + study) + f".{kind}"] = rng.bytes(int(rng.integers(1, 900)))
    with zipfile.ZipFile(target or path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return content


def check(path: Path, content: dict[str, bytes]) -> None:
    directory = mimic_zip.members(path)
    names = sorted(name for name in content if name.endswith(".hea"))
    assert directory.study.tolist() == [int(Path(name).stem) for name in names]
    with zipfile.ZipFile(path) as archive:
        for name, place in zip(names, directory.places.tolist(), strict=True):
            for member, offset, packed in ((name, *place[:2]), (name[:-3] + "dat", *place[2:])):
                info = archive.getinfo(member)
                assert (info.header_offset, info.compress_size) == (offset, packed)
                assert mimic_zip.member(path, Path(member).name, offset, packed) == content[member]
    assert mimic_zip.table(path, "record_list.csv", directory) == b"study_id\n1\n"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_deflated_and_stored(tmp_path, method):
    check(tmp_path / "x.zip", pack(tmp_path / "x.zip", 20, method))


def test_zip64_fields(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)
    content = pack(tmp_path / "x.zip", 20)
    assert b"PK\6\6" in (tmp_path / "x.zip").read_bytes()
    check(tmp_path / "x.zip", content)


def test_more_members_than_16_bits_count(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for study in range(33_000):
            for kind in ("hea", "dat"):
                archive.writestr(RECORD.format(study) + f".{kind}", b"")
    assert mimic_zip.members(path).study.tolist() == list(range(33_000))


def test_written_to_a_pipe(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self, file):
            self.file = file

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

    with open(tmp_path / "x.zip", "wb") as file:
        content = pack(tmp_path / "x.zip", 20, target=Pipe(file))
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert all(info.flag_bits & 8 for info in archive.infolist())
    check(tmp_path / "x.zip", content)


def test_keys_and_what_is_missing(tmp_path):
    pack(tmp_path / "x.zip", 3)
    directory = mimic_zip.members(tmp_path / "x.zip")
    names = ["s40000001/40000001", "s7/7", "s99999999/99999999"]
    keys = mimic_zip.keys("sub/x.zip", names, np.array([40_000_001, 7, 99_999_999]), directory)
    assert keys[0].startswith("sub/x.zip#s40000001/40000001@")
    assert keys[1:] == ["sub/x.zip#s7/7", "sub/x.zip#s99999999/99999999"]
    with pytest.raises(UserError, match=r"x.zip: no s7/7.hea and .dat; expected both"):
        mimic_zip.read(tmp_path / "x.zip", "s7/7")


def test_another_zip_at_the_same_path_is_noticed(tmp_path):
    content = pack(tmp_path / "x.zip", 3)
    offset, packed, *_ = mimic_zip.members(tmp_path / "x.zip").places[0].tolist()
    for name, at in (("40000001.hea", offset), ("40000000.hea", offset + 1), ("40000000.hea", 10**9)):
        with pytest.raises(UserError, match="was the zip replaced meanwhile"):
            mimic_zip.member(tmp_path / "x.zip", name, at, packed)
    assert content[RECORD.format(40_000_000) + ".hea"] == mimic_zip.member(
        tmp_path / "x.zip", "40000000.hea", offset, packed
    )


def test_encrypted_bombs_and_other_methods_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dat", bytes(2**25))
        info = archive.getinfo("bomb.dat")
    with pytest.raises(UserError, match=r"bomb.dat has more than 16777216 bytes"):
        mimic_zip.member(path, "bomb.dat", info.header_offset, info.compress_size)
    with pytest.raises(UserError, match="expected at most 16777216"):
        mimic_zip.member(path, "bomb.dat", 0, 2**40)
    for at, value in ((6, 1), (8, 12)):
        content = bytearray(path.read_bytes())
        content[at] = value
        other = tmp_path / f"{at}.zip"
        other.write_bytes(content)
        with pytest.raises(UserError, match="encrypted or packed by method"):
            mimic_zip.member(other, "bomb.dat", info.header_offset, info.compress_size)


def test_no_records_in_the_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/b.hea", b"")
    with pytest.raises(UserError, match=r"no member p10000032/s40689238/40689238.hea"):
        mimic_zip.members(tmp_path / "x.zip")


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_zips_give_the_content_or_an_error(tmp_path, data):
    whole = tmp_path / "whole.zip"
    if not whole.exists():
        pack(whole, 3)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content) - 1, len(content) // 2, 0]))]
    path = tmp_path / f"{data.draw(st.integers(0, 10**9))}.zip"
    path.write_bytes(content)
    try:
        directory = mimic_zip.members(path)
        for study, place in zip(directory.study.tolist(), directory.places.tolist(), strict=True):
            mimic_zip.member(path, f"{study}.hea", *place[:2])
    except UserError:
        pass
    finally:
        path.unlink()
