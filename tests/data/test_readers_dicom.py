"""DICOM ECGs: the genuine recording in the pydicom package, and variations of it."""

import copy
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError

pydicom = pytest.importorskip("pydicom", reason="the extra 'formats' is not installed")


@pytest.fixture(scope="module")
def genuine():
    from pydicom.data import get_testdata_file

    return Path(get_testdata_file("waveform_ecg.dcm", download=False))


@pytest.fixture
def dataset(genuine):
    return pydicom.dcmread(genuine)


def save(dataset, folder, name="x.dcm"):
    dataset.save_as(folder / name)
    return folder / name


def test_genuine_recording(genuine, dataset):
    recording = read_recording(genuine)
    assert recording.id == "waveform_ecg"
    assert recording.signal.shape == (10_000, 12)
    assert recording.sampling_rate == 1000
    assert recording.microvolt_per_bit == 1.25
    assert recording.derived == recording.missing == ()
    expected = dataset.waveform_array(0) / 1000
    np.testing.assert_allclose(recording.signal, expected, atol=1e-6)
    one, two, three, avr = recording.signal[:, :4].T
    np.testing.assert_allclose(one + three, two, atol=1e-6)
    assert np.abs(avr + (one + two) / 2).max() <= 0.5 * 1.25e-3 + 1e-6
    assert recording.metadata["statements"] == ["RITMO SINUSALE", "ECG NORMALE"]
    measurements = recording.metadata["measurements"]
    assert measurements["RR Interval"] == {"value": 982, "unit": "ms"}
    assert measurements["QRS Duration"] == {"value": 75, "unit": "ms"}
    assert measurements["T Axis"] == {"value": 57, "unit": "deg"}
    assert recording.metadata["age"] == 42
    assert recording.metadata["sex"] == "female"
    assert not {"name", "patient_name", "date"} & set(recording.metadata)


def test_correction_factor_baseline_units_and_padding(dataset, tmp_path):
    group = dataset.WaveformSequence[0]
    raw = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).copy()
    raw[3, 4] = -32768
    group.WaveformData = raw.tobytes()
    group.add_new(0x5400100A, "OW", np.int16(-32768).tobytes())
    first, second, third = group.ChannelDefinitionSequence[:3]
    first.ChannelSensitivity, first.ChannelSensitivityCorrectionFactor = 1, 4.88
    second.ChannelBaseline = 100
    third.ChannelSensitivity = 0.00125
    third.ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
    recording = read_recording(save(dataset, tmp_path))
    np.testing.assert_allclose(recording.signal[:, 0], raw[:, 0] * 0.00488, atol=1e-6)
    np.testing.assert_allclose(recording.signal[:, 1], raw[:, 1] * 0.00125 + 0.1, atol=1e-6)
    np.testing.assert_allclose(recording.signal[:, 2], raw[:, 2] * 0.00125, atol=1e-6)
    assert np.argwhere(np.isnan(recording.signal)).tolist() == [[3, 4]]
    assert recording.microvolt_per_bit is None


def test_lead_codes_of_both_schemes_and_bare_meanings(dataset, genuine, tmp_path):
    expected = read_recording(genuine).signal
    definitions = dataset.WaveformSequence[0].ChannelDefinitionSequence
    for i, definition in enumerate(definitions):
        source = definition.ChannelSourceSequence[0]
        number = source.CodeValue.rsplit("-", 1)[1]
        if i % 3 == 0:
            source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = f"2:{number}", "MDC", "whatever"
        elif i % 3 == 1:
            source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "77", "99VENDOR", CANONICAL[i]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.2"
    np.testing.assert_array_equal(read_recording(save(dataset, tmp_path)).signal, expected)
    definitions[1].ChannelSourceSequence[0].CodeMeaning = "V1"
    with pytest.raises(UserError, match="lead V1 is there twice"):
        read_recording(save(dataset, tmp_path))
    definitions[1].ChannelSourceSequence[0].CodeMeaning = "II"
    definitions[2].ChannelSourceSequence[0].CodeMeaning = "Lead aVL"
    with pytest.raises(UserError, match=r"code '5\.6\.3-9-61' of lead III and the name 'Lead aVL'"):
        read_recording(save(dataset, tmp_path))


def test_the_rhythm_is_taken_wherever_it_stands(dataset, genuine, tmp_path):
    expected = read_recording(genuine).signal
    dataset.WaveformSequence = list(dataset.WaveformSequence)[::-1]
    np.testing.assert_array_equal(read_recording(save(dataset, tmp_path)).signal, expected)
    del dataset.WaveformSequence[1]
    with pytest.raises(UserError, match="only derived waveforms"):
        read_recording(save(dataset, tmp_path))


def test_leads_spread_over_groups(dataset, genuine, tmp_path):
    expected = read_recording(genuine).signal
    whole = dataset.WaveformSequence[0]
    raw = np.frombuffer(whole.WaveformData, "<i2").reshape(-1, 12)
    halves = []
    for columns in (slice(0, 6), slice(6, 12)):
        half = copy.deepcopy(whole)
        half.ChannelDefinitionSequence = list(whole.ChannelDefinitionSequence)[columns]
        half.NumberOfWaveformChannels = 6
        half.WaveformData = np.ascontiguousarray(raw[:, columns]).tobytes()
        halves.append(half)
    dataset.WaveformSequence = halves
    np.testing.assert_array_equal(read_recording(save(dataset, tmp_path)).signal, expected)


def group(dataset):
    return dataset.WaveformSequence[0]


def avl(dataset):
    return group(dataset).ChannelDefinitionSequence[4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "expected a 12-lead ECG"),
        (lambda d: delattr(d, "WaveformSequence"), "without ECG waveforms"),
        (lambda d: delattr(group(d), "WaveformData"), "damaged"),
        (lambda d: setattr(group(d), "NumberOfWaveformSamples", 10_001), "holds 10000 samples .* says 10001"),
        (lambda d: setattr(group(d), "NumberOfWaveformChannels", 11), "12 channel definitions for 11 channels"),
        (lambda d: setattr(group(d), "WaveformSampleInterpretation", "MB"), "samples of type MB in 16 bits"),
        (lambda d: setattr(group(d), "SamplingFrequency", 0), "sampling rate 0"),
        (lambda d: delattr(avl(d), "ChannelSensitivity"), "lead aVL has no sensitivity; expected calibrated samples"),
        (lambda d: setattr(avl(d), "ChannelSensitivity", 0), "lead aVL has sensitivity 0"),
        (lambda d: setattr(avl(d).ChannelSensitivityUnitsSequence[0], "CodeValue", "mm"), "lead aVL has units 'mm'"),
    ],
)
def test_broken_files(dataset, tmp_path, change, message):
    change(dataset)
    with pytest.raises(UserError, match=message) as caught:
        read_recording(save(dataset, tmp_path))
    assert "x.dcm" in str(caught.value)


def test_without_suffix_and_without_pydicom(genuine, tmp_path, monkeypatch):
    (tmp_path / "IM0001").write_bytes(genuine.read_bytes())
    assert read_recording(tmp_path / "IM0001").id == "IM0001"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"needs pydicom; install it with: pip install 'ecgjax\[formats\]'"):
        read_recording(genuine)


@pytest.mark.skipif("ECGJAX_REAL" not in os.environ, reason="ECGJAX_REAL names no folder of recordings")
def test_recordings_of_the_users_folder():
    files = [path for pattern in ("*.dcm", "*.hea") for path in Path(os.environ["ECGJAX_REAL"]).rglob(pattern)]
    assert files
    for file in files:
        recording = read_recording(file)
        one, two, three = recording.signal[:, :3].T
        assert np.nanmax(np.abs(one + three - two)) < 0.011, file
        assert np.nanmax(np.abs(recording.signal)) < 40, file
