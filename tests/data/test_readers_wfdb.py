"""WFDB records: what a header says is honoured, and what does not fit is refused in one line."""

import os
import re
import socket

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.data import wfdb_files


def test_challenge_mat(tmp_path):
    x = wfdb_files.bits()
    notes = ["# Age: 78", "#Sex: Male", "# Dx: 67741000119109,426177001", "# Rx: Unknown"]
    header = wfdb_files.challenge(tmp_path, "E1", x, notes=notes)
    recording = read_recording(header)
    assert recording.id == "E1"
    assert recording.sampling_rate == 500
    assert recording.signal.dtype == np.float32
    np.testing.assert_array_equal(recording.signal, (x / 1000).astype(np.float32))
    assert recording.derived == recording.missing == ()
    assert recording.present == CANONICAL
    assert recording.microvolt_per_bit == 1.0
    assert recording.metadata["age"] == 78
    assert recording.metadata["sex"] == "male"
    assert recording.metadata["diagnoses"] == ["67741000119109", "426177001"]
    assert recording.metadata["fields"]["Rx"] == "Unknown"
    assert "checksum_mismatches" not in recording.metadata
    for name in ("E1.mat", "E1"):
        np.testing.assert_array_equal(read_recording(tmp_path / name).signal, recording.signal)


@pytest.mark.parametrize(
    ("units", "gain", "step"),
    [
        ("mv", "1000.0(0)", 1.0), ("mV", "200(0)", 5.0), ("uV", "1(0)", 1.0), ("µV", "0.2(0)", 5.0),
        ("V", "1e6(0)", 1.0), (None, "2000", 0.5), ("mV", "1000(100)", 1.0), ("mV", "0", 5.0), ("nV", "0.001(0)", 1.0),
    ],
)  # fmt: skip
def test_units_gain_and_baseline(tmp_path, units, gain, step):
    x = wfdb_files.bits()
    recording = read_recording(wfdb_files.challenge(tmp_path, "r", x, units=units, gain=gain))
    baseline = 100 if "100)" in gain else 0
    np.testing.assert_allclose(recording.signal, (x.astype(float) - baseline) * step / 1000, atol=1e-6)
    assert recording.microvolt_per_bit == pytest.approx(step)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_unit_with_a_real_mu_is_microvolts_not_volts(tmp_path, encoding):
    x = wfdb_files.bits()
    header = wfdb_files.challenge(tmp_path, "r", x, units="µV", gain="1(0)")
    header.write_bytes(header.read_text(encoding="utf-8").encode(encoding))
    np.testing.assert_allclose(read_recording(header).signal, x / 1000, atol=1e-6)


@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212"])
def test_formats(tmp_path, fmt):
    x = np.clip(wfdb_files.bits() // 8, -127, 127)
    recording = read_recording(wfdb_files.dat(tmp_path, "r", x, fmt=fmt))
    np.testing.assert_allclose(recording.signal, x / 1000, atol=1e-6)
    assert "checksum_mismatches" not in recording.metadata


def test_ptb_form_two_files_lower_case_and_crlf(tmp_path):
    x, frank = wfdb_files.bits(), wfdb_files.bits(leads=3)
    (tmp_path / "s1.dat").write_bytes(x.astype("<i2").tobytes())
    (tmp_path / "s1.xyz").write_bytes(frank.astype("<i2").tobytes())
    lines = [
        f"s1 15 1000 {len(x)}",
        *(f"s1.dat 16 2000 16 0 {x[0, i]} 0 0 {lead.lower()}" for i, lead in enumerate(CANONICAL)),
    ]
    lines += [f"s1.xyz 16 2000 16 0 0 0 0 {lead}" for lead in ("vx", "vy", "vz")]
    lines += ["", "# age: 81", "# sex: ", "# Catheterization date: 1", "# Therapy:", "# Catheterization date: 2"]
    (tmp_path / "s1.hea").write_bytes("\r\n".join(lines).encode())
    recording = read_recording(tmp_path / "s1.hea")
    np.testing.assert_array_equal(recording.signal, (x / 2000).astype(np.float32))
    assert recording.sampling_rate == 1000
    assert recording.metadata["other_leads"] == ["vx", "vy", "vz"]
    assert recording.metadata["age"] == 81
    assert "sex" not in recording.metadata
    assert recording.metadata["comments"].count("Catheterization date: 1") == 1
    assert recording.metadata["fields"]["Catheterization date"] == "2"
    # Leads that are not used are not opened either.
    (tmp_path / "s1.xyz").unlink()
    np.testing.assert_array_equal(read_recording(tmp_path / "s1.hea").signal, recording.signal)


def test_eight_leads_in_any_order(tmp_path):
    x, names = wfdb_files.bits(), ("V6", "II", "V5", "I", "V1", "V3", "V2", "V4")
    stored = x[:, [CANONICAL.index(name) for name in names]]
    recording = read_recording(wfdb_files.challenge(tmp_path, "r", stored, names=names))
    np.testing.assert_allclose(recording.signal, x / 1000, atol=1e-6)
    assert recording.derived == ("III", "aVR", "aVL", "aVF")
    assert recording.microvolt_per_bit == 0.5


def test_missing_leads_are_zero_and_named(tmp_path):
    x = wfdb_files.bits()
    recording = read_recording(wfdb_files.challenge(tmp_path, "r", x[:, [1, 6]], names=("II", "V1")))
    assert recording.missing == tuple(lead for lead in CANONICAL if lead not in ("II", "V1"))
    assert not recording.signal[:, 0].any()


def test_invalid_samples_are_nan(tmp_path):
    x = wfdb_files.bits()
    x[5, 3] = -32768
    recording = read_recording(wfdb_files.challenge(tmp_path, "r", x))
    assert np.argwhere(np.isnan(recording.signal)).tolist() == [[5, 3]]


def test_several_samples_per_frame_multiply_the_rate(tmp_path):
    x = wfdb_files.bits(samples=200)
    frames = x.reshape(100, 2, 12).transpose(0, 2, 1)
    (tmp_path / "r.dat").write_bytes(np.ascontiguousarray(frames).astype("<i2").tobytes())
    lines = ["r 12 250 100", *(f"r.dat 16x2 1000/mV 16 0 0 0 0 {lead}" for lead in CANONICAL)]
    (tmp_path / "r.hea").write_text("\n".join(lines))
    recording = read_recording(tmp_path / "r.hea")
    assert recording.sampling_rate == 500
    np.testing.assert_allclose(recording.signal, x / 1000, atol=1e-6)


def test_length_left_open_is_the_files(tmp_path):
    header = wfdb_files.dat(tmp_path, "r", wfdb_files.bits())
    wfdb_files.edit(header, "500 200", "500")
    assert len(read_recording(header).signal) == 200


def test_wrong_checksum_is_noted(tmp_path):
    x = wfdb_files.bits()
    header = wfdb_files.challenge(tmp_path, "r", x)
    wfdb_files.edit(header, f"{wfdb_files.checksum(x[:, 6])} 0 V1", f"{wfdb_files.checksum(x[:, 6]) ^ 1 or 5} 0 V1")
    assert read_recording(header).metadata["checksum_mismatches"] == ["V1"]


def broken(tmp_path, change):
    header = wfdb_files.challenge(tmp_path, "r", wfdb_files.bits())
    change(header)
    with pytest.raises(UserError) as caught:
        read_recording(header)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def truncate(header, by):
    mat = header.with_suffix(".mat")
    os.truncate(mat, mat.stat().st_size - by)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.with_suffix(".mat").unlink(), "r.mat: no such file; expected the signal file that r.hea names"),
        (lambda h: truncate(h, 1), "r.mat: truncated, it holds 199 samples per lead; r.hea promises 200"),
        (lambda h: truncate(h, 4824), "r.mat: truncated, it holds 0 samples per lead; r.hea promises 200"),
        (lambda h: wfdb_files.edit(h, "500 200", "500 201"), "holds 200 samples per lead; r.hea promises 201"),
        (lambda h: wfdb_files.edit(h, "500 200", "500 199"), "holds 200 samples per lead; r.hea promises 199"),
        (lambda h: wfdb_files.edit(h, "500 200", "500 0"), "cannot be read|promises 0"),
        (lambda h: wfdb_files.edit(h, "500 200", "0 200"), "sampling rate 0.* Hz; expected a positive number"),
        (lambda h: wfdb_files.edit(h, "/mV 16", "/mmHg 16", 1), "lead 'I' has units 'mmHg'; expected mV, uV, nV or V"),
        (lambda h: wfdb_files.edit(h, "0 aVR", "0 III"), "lead III is there twice"),
        (lambda h: wfdb_files.edit(h, "r 12 500", "r 13 500"), "12 signal lines for 13 signals"),
        (lambda h: wfdb_files.edit(h, "r 12 500", "r/2 12 500"), "segment"),
        (lambda h: wfdb_files.edit(h, "16x1+24", "17x1+24"), "lead 'I' has format '17'; expected one of 8, 16"),
        (lambda h: wfdb_files.edit(h, "16x1+24", "16x0+24"), "0 samples per frame"),
        (lambda h: wfdb_files.edit(h, "16x1+24", "16x1:999+24", 1), "skewed by more than the record's 200 samples"),
        (lambda h: wfdb_files.edit(h, "16x1+24", "16x1+26", 1), "differ in format or byte offset"),
        (lambda h: wfdb_files.edit(h, "1000.0(0)", "1e999(0)", 1), "lead 'I' has gain inf"),
        (lambda h: wfdb_files.edit(h, "1000.0(0)", "1e-300(0)", 1), "infinite values"),
        (lambda h: wfdb_files.edit(h, "r.mat 16", "../r.mat 16"), "not a WFDB header"),
        (lambda h: h.write_bytes(b""), "not a WFDB header"),
        (lambda h: h.write_bytes(os.urandom(300)), "r.hea"),
        (lambda h: h.write_bytes(b"#" * 2**21), "expected a WFDB header of at most"),
    ],
)
def test_broken_records(tmp_path, change, message):
    assert re.search(message, broken(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dat: dat.unlink(), r"r\.dat: no such file; expected the signal file that r\.hea names"),
        (lambda dat: os.truncate(dat, 150 * 24 + 7), r"r\.dat: truncated, it holds 150 .*; r\.hea promises 200"),
        (lambda dat: os.truncate(dat, 0), r"r\.dat: truncated, it holds 0 .*; r\.hea promises 200"),
        (lambda dat: dat.write_bytes(dat.read_bytes() * 2), r"r\.dat: holds 400 .*; r\.hea promises 200"),
    ],
)
def test_broken_dat(tmp_path, change, message):
    header = wfdb_files.dat(tmp_path, "r", wfdb_files.bits())
    change(tmp_path / "r.dat")
    with pytest.raises(UserError, match=message) as caught:
        read_recording(header)
    assert "\n" not in str(caught.value)


def test_no_lead_of_the_twelve(tmp_path):
    header = wfdb_files.challenge(tmp_path, "r", wfdb_files.bits(leads=2), names=("MLII", "vx"))
    with pytest.raises(UserError, match=r"no lead is one of the twelve; the signals are 'MLII', 'vx'"):
        read_recording(header)


def test_truncated_packed_format(tmp_path):
    header = wfdb_files.dat(tmp_path, "r", wfdb_files.bits() // 8, fmt="212")
    os.truncate(tmp_path / "r.dat", (tmp_path / "r.dat").stat().st_size - 18)
    with pytest.raises(UserError, match="truncated, it holds 199 samples"):
        read_recording(header)


def test_flac_format(tmp_path):
    pytest.importorskip("soundfile")
    x = wfdb_files.bits()
    header = wfdb_files.dat(tmp_path, "r", x, fmt="516")
    np.testing.assert_allclose(read_recording(header).signal, x / 1000, atol=1e-6)
    wfdb_files.edit(header, "500 200", "500 2000000000")
    with pytest.raises(UserError, match=r"holds 200 samples per lead; r\.hea promises 2000000000"):
        read_recording(header)


def test_a_missing_file_is_never_looked_for_on_the_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    header = wfdb_files.challenge(tmp_path / "http:" / "s3:", "r", wfdb_files.bits())
    assert len(read_recording(header).signal) == 200
    header.with_suffix(".mat").unlink()
    with pytest.raises(UserError, match="no such file"):
        read_recording(header)
    header = wfdb_files.challenge(tmp_path / "a::http:" / "host", "r", wfdb_files.bits())
    with pytest.raises(UserError, match="'::' in the path"):
        read_recording(header)
