"""HL7 annotated ECG (`AnnotatedECG`, PORT_MT020001): the XML format of submissions to the FDA.

A series holds sequence sets; a set holds one sequence for the time and one per lead, whose samples are
origin + scale * digits.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from ecgjax.data.leads import canonical_name
from ecgjax.data.readers_xml import as_number, numbers, parse, root_name, sex, text
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.units import millivolts
from ecgjax.errors import UserError

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class _Set(NamedTuple):
    """One sequence set: simultaneous leads."""

    rate: float
    names: list[str]
    sequences: list[Element]
    samples: int


def matches(path: Path) -> bool:
    """Whether `path` is XML with the root `AnnotatedECG`."""
    return root_name(path) == "AnnotatedECG"


def read(path: Path) -> Recording:
    """Reads the rhythm of an aECG; representative beats and other derived series are left out.

    Of several sequence sets the one with the most of the twelve leads is taken, and of those the longest.

    Raises:
        UserError: the file is damaged, has no rhythm, units that are not known, or leads spread over several sets.
    """
    root = parse(path, "HL7 aECG")
    sets = [
        _sequence_set(path, element)
        for series in root.findall("component/series")
        if _code(series).upper() != "REPRESENTATIVE_BEAT"
        for element in series.findall("component/sequenceSet")
    ]
    sets = [found for found in sets if found.sequences]
    if not sets:
        raise UserError(f"{path}: no series with leads; expected a rhythm (component/series/component/sequenceSet)")
    best = max(sets, key=lambda found: (len(_canonical(found.names)), found.samples / found.rate))
    if spread := set().union(*(_canonical(found.names) for found in sets)) - _canonical(best.names):
        raise UserError(
            f"{path}: the leads are spread over {len(sets)} sequence sets ({', '.join(sorted(spread))} are not in the "
            "fullest); expected all leads in one"
        )
    signals, steps = [], []
    for name, sequence in zip(best.names, best.sequences, strict=True):
        signal, step = _samples(f"{path}: lead {name!r}", sequence)
        signals.append(signal)
        steps.append(step)
    lengths = {len(signal) for signal in signals}
    if len(lengths) != 1:
        raise UserError(f"{path}: damaged, leads of {sorted(lengths)} samples; expected leads of one length")
    return from_channels(
        path.stem, np.stack(signals, axis=1), best.names, best.rate, source=path, steps=steps, metadata=_metadata(root)
    )


def _code(element: Element) -> str:
    code = element.find("code")
    return "" if code is None else code.get("code", "")


def _canonical(names: list[str]) -> set[str]:
    return {lead for name in names if (lead := canonical_name(name))}


def _sequence_set(path: Path, element: Element) -> _Set:
    rate, names, sequences = 0.0, [], []
    for sequence in element.findall("component/sequence"):
        code = _code(sequence)
        if code.startswith("TIME_"):
            rate = _rate(path, sequence)
        elif "_ECG_LEAD_" in code:
            names.append(code)
            sequences.append(sequence)
    if sequences and not rate:
        raise UserError(f"{path}: a sequence set without time; expected TIME_ABSOLUTE or TIME_RELATIVE")
    samples = max(((sequence.findtext("value/digits") or "").count(" ") for sequence in sequences), default=0)
    return _Set(rate, names, sequences, samples)


def _rate(path: Path, sequence: Element) -> float:
    increment = sequence.find("value/increment")
    value, unit = ("", "") if increment is None else (increment.get("value", ""), increment.get("unit", ""))
    step = as_number(value)
    if step is None or step <= 0 or unit not in _SECONDS:
        raise UserError(f"{path}: time increment {value!r} {unit!r}; expected a number of s, ms or us")
    # 0.002 s is 500 Hz: what decimals of the increment leave over is not the sampling rate's.
    rate = 1 / (step * _SECONDS[unit])
    return round(rate) if abs(rate - round(rate)) < 1e-6 * rate else rate


def _samples(what: str, sequence: Element) -> tuple[np.ndarray, float | None]:
    """Millivolts, and microvolts per bit if the origin is a whole number of bits."""
    value = sequence.find("value")
    if value is None or value.find("digits") is None:
        raise UserError(f"{what} has no digits; expected a value of type SLIST_PQ")
    scale, origin = _quantity(what, value, "scale"), _quantity(what, value, "origin")
    if not scale:
        raise UserError(f"{what} has no scale; expected a value of type SLIST_PQ")
    digits = numbers(value.findtext("digits") or "", None, what)
    on_grid = abs(origin / scale - round(origin / scale)) < 1e-6 and np.array_equal(digits, np.round(digits))
    return origin + digits * scale, abs(scale) * 1000 if on_grid else None


def _quantity(what: str, value: Element, name: str) -> float:
    """Origin or scale in mV; 0 if it is not given."""
    element = value.find(name)
    if element is None:
        return 0.0
    amount, unit = as_number(element.get("value", "")), element.get("unit", "")
    factor = millivolts(unit)
    if amount == 0:
        return 0.0
    if amount is None or factor is None:
        raise UserError(f"{what} has the {name} {element.get('value')!r} {unit!r}; expected a number of uV, mV or V")
    return amount * factor


def _metadata(root: Element) -> dict[str, Any]:
    """Age, sex, device, statements and global measurements; nothing that names the subject."""
    metadata: dict[str, Any] = {}
    person = root.find(".//subjectDemographicPerson")
    if person is not None:
        gender = person.find("administrativeGenderCode")
        born = person.find("birthTime")
        known = sex("" if gender is None else gender.get("code", ""))
        metadata |= {"sex": known} if known else {}
        age = _years_between("" if born is None else born.get("value", ""), _recorded_at(root))
        metadata |= {"age": age} if age is not None else {}
    author = root.find("component/series/author/seriesAuthor")
    for key, path in (
        ("device", "manufacturedSeriesDevice/manufacturerModelName"),
        ("manufacturer", "manufacturerOrganization/name"),
    ):
        metadata |= {key: text(author, path)} if text(author, path) else {}
    statements, measurements = [], {}
    for annotation in root.iterfind("component/series/subjectOf/annotationSet/component/annotation"):
        value = annotation.find("value")
        if "INTERPRETATION" in _code(annotation):
            statements += [words for inner in annotation.iter("annotation") if (words := text(inner.find("value")))]
        elif value is not None and (amount := as_number(value.get("value", ""))) is not None:
            measurements[_code(annotation)] = {"value": amount, "unit": value.get("unit", "")}
    return {**metadata, "statements": statements, "measurements": measurements}


def _recorded_at(root: Element) -> str:
    for path in ("effectiveTime/low", "effectiveTime/center", "effectiveTime"):
        for parent in (root, root.find("component/series")):
            element = None if parent is None else parent.find(path)
            if element is not None and element.get("value"):
                return element.get("value", "")
    return ""


def _years_between(born: str, recorded: str) -> float | None:
    """Age in whole years from two times as YYYYMMDD..."""
    dates = [re.match(r"(\d{4})(\d{2})(\d{2})", value) for value in (born, recorded)]
    if dates[0] is None or dates[1] is None:
        return None
    (y0, *day0), (y1, *day1) = ([int(part) for part in date.groups()] for date in dates if date)
    age = y1 - y0 - (day1 < day0)
    return float(age) if 0 <= age < 150 else None
