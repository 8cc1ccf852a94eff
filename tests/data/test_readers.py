"""What is, and what is not, a recording."""

import pytest

from ecgjax.data.readers import find_recordings, read_recording
from ecgjax.errors import UserError
from tests.data import wfdb_files

SUPPORTED = r"DICOM ECG waveform \(\.dcm\), WFDB \(\.hea with \.dat or \.mat\), GE MUSE XML, .*CSV of leads"


def test_folder_missing_and_unknown(tmp_path):
    with pytest.raises(UserError, match=rf"is a folder; expected one recording, as {SUPPORTED}"):
        read_recording(tmp_path)
    with pytest.raises(UserError, match=r"nothing\.hea: no such file"):
        read_recording(tmp_path / "nothing.hea")
    with pytest.raises(UserError, match=rf"nothing: no such file; expected a recording, as {SUPPORTED}"):
        read_recording(tmp_path / "nothing")
    for name in ("x.pdf", "x", "lonely.mat", "lonely.dat"):
        (tmp_path / name).write_bytes(b"?" * 200)
        with pytest.raises(UserError, match=rf"{name}: not a supported recording; expected {SUPPORTED}"):
            read_recording(tmp_path / name)
    (tmp_path / "x.dcm").write_bytes(b"?" * 200)
    with pytest.raises(UserError, match=r"x\.dcm: damaged or not a DICOM file"):
        read_recording(tmp_path / "x.dcm")


def test_recordings_are_found_in_subfolders_in_order(tmp_path):
    for folder, name in (("b", "r2"), ("a", "r3"), ("a", "r1")):
        wfdb_files.challenge(tmp_path / folder, name, wfdb_files.bits(20))
    (tmp_path / "a" / "notes.txt").write_text("no recording")
    (tmp_path / "a" / "IM1").write_bytes(b"\0" * 128 + b"DICM")
    assert [str(path.relative_to(tmp_path)) for path in find_recordings(tmp_path)] == [
        "a/IM1", "a/r1.hea", "a/r3.hea", "b/r2.hea",
    ]  # fmt: skip
