"""GE MUSE XML (`RestingECG`), as carts of the MAC series and the MUSE system export it.

The rhythm is stored as I, II, V1-V6 in base64 of little-endian 16-bit samples; the other limb leads are derived.
"""

import base64
import binascii
import zlib
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from ecgjax.data.leads import canonical_name
from ecgjax.data.readers_xml import age_in_years, number, parse, root_name, sex, text
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.units import millivolts
from ecgjax.errors import UserError

_UNITS = {
    "VentricularRate": "/min", "AtrialRate": "/min", "PRInterval": "ms", "QRSDuration": "ms", "QTInterval": "ms",
    "QTCorrected": "ms", "QTcFrederica": "ms", "PAxis": "deg", "RAxis": "deg", "TAxis": "deg", "QRSCount": "",
}  # fmt: skip


def matches(path: Path) -> bool:
    """Whether `path` is XML with the root `RestingECG`."""
    return root_name(path) == "RestingECG"


def read(path: Path) -> Recording:
    """Reads the rhythm of a MUSE file; the median beat is left out.

    Raises:
        UserError: the file is damaged, has no rhythm, or samples that are not plain 16-bit or not in volts.
    """
    root = parse(path, "GE MUSE XML")
    rhythms = [wave for wave in root.iter("Waveform") if text(wave, "WaveformType").lower() == "rhythm"]
    if not rhythms:
        kinds = sorted({text(wave, "WaveformType") for wave in root.iter("Waveform")})
        raise UserError(f"{path}: waveforms of type {', '.join(kinds) or '(none)'}; expected one of type Rhythm")
    rhythm = max(rhythms, key=lambda wave: len(_leads(wave)))
    rate = _sampling_rate(path, rhythm)
    names, signals, steps, flawed, off = [], [], [], [], []
    for lead in _leads(rhythm):
        name = text(lead, "LeadID")
        samples, step, intact = _samples(f"{path}: lead {name!r}", lead)
        names.append(name)
        signals.append(samples * (step / 1000))
        steps.append(step)
        flawed += [] if intact else [name]
        off += [name] if text(lead, "LeadOff").upper() == "TRUE" else []
    lengths = {len(signal) for signal in signals}
    if len(lengths) != 1:
        raise UserError(f"{path}: leads of {sorted(lengths) or 'no'} samples; expected leads of one length")
    metadata = _metadata(root)
    metadata |= {"checksum_mismatches": flawed} if flawed else {}
    metadata |= {"leads_off": off} if off else {}
    return from_channels(path.stem, np.stack(signals, axis=1), names, rate, source=path, steps=steps, metadata=metadata)


def _leads(waveform: Element) -> list[Element]:
    return waveform.findall("LeadData")


def _sampling_rate(path: Path, waveform: Element) -> float:
    base, exponent = number(waveform, "SampleBase"), number(waveform, "SampleExponent") or 0.0
    if base is None or not -9 <= exponent <= 9:
        raise UserError(f"{path}: SampleBase {text(waveform, 'SampleBase')!r}; expected the sampling rate in Hz")
    kind = text(waveform, "SampleType")
    if kind not in ("", "CONTINUOUS_SAMPLES"):
        raise UserError(f"{path}: samples of type {kind!r}; expected CONTINUOUS_SAMPLES")
    return base * 10**exponent


def _samples(what: str, lead: Element) -> tuple[np.ndarray, float, bool]:
    """Samples in bits, microvolts per bit, and whether the checksum (where there is one) is right."""
    if not canonical_name(text(lead, "LeadID")) and not text(lead, "LeadID"):
        raise UserError(f"{what} has no LeadID; expected the name of a lead")
    units, size = text(lead, "LeadAmplitudeUnits") or "MICROVOLTS", text(lead, "LeadSampleSize") or "2"
    step, scale = number(lead, "LeadAmplitudeUnitsPerBit"), millivolts(units)
    if not step or scale is None:
        raise UserError(f"{what} has {text(lead, 'LeadAmplitudeUnitsPerBit')!r} {units} per bit; expected microvolts")
    if size != "2":
        raise UserError(f"{what} has samples of {size} bytes; expected 2")
    for field in ("LeadTimeOffset", "LeadOffsetFirstSample", "FirstSampleBaseline"):
        if text(lead, field) and number(lead, field) != 0:
            raise UserError(f"{what} has {field} {text(lead, field)!r}; expected 0")
    try:
        data = base64.b64decode((lead.findtext("WaveFormData") or "").encode(), validate=False)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise UserError(f"{what}: WaveFormData is not base64 ({error})") from error
    for field, held in (("LeadByteCountTotal", len(data)), ("LeadSampleCountTotal", len(data) / 2)):
        if text(lead, field) and number(lead, field) != held:
            raise UserError(f"{what}: damaged, {field} is {text(lead, field)} but WaveFormData holds {held:g}")
    if len(data) % 2:
        raise UserError(f"{what}: {len(data)} bytes; expected a whole number of 16-bit samples")
    checksum = number(lead, "LeadDataCRC32")
    return np.frombuffer(data, "<i2").astype(np.float64), step * scale * 1000, checksum in (None, zlib.crc32(data))


def _metadata(root: Element) -> dict[str, Any]:
    """Age, sex, device, statements and global measurements; nothing that names the patient."""
    person = root.find("PatientDemographics")
    metadata: dict[str, Any] = {
        "age": age_in_years(text(person, "PatientAge"), text(person, "AgeUnits")),
        "sex": sex(text(person, "Gender")),
        "device": text(root, "TestDemographics/AcquisitionDevice") or None,
    }
    statements, line = [], ""
    for statement in root.findall("Diagnosis/DiagnosisStatement"):
        # One statement may be in several pieces, the last of which is marked.
        line = f"{line} {text(statement, 'StmtText')}".strip()
        if any(text(flag) == "ENDSLINE" for flag in statement.findall("StmtFlag")):
            statements.append(line)
            line = ""
    statements += [line] if line else []
    measured = root.find("RestingECGMeasurements")
    measurements = {
        name: {"value": value, "unit": unit}
        for name, unit in _UNITS.items()
        if (value := number(measured, name)) is not None
    }
    known = {key: value for key, value in metadata.items() if value is not None}
    return {**known, "manufacturer": "GE", "statements": statements, "measurements": measurements}
