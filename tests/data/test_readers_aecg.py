"""HL7 aECG: written by biosig-tools, by hand, and genuine where ECGJAX_WILD has the HL7 example."""

import shutil

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.conftest import GOLDEN
from tests.data import wfdb_files
from tests.data.make_wild_goldens import STEP, convert, write_edf
from tests.data.wild_files import aecg, aecg_set
from tests.data.wild_folder import wild_file

pytest.importorskip("defusedxml", reason="the extra 'formats' is not installed")

BITS = wfdb_files.bits()


def test_file_of_biosig():
    recording = read_recording(GOLDEN / "wild" / "synthetic.xml")
    bits = np.load(GOLDEN / "wild" / "synthetic.npz")["bits"]
    np.testing.assert_allclose(recording.signal, bits * (STEP / 1000), atol=1e-4)  # 0.1 uV
    assert recording.sampling_rate == 500
    assert recording.microvolt_per_bit == pytest.approx(STEP)


@pytest.mark.skipif(not shutil.which("save2gdf"), reason="save2gdf (Debian's biosig-tools) is not installed")
def test_genuine_recording_by_biosig(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm", download=False))
    bits = np.frombuffer(dataset.WaveformSequence[0].WaveformData, "<i2").reshape(-1, 12)
    write_edf(tmp_path / "x.edf", bits, 1000.0, 1.25)
    convert(tmp_path / "x.edf", tmp_path / "x.xml", "HL7")
    recording = read_recording(tmp_path / "x.xml")
    np.testing.assert_allclose(recording.signal, dataset.waveform_array(0) / 1000, atol=1e-4)
    assert recording.sampling_rate == 1000


def test_leads_in_any_order_units_and_metadata(tmp_path):
    names = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
    shuffled = BITS[:, [CANONICAL.index(name) for name in names]]
    beats = aecg_set(BITS[:50])
    path = aecg(tmp_path / "x.xml", aecg_set(shuffled, names=names), beats=beats, prefix="<!-- HL7 <example> -->\n")
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signal, BITS * 2.5e-3, atol=1e-6)
    assert recording.microvolt_per_bit == 2.5
    assert recording.metadata == {
        "age": 49,
        "sex": "male",
        "device": "ELI250",
        "statements": ["Sinus rhythm"],
        "measurements": {"MDC_ECG_TIME_PD_QRS": {"value": 90, "unit": "ms"}},
    }
    for increment, rate in ((("2", "ms"), 500), (("1250", "us"), 800), (("0.00390625", "s"), 256)):
        path = aecg(tmp_path / "y.xml", aecg_set(BITS, increment=increment, origin=("1", "mV"), scale=("0.005", "mV")))
        recording = read_recording(path)
        assert recording.sampling_rate == rate
        np.testing.assert_allclose(recording.signal, 1 + BITS * 5e-3, atol=1e-6)
        assert recording.microvolt_per_bit == 5


def test_of_several_sets_the_fullest_and_longest_is_taken(tmp_path):
    short, few = aecg_set(BITS[:100] + 7), aecg_set(BITS[:, :2], names=("I", "II"))
    path = aecg(tmp_path / "x.xml", few, short, aecg_set(BITS), short)
    np.testing.assert_allclose(read_recording(path).signal, BITS * 2.5e-3, atol=1e-6)


def test_leads_spread_over_sets_are_refused(tmp_path):
    parts = [aecg_set(BITS[:, i : i + 3], names=CANONICAL[i : i + 3]) for i in range(0, 12, 3)]
    with pytest.raises(UserError, match=r"x\.xml: the leads are spread over 4 sequence sets"):
        read_recording(aecg(tmp_path / "x.xml", *parts))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('code="RHYTHM"', 'code="REPRESENTATIVE_BEAT"', r"no series with leads; expected a rhythm"),
        ("TIME_ABSOLUTE", "OTHER", r"a sequence set without time"),
        ('value="0.002" unit="s"', 'value="0" unit="s"', r"time increment '0' 's'"),
        ('value="0.002" unit="s"', 'value="500" unit="Hz"', r"time increment '500' 'Hz'; expected a number of s, ms"),
        ('<scale value="2.5" unit="uV"/>', "", r"lead 'MDC_ECG_LEAD_I' has no scale"),
        ('<scale value="2.5" unit="uV"/>', '<scale value="2.5" unit="mmHg"/>', r"has the scale '2\.5' 'mmHg'"),
        ("digits>", "numbers>", r"has no digits; expected a value of type SLIST_PQ"),
        ("<digits>", "<digits>x ", r"could not convert .*expected numbers"),
        ("<digits>", "<digits>1 2 3 </digits><digits>", r"x\.xml"),
        ("LEAD_V1", "LEAD_V2", r"lead V2 is there twice"),
    ],
)
def test_refused(tmp_path, old, new, message):
    path = aecg(tmp_path / "x.xml", aecg_set(BITS))
    text = path.read_text(encoding="utf-8")
    assert old in text
    # Of the lead of another length only the first is changed.
    path.write_text(text.replace(old, new, 1 if "1 2 3" in new else -1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_recording(path)


def test_genuine_example_of_the_standard():
    path = wild_file("Example aECG.xml")
    recording = read_recording(path)
    assert recording.signal.shape == (5000, 12)
    assert recording.sampling_rate == 500
    assert recording.microvolt_per_bit == 2.5
    parser = pytest.importorskip("ecgdatakit").FileParser()
    for lead in parser.parse(path).leads:
        assert lead.units == "mV"
        np.testing.assert_allclose(recording.signal[:, CANONICAL.index(lead.label)], lead.samples, atol=1e-6)
    # The C# ECG Toolkit's SCP-ECG file of the same recording: Huffman codes of second differences.
    other = read_recording(wild_file("Example.scp"))
    np.testing.assert_allclose(other.signal, recording.signal, atol=1e-6)
    assert (other.metadata["age"], other.metadata["sex"]) == (49, "male") == (recording.metadata["age"], "male")
