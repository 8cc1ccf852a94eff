"""GE CardioSoft XML (`CardiologyXML`): numbers as text, one list per lead, or all leads interleaved."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from ecgjax.data.readers_xml import age_in_years, as_number, number, numbers, parse, root_name, sex, text
from ecgjax.data.recording import Recording, from_channels
from ecgjax.errors import UserError


def matches(path: Path) -> bool:
    """Whether `path` is XML with the root `CardiologyXML`."""
    return root_name(path) == "CardiologyXML"


def read(path: Path) -> Recording:
    """Reads the 10 s strip of a CardioSoft file, or where there is none the full disclosure.

    The full disclosure is left out otherwise: it begins with zeros until the filters have settled.

    Raises:
        UserError: the file is damaged, or holds neither, or says no resolution or rate.
    """
    root = parse(path, "GE CardioSoft XML")
    strip, disclosure = root.find("StripData"), root.find("FullDisclosure")
    if strip is not None and strip.find("WaveformData") is not None:
        part, names, signal = strip, *_strip(path, strip)
    elif disclosure is not None and disclosure.find("FullDisclosureData") is not None:
        part, names, signal = disclosure, *_disclosure(path, disclosure)
    else:
        raise UserError(f"{path}: neither StripData nor FullDisclosure; expected the samples in one of them")
    step, rate = number(part, "Resolution"), number(part, "SampleRate")
    resolution = part.find("Resolution")
    unit = "" if resolution is None else resolution.get("units", "uVperLsb")
    if not step or unit != "uVperLsb":
        raise UserError(f"{path}: Resolution {text(part, 'Resolution')!r} {unit}; expected a number of uVperLsb")
    unit = _units(part, "SampleRate")
    if rate is None or unit not in ("", "Hz"):
        raise UserError(f"{path}: SampleRate {text(part, 'SampleRate')!r} {unit}; expected a number of Hz")
    return from_channels(
        path.stem,
        signal * (step / 1000),
        names,
        rate,
        source=path,
        # Steps hold only for whole numbers of bits.
        steps=[abs(step) if np.array_equal(column, np.round(column)) else None for column in signal.T],
        metadata=_metadata(root),
    )


def _strip(path: Path, strip: Element) -> tuple[list[str], np.ndarray]:
    """Names and samples in bits (samples, leads) of one list per lead."""
    waveforms = strip.findall("WaveformData")
    names = [waveform.get("lead", "") for waveform in waveforms]
    columns = [
        numbers(waveform.text or "", ",", f"{path}: lead {name!r}")
        for name, waveform in zip(names, waveforms, strict=True)
    ]
    expected = number(strip, "ChannelSampleCountTotal")
    expected = len(columns[0]) if expected is None else expected
    for name, column in zip(names, columns, strict=True):
        if len(column) != expected:
            raise UserError(f"{path}: damaged, lead {name!r} has {len(column)} samples; expected {expected:g}")
    return names, np.stack(columns, axis=1)


def _disclosure(path: Path, disclosure: Element) -> tuple[list[str], np.ndarray]:
    """Names and samples in bits (samples, leads) of interleaved leads."""
    names = [name.strip() for name in text(disclosure, "LeadOrder").split(",")]
    values = numbers(disclosure.findtext("FullDisclosureData") or "", ",", f"{path}: FullDisclosureData")
    expected = number(disclosure, "FullDisclosureData/SampleCountTotal")
    if len(values) % len(names) or (expected is not None and len(values) != expected):
        raise UserError(
            f"{path}: damaged, FullDisclosureData has {len(values)} values; expected "
            + (f"a multiple of {len(names)} leads" if expected is None else f"{expected:g}")
        )
    return names, values.reshape(-1, len(names))


def _units(element: Element, name: str) -> str:
    found = element.find(name)
    return "" if found is None else found.get("units", "")


def _metadata(root: Element) -> dict[str, Any]:
    """Age, sex, device, statements and global measurements; nothing that names the patient."""
    person = root.find("PatientInfo")
    metadata: dict[str, Any] = {"manufacturer": "GE"}
    if person is not None:
        age, gender = age_in_years(text(person, "Age"), _units(person, "Age")), sex(text(person, "Gender"))
        metadata |= {"age": age} if age is not None else {}
        metadata |= {"sex": gender} if gender else {}
    if device := text(root, "ClinicalInfo/DeviceInfo/Desc"):
        metadata["device"] = device
    statements = [text(statement) for statement in root.findall("Interpretation/Diagnosis/DiagnosisText")]
    measurements = {
        element.tag: {"value": value, "unit": element.get("units", "")}
        for element in root.findall("RestingECGMeasurements/*")
        if len(element) == 0 and (value := as_number(text(element))) is not None
    }
    return {**metadata, "statements": [line for line in statements if line], "measurements": measurements}
