"""GE MUSE XML: a genuine export against its conversion to DICOM, and variations made by hand."""

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.conftest import GOLDEN
from tests.data import wfdb_files, wild_files

pytest.importorskip("defusedxml", reason="the extra 'formats' is not installed")

GENUINE = GOLDEN / "wild" / "guangxi_teaching_sinus_rhythm.xml"


def muse(folder, **options):
    return wild_files.muse(folder / "x.xml", wfdb_files.bits(leads=8), **options)


def test_genuine_export_against_its_dicom():
    pydicom = pytest.importorskip("pydicom")
    recording = read_recording(GENUINE)
    assert recording.signal.shape == (5000, 12)
    assert recording.sampling_rate == 500
    assert recording.derived == ("III", "aVR", "aVL", "aVF")
    assert recording.missing == ()
    # Half the step of I and II, because of Goldberger's leads.
    assert recording.microvolt_per_bit == 2.44
    dataset = pydicom.dcmread(GENUINE.with_suffix(".dcm"))
    channels = dataset.WaveformSequence[0].ChannelDefinitionSequence
    names = [channel.ChannelSourceSequence[0].CodeMeaning for channel in channels]
    expected = dataset.waveform_array(0) / 1000
    assert len(names) == 12
    for i, name in enumerate(names):
        lead = name.removeprefix("Lead ").partition(",")[0]  # "Lead V1"; "aVR, augmented voltage, right"
        # The converter rounds the derived leads to whole bits.
        tolerance = 0.51 * 4.88e-3 if lead in recording.derived[1:] else 1e-6
        np.testing.assert_allclose(recording.signal[:, CANONICAL.index(lead)], expected[:, i], atol=tolerance)
    metadata = recording.metadata
    assert metadata["age"] == 11
    assert metadata["sex"] == "male"
    assert metadata["statements"] == ["窦性心律", "ST段抬高（提示心室早期复极）"]
    assert metadata["measurements"]["QTInterval"] == {"value": 328, "unit": "ms"}
    assert metadata["measurements"]["TAxis"] == {"value": 49, "unit": "deg"}
    assert "checksum_mismatches" not in metadata


def test_hand_made(tmp_path):
    bits = wfdb_files.bits(leads=8)
    recording = read_recording(wild_files.muse(tmp_path / "x.xml", bits, rate=250))
    for name, column in zip(wild_files.STORED, bits.T, strict=True):
        np.testing.assert_allclose(recording.signal[:, CANONICAL.index(name)], column * 4.88e-3, atol=1e-6)
    assert recording.sampling_rate == 250
    assert recording.metadata["age"] == 1.5
    assert recording.metadata["sex"] == "female"
    assert recording.metadata["statements"] == ["Sinus rhythm"]
    assert recording.metadata["measurements"] == {
        "VentricularRate": {"value": 60, "unit": "/min"},
        "QTInterval": {"value": 400, "unit": "ms"},
    }
    assert "secret" not in str(recording.metadata)


def test_by_content_whatever_the_suffix_and_encoding(tmp_path):
    text = muse(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "y.export").write_bytes(text.replace("UTF-8", "UTF-16").encode("utf-16"))
    assert read_recording(tmp_path / "y.export").signal.shape == (200, 12)


def test_wrong_checksum_and_leads_off_are_told(tmp_path):
    path = muse(tmp_path)
    text = path.read_text(encoding="utf-8")
    at = text.rindex("<LeadOff>FALSE")
    text = text[:at] + "<LeadOff>TRUE" + text[at + len("<LeadOff>FALSE") :]
    at = text.rindex("<LeadDataCRC32>") + len("<LeadDataCRC32>")
    path.write_text(text[:at] + "1" + text[at:], encoding="utf-8")
    metadata = read_recording(path).metadata
    assert metadata["checksum_mismatches"] == ["V6"]
    assert metadata["leads_off"] == ["V6"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "<WaveformType>Rhythm",
            "<WaveformType>Other",
            r"waveforms of type Median, Other; expected one of type Rhythm",
        ),
        ("<SampleBase>500", "<SampleBase>fast", r"SampleBase 'fast'; expected the sampling rate"),
        ("<SampleBase>500", "<SampleBase>-500", r"sampling rate -500\.0 Hz"),
        ("CONTINUOUS_SAMPLES", "DELTA", r"samples of type 'DELTA'"),
        ("MICROVOLTS", "MMHG", r"lead 'I' has '4\.88' MMHG per bit; expected microvolts"),
        ("<LeadSampleSize>2", "<LeadSampleSize>1", r"lead 'I' has samples of 1 bytes; expected 2"),
        ("<FirstSampleBaseline>0", "<FirstSampleBaseline>7", r"lead 'I' has FirstSampleBaseline '7'; expected 0"),
        ("<LeadSampleCountTotal>200", "<LeadSampleCountTotal>201", r"lead 'I': damaged, LeadSampleCountTotal is 201"),
        ("<LeadID>V6", "<LeadID>V5", r"lead V5 is there twice"),
        ("</RestingECG>", "", r"damaged or not GE MUSE XML"),
        ("<RestingECG>", '<!DOCTYPE R [<!ENTITY a "b">]><RestingECG>', r"declares entities"),
        ("<PatientID>secret", "<PatientID>&unknown;", r"damaged or not GE MUSE XML \(undefined entity"),
    ],
)
def test_refused(tmp_path, old, new, message):
    path = muse(tmp_path, doctype="ENTITY" not in new)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    if "ENTITY" in new:
        from ecgjax.data.readers_muse import read

        with pytest.raises(UserError, match=message):
            read(path)
        with pytest.raises(UserError, match="not a supported recording"):
            read_recording(path)
        return
    with pytest.raises(UserError, match=rf"x\.xml: .*{message}" if "lead" not in message[:5] else message):
        read_recording(path)
