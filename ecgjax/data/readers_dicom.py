"""DICOM ECG waveforms: 12-lead, general and ambulatory ECG storage."""

import io
import math
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ecgjax.data.leads import canonical_name
from ecgjax.data.recording import Recording, from_channels
from ecgjax.errors import UserError

_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "general ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "ambulatory ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "general 32-bit ECG",
}
_SAMPLES = {
    ("SB", 8): "i1", ("UB", 8): "u1", ("SS", 16): "i2", ("US", 16): "u2", ("SL", 32): "i4", ("UL", 32): "u4",
}  # fmt: skip
_MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "nv": 1e-6, "v": 1e3}
_LARGEST_FILE = 2**30


def matches(path: Path) -> bool:
    """Whether `path` is a DICOM file: "DICM" after 128 bytes, or the suffix .dcm."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


def read(path: Path) -> Recording:
    """Reads the original rhythm of a DICOM ECG; median beats and other derived groups are left out.

    Raises:
        UserError: pydicom is not installed, or the file is damaged, no ECG, not calibrated, or without any lead.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UserError(
            f"{path}: reading DICOM needs pydicom; install it with: pip install 'ecgjax[formats]'"
        ) from error
    if path.stat().st_size > _LARGEST_FILE:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected a DICOM ECG of at most {_LARGEST_FILE}")
    try:
        # From memory: a damaged length cannot ask for more than the file holds.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path, pydicom.dcmread(io.BytesIO(path.read_bytes())))
    except UserError:
        raise
    except Exception as error:  # pydicom converts values when they are looked at, and raises what it likes.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: damaged or not a DICOM file ({reason})") from error


def _read(path: Path, dataset: Any) -> Recording:
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class not in _SOP_CLASSES or not dataset.get("WaveformSequence"):
        raise UserError(f"{path}: DICOM of class {sop_class or '(none)'} without ECG waveforms; expected a 12-lead ECG")
    groups = _rhythm(path, dataset.WaveformSequence)
    big_endian = dataset.original_encoding[1] is False
    channels: list[np.ndarray] = []
    names: list[str] = []
    steps: list[float | None] = []
    for group in groups:
        samples = _samples(path, group, big_endian)
        for definition, values in zip(group.ChannelDefinitionSequence, samples.T, strict=True):
            name = _lead_name(path, definition)
            scale, baseline = _calibration(f"{path}: lead {name}", definition) if canonical_name(name) else (1.0, 0.0)
            names.append(name)
            channels.append(values * scale + baseline)
            # A baseline that is no multiple of the step shifts the lead off the grid.
            on_grid = scale != 0 and abs(math.remainder(baseline, scale)) < 1e-6 * abs(scale)
            steps.append(abs(scale) * 1000 if on_grid else None)
    return from_channels(
        path.stem,
        np.stack(channels, axis=1),
        names,
        float(groups[0].SamplingFrequency),
        source=path,
        steps=steps,
        metadata=_metadata(dataset),
    )


def _rhythm(path: Path, sequence: Iterable[Any]) -> list[Any]:
    """The multiplex groups that together hold the recorded rhythm.

    Leads may be spread over groups; those that run at the same time and rate belong together. Of several such sets
    the one with the most of the twelve leads is taken, and then the longest.
    """
    sets: dict[tuple[float, int, float], list[Any]] = {}
    for group in sequence:
        if str(group.get("WaveformOriginality", "ORIGINAL")) == "ORIGINAL":
            offset = float(group.get("MultiplexGroupTimeOffset") or 0)
            key = (float(group.SamplingFrequency), int(group.NumberOfWaveformSamples), offset)
            sets.setdefault(key, []).append(group)
    if not sets:
        raise UserError(f"{path}: only derived waveforms (a median beat?); expected an original recording")

    def worth(item: tuple[tuple[float, int, float], list[Any]]) -> tuple[int, float]:
        (rate, samples, _), groups = item
        names = [_lead_name(path, definition) for group in groups for definition in group.ChannelDefinitionSequence]
        return len({canonical_name(name) for name in names} - {None}), samples / rate if rate else 0.0

    return max(sets.items(), key=worth)[1]


def _lead_name(path: Path, definition: Any) -> str:
    """The canonical lead if code or meaning name one, else the meaning."""
    source = definition.ChannelSourceSequence[0]
    code, meaning = str(source.get("CodeValue", "")), str(source.get("CodeMeaning", ""))
    by_code = canonical_name(code) if re.match("SCPECG|MDC", str(source.get("CodingSchemeDesignator", ""))) else None
    by_meaning = canonical_name(meaning)
    if by_code and by_meaning and by_code != by_meaning:
        raise UserError(
            f"{path}: a channel has the code {code!r} of lead {by_code} and the name {meaning!r}; expected one lead"
        )
    return by_code or by_meaning or meaning or code


def _calibration(what: str, definition: Any) -> tuple[float, float]:
    """Millivolts per bit, and the baseline in millivolts."""
    if definition.get("ChannelSensitivity") is None or not definition.get("ChannelSensitivityUnitsSequence"):
        raise UserError(f"{what} has no sensitivity; expected calibrated samples")
    units = str(definition.ChannelSensitivityUnitsSequence[0].CodeValue)
    if units.lower() not in _MILLIVOLTS:
        raise UserError(f"{what} has units {units!r}; expected uV, mV, nV or V")
    millivolts = _MILLIVOLTS[units.lower()]
    correction = definition.get("ChannelSensitivityCorrectionFactor")
    sensitivity = float(definition.ChannelSensitivity) * (1.0 if correction is None else float(correction))
    if not (math.isfinite(sensitivity) and sensitivity != 0):
        raise UserError(f"{what} has sensitivity {sensitivity}; expected a finite number of {units} per bit")
    return sensitivity * millivolts, float(definition.get("ChannelBaseline") or 0) * millivolts


def _samples(path: Path, group: Any, big_endian: bool) -> np.ndarray:
    """(samples, channels) float64 in bits, NaN where padded."""
    kind = (str(group.WaveformSampleInterpretation), int(group.WaveformBitsAllocated))
    if kind not in _SAMPLES:
        raise UserError(f"{path}: samples of type {kind[0]} in {kind[1]} bits; expected SS, US, SB, UB, SL or UL")
    dtype = np.dtype(_SAMPLES[kind]).newbyteorder(">" if big_endian else "<")
    shape = int(group.NumberOfWaveformSamples), int(group.NumberOfWaveformChannels)
    definitions = len(group.ChannelDefinitionSequence)
    if definitions != shape[1]:
        raise UserError(f"{path}: {definitions} channel definitions for {shape[1]} channels; expected one each")
    data, needed = bytes(group.WaveformData), shape[0] * shape[1] * dtype.itemsize
    # Values of odd length are padded by one byte.
    if len(data) not in (needed, needed + needed % 2):
        held = len(data) // max(shape[1] * dtype.itemsize, 1)
        raise UserError(
            f"{path}: truncated or damaged, it holds {held} samples per channel; its header says {shape[0]}"
        )
    raw = np.frombuffer(data, dtype, shape[0] * shape[1]).reshape(shape)
    samples = raw.astype(np.float64)
    padding = group.get("WaveformPaddingValue")
    if padding is not None:
        value = np.frombuffer(padding, dtype, 1)[0] if isinstance(padding, bytes) else int(padding)
        samples[raw == value] = np.nan
    return samples


def _metadata(dataset: Any) -> dict[str, Any]:
    """Age, sex, device, statements and global measurements; nothing that names the patient."""
    metadata: dict[str, Any] = {}
    age = re.fullmatch(r"(\d{3})([DWMY])", str(dataset.get("PatientAge", "")))
    if age:
        metadata["age"] = int(age[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[age[2]]
    sex = {"M": "male", "F": "female"}.get(str(dataset.get("PatientSex", "")))
    if sex:
        metadata["sex"] = sex
    for key, keyword in (("manufacturer", "Manufacturer"), ("device", "ManufacturerModelName")):
        if dataset.get(keyword):
            metadata[key] = str(dataset.get(keyword))
    statements: list[str] = []
    measurements: dict[str, dict[str, Any]] = {}
    for annotation in dataset.get("WaveformAnnotationSequence") or ():
        text = str(annotation.get("UnformattedTextValue") or "").strip()
        concept = annotation.get("ConceptNameCodeSequence")
        if text:
            statements.append(text)
        elif concept and annotation.get("NumericValue") is not None:
            units = annotation.get("MeasurementUnitsCodeSequence")
            value = annotation.NumericValue
            measurements[str(concept[0].CodeMeaning)] = {
                "value": float(value[0] if isinstance(value, (list, tuple)) else value),
                "unit": str(units[0].CodeValue) if units else "",
            }
    return {**metadata, "statements": statements, "measurements": measurements}
