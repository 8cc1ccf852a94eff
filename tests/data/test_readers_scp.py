"""SCP-ECG: written by biosig-tools (version 3), and by hand (version 2), which biosig-tools reads back alike."""

import shutil
import struct

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.conftest import GOLDEN
from tests.data import wfdb_files, wild_files
from tests.data.make_wild_goldens import STEP, convert, write_edf

pytest.importorskip("ecgdatakit", reason="the extra 'formats' is not installed")

BITS = wfdb_files.bits(300) // 3
needs_biosig = pytest.mark.skipif(
    not shutil.which("save2gdf"), reason="save2gdf (Debian's biosig-tools) is not installed"
)


def test_file_of_biosig():
    recording = read_recording(GOLDEN / "wild" / "synthetic.scp")
    bits = np.load(GOLDEN / "wild" / "synthetic.npz")["bits"]
    # biosig rounds the step of 2500 nV up to 2501.
    np.testing.assert_allclose(recording.signal, bits * (STEP / 1000), atol=0.02)
    np.testing.assert_allclose(recording.signal, bits * 2.501e-3, atol=1e-6)
    assert recording.sampling_rate == 500
    assert recording.microvolt_per_bit == pytest.approx(2.501)


@needs_biosig
def test_genuine_recording_by_biosig(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm", download=False))
    bits = np.frombuffer(dataset.WaveformSequence[0].WaveformData, "<i2").reshape(-1, 12)
    write_edf(tmp_path / "x.edf", bits, 1000.0, 1.25)
    convert(tmp_path / "x.edf", tmp_path / "x.scp", "SCP3")
    recording = read_recording(tmp_path / "x.scp")
    np.testing.assert_allclose(recording.signal, dataset.waveform_array(0) / 1000, atol=0.02)  # 20 uV
    assert recording.sampling_rate == 1000


ENCODINGS = [(order, huffman) for order in (0, 1, 2) for huffman in (False, True)]


@pytest.mark.parametrize(("order", "huffman"), ENCODINGS)
def test_differences_and_huffman_codes(tmp_path, order, huffman):
    recording = read_recording(wild_files.scp(tmp_path / "x.scp", BITS, order=order, huffman=huffman))
    np.testing.assert_allclose(recording.signal, BITS * 2.5e-3, atol=1e-6)
    assert recording.sampling_rate == 500
    assert recording.microvolt_per_bit == 2.5
    assert recording.metadata == {"age": 49, "sex": "female", "statements": [], "measurements": {}}


@needs_biosig
@pytest.mark.parametrize(("order", "huffman"), ENCODINGS)
def test_hand_made_files_are_what_biosig_takes_them_for(tmp_path, order, huffman):
    # Of whole seconds, because biosig pads the last record of an EDF file.
    bits = np.concatenate([BITS, BITS[:200]])
    convert(wild_files.scp(tmp_path / "x.scp", bits, order=order, huffman=huffman), tmp_path / "x.edf", "EDF")
    other, ours = read_recording(tmp_path / "x.edf"), read_recording(tmp_path / "x.scp")
    np.testing.assert_allclose(other.signal, ours.signal, atol=1e-4)
    assert other.sampling_rate == ours.sampling_rate == 500


def test_other_leads_rates_and_suffixes(tmp_path):
    names = ("V1", "II", "I")
    path = wild_files.scp(tmp_path / "x", BITS[:, :3], names=names, interval=3333, step=1000)
    recording = read_recording(path)
    assert recording.sampling_rate == 300
    assert recording.derived == ("III", "aVR", "aVL", "aVF")
    assert recording.missing == CANONICAL[7:]
    for i, name in enumerate(names):
        np.testing.assert_allclose(recording.signal[:, CANONICAL.index(name)], BITS[:, i] * 1e-3, atol=1e-6)


def test_leads_of_different_times_are_nan_elsewhere(tmp_path):
    ranges = [(1, 300)] * 6 + [(1, 150)] * 3 + [(151, 300)] * 3
    recording = read_recording(wild_files.scp(tmp_path / "x.scp", BITS, ranges=ranges))
    expected = BITS * 2.5e-3
    expected[150:, 6:9] = np.nan
    expected[:150, 9:] = np.nan
    np.testing.assert_allclose(recording.signal, expected, atol=1e-6)


def refused(path, message):
    with pytest.raises(UserError, match=rf"x\.scp: .*{message}"):
        read_recording(path)


def test_what_is_not_supported_is_refused(tmp_path):
    path = tmp_path / "x.scp"
    refused(wild_files.scp(path, BITS, flags=5), "reference beats are subtracted")
    refused(wild_files.scp(path, BITS, bimodal=1), "bimodal compression")
    content = wild_files.scp(path, BITS, huffman=True).read_bytes()
    path.write_bytes(content.replace(struct.pack("<H", 19999), struct.pack("<H", 1), 1))
    refused(path, "Huffman tables of its own; expected the default table")
    refused(wild_files.scp(path, BITS, step=0), "0 nV per bit and 2000 us per sample")
    refused(wild_files.scp(path, BITS, interval=0), "2500 nV per bit and 0 us per sample")


def test_what_is_declared_is_checked_before_it_is_believed(tmp_path):
    path = wild_files.scp(tmp_path / "x.scp", BITS, huffman=True, order=2)
    content = path.read_bytes()
    at = content.index(struct.pack("<IIB", 1, 300, 1))
    for end, message in ((2**32 - 1, "12 leads up to sample 4294967295"), (600_000, "damaged, lead I has .* bytes for"),
                         (0, "lead I is from sample 1 to 0")):  # fmt: skip
        path.write_bytes(content[: at + 4] + struct.pack("<I", end) + content[at + 8 :])
        refused(path, message)
    path.write_bytes(content[:-100])
    refused(path, "truncated, it has")
    without = wild_files.write_scp(tmp_path / "x.scp", {1: b"\xff\0\0", 3: b"\1\0" + bytes(9)})
    refused(without, "no rhythm; expected SCP-ECG with Section 6 or 12")
    section = struct.pack("<IBIB", 500, 12, 2**31, 2) + bytes(60) + bytes(48)
    refused(wild_files.write_scp(path, {12: section}, version=29), "12 leads of 2147483648 samples")
    section = struct.pack("<IBIB", 500, 12, 100, 2) + bytes(60) + struct.pack("<BHB", 1, 2500, 0) * 12
    refused(wild_files.write_scp(path, {12: section}, version=29), "truncated, Section 12 holds 0 bytes")
    section = struct.pack("<IBIB", 500, 12, 100, 3) + bytes(60)
    refused(wild_files.write_scp(path, {12: section}, version=29), "samples of 3 bytes")
