"""EDF and BDF: written by pyedflib (the edflib of Teunis van Beelen) and read by edfio."""

import datetime

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.data import wfdb_files
from tests.data.make_wild_goldens import write_edf

pytest.importorskip("edfio", reason="the extra 'formats' is not installed")

# pyedflib warns of "4000000.0", whose first eight characters are the same number.
pytestmark = pytest.mark.filterwarnings("ignore:Physical m")

BITS = wfdb_files.bits(1000).astype(np.int32)


def pyedf(path, bits, *, names=CANONICAL, rate=500, rates=None, unit="uV", step=0.5, kind="EDF", patient=True):
    """By pyedflib: `bits` (samples, leads) at `step` microvolts or other units per bit."""
    pyedflib = pytest.importorskip("pyedflib", reason="pyedflib has no wheel for this Python")
    types = {"EDF": pyedflib.FILETYPE_EDFPLUS, "BDF": pyedflib.FILETYPE_BDFPLUS, "plain": pyedflib.FILETYPE_EDF}
    # Round, because a header has eight characters for a number.
    limit = 8_000_000 if kind == "BDF" else 32_000
    writer = pyedflib.EdfWriter(str(path), len(names), file_type=types[kind])
    rates = rates or [rate] * len(names)
    writer.setSignalHeaders([
        {
            "label": name, "dimension": unit, "sample_frequency": frequency, "physical_min": -limit * step,
            "physical_max": limit * step, "digital_min": -limit, "digital_max": limit, "transducer": "",
            "prefilter": "",
        }
        for name, frequency in zip(names, rates, strict=True)
    ])  # fmt: skip
    if patient:
        writer.setSex(0)
        writer.setBirthdate(datetime.date(1953, 5, 8))
        writer.setStartdatetime(datetime.datetime(2002, 11, 22, 9, 10))
        writer.setPatientName("secret")
        writer.setEquipment("ELI250")
    if kind != "plain":
        writer.writeAnnotation(0.5, -1, "an annotation")
    columns = [np.ascontiguousarray(c[: len(c) * f // rate]) for c, f in zip(bits.T, rates, strict=True)]
    writer.writeSamples(columns, digital=True)
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["EDF", "BDF", "plain"])
@pytest.mark.parametrize(("unit", "step"), [("uV", 0.5), ("mV", 0.0005)])
def test_leads_in_any_order(tmp_path, kind, unit, step):
    names = [f"ECG {name}" for name in reversed(CANONICAL)]
    path = pyedf(tmp_path / "x.rec", BITS[:, ::-1], names=names, kind=kind, unit=unit, step=step)
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signal, BITS * 0.5e-3, atol=1e-6)
    assert recording.microvolt_per_bit == pytest.approx(0.5)
    assert recording.sampling_rate == 500
    assert recording.derived == recording.missing == ()
    expected = {"age": 49, "sex": "female", "device": "ELI250"}
    assert recording.metadata == ({} if kind == "plain" else expected)


def test_large_values_of_24_bits(tmp_path):
    recording = read_recording(pyedf(tmp_path / "x.bdf", BITS * 1000, kind="BDF", step=0.001))
    np.testing.assert_allclose(recording.signal, BITS * 1e-3, atol=1e-6)


def test_by_edfio(tmp_path):
    write_edf(tmp_path / "x.edf", BITS, 500.0)
    recording = read_recording(tmp_path / "x.edf")
    np.testing.assert_allclose(recording.signal, BITS * 2.5e-3, atol=1e-6)
    assert recording.microvolt_per_bit == pytest.approx(2.5)
    assert recording.metadata == {}


def test_other_signals_are_left_out(tmp_path):
    names = (*CANONICAL[:2], "EKG V1", "Resp", "SpO2")
    path = pyedf(tmp_path / "x.edf", BITS[:, :5], names=names, rates=[500, 500, 500, 100, 50], patient=False)
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signal[:, 6], BITS[:, 2] * 0.5e-3, atol=1e-6)
    assert recording.missing == CANONICAL[7:]
    assert recording.metadata["other_leads"] == ["Resp", "SpO2"]


def test_refused(tmp_path):
    path = tmp_path / "x.edf"
    for options, message in (
        ({"rates": [500] * 11 + [250]}, r"leads of \[250\.0, 500\.0\] Hz; expected one rate"),
        ({"unit": "mmHg"}, r"lead I has units 'mmHg'; expected uV, mV or V"),
        ({"names": [f"EEG {i}" for i in range(12)]}, r"no signal is one of the twelve leads"),
        ({"names": ["V1"] * 12}, r"lead V1 is there twice"),
    ):
        with pytest.raises(UserError, match=rf"x\.edf: .*{message}"):
            read_recording(pyedf(path, BITS, **options))


def test_length_and_header_must_agree(tmp_path):
    write_edf(tmp_path / "x.edf", BITS, 500.0)
    content = (tmp_path / "x.edf").read_bytes()
    cases = (
        (content[:-100], r"truncated or damaged, it holds 1\.99\d+ data records; its header says 2"),
        (content + bytes(24_000), r"it holds 4 data records; its header says 2"),
        (content[:236] + b"99999999" + content[244:], r"it holds 2 data records; its header says 99999999"),
        (content[:252] + b"9999" + content[256:], r"9999 signals and a header of"),
        (content[:252] + b"????" + content[256:], r"damaged, its header has no number"),
        (content[:244] + b"0       " + content[252:], r"damaged or not EDF"),
    )
    for damaged, message in cases:
        (tmp_path / "x.edf").write_bytes(damaged)
        with pytest.raises(UserError, match=rf"x\.edf: .*{message}"):
            read_recording(tmp_path / "x.edf")
    # A recorder that lost its power leaves -1.
    (tmp_path / "x.edf").write_bytes(content[:236] + b"-1      " + content[244:])
    assert len(read_recording(tmp_path / "x.edf").signal) == 1000
