"""SCP-ECG (EN 1064, ISO 11073-91064), versions 1.x, 2.x and 3.

A record is a chain of sections. The ecgdatakit package decodes what versions 1 and 2 hold in Section 6 (Huffman codes,
first and second differences). Section 12, the continuous recording of version 3, is decoded here. What files declare is
checked first, because the package allocates it.

Not read, for want of files to check it with: subtracted reference beats, bimodal compression and Huffman tables other
than the default one. They are refused.
"""

import struct
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecgjax.data.leads import CANONICAL, canonical_name
from ecgjax.data.recording import Recording, from_channels
from ecgjax.errors import UserError

_LARGEST_FILE = 2**25
_MOST_SAMPLES = 2**23
_HEADER = 16
_DEFAULT_TABLE = (19999).to_bytes(2, "little")
_SEXES = {1: "male", 2: "female"}
_PER_YEAR = {1: 1.0, 2: 12.0, 3: 52.18, 4: 365.25, 5: 8766.0}


class _Lead(NamedTuple):
    start: int
    end: int
    name: str


def matches(path: Path) -> bool:
    """Whether `path` begins with a pointer section (Section 0 at byte 7)."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(32)
    return len(head) == 32 and head[8:10] == head[22:24] == b"\0\0" and head[28:32] == b"\7\0\0\0"


def read(path: Path) -> Recording:
    """Reads the rhythm of an SCP-ECG file: Section 6, or where there is none Section 12.

    Raises:
        UserError: ecgdatakit is not installed, or the file is damaged, or compressed in a way that is not supported.
    """
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise UserError(f"{path}: {size} bytes; expected SCP-ECG of at most {_LARGEST_FILE}")
    data = path.read_bytes()
    try:
        sections = _sections(path, data)
        metadata = _patient(sections.get(1, b""))
        if 6 in sections:
            return _short_term(path, sections, metadata)
        if 12 in sections:
            return _long_term(path, sections[12], metadata)
    except (struct.error, IndexError) as error:
        raise UserError(f"{path}: truncated or damaged, a section is shorter than its contents ({error})") from error
    raise UserError(f"{path}: no rhythm; expected SCP-ECG with Section 6 or 12")


def _sections(path: Path, data: bytes) -> dict[int, bytes]:
    """Contents of the sections that the pointer section lists."""
    (size,) = struct.unpack_from("<I", data, 2)
    (length,) = struct.unpack_from("<I", data, 10)
    if size > len(data) or not _HEADER < length <= len(data) - 6:
        raise UserError(f"{path}: truncated, it has {len(data)} bytes; its header says {size}")
    found = {}
    for at in range(6 + _HEADER, 6 + length - 9, 10):
        number, section_length, index = struct.unpack_from("<HII", data, at)
        if number == 0 or section_length == 0:
            continue
        if index == 0 or index - 1 + section_length > len(data) or section_length < _HEADER:
            raise UserError(f"{path}: damaged, Section {number} lies outside of the {len(data)} bytes of the file")
        (header_number,) = struct.unpack_from("<H", data, index + 1)
        if header_number != number:
            raise UserError(f"{path}: damaged, Section {header_number} where Section {number} was expected")
        found[number] = data[index - 1 + _HEADER : index - 1 + section_length]
    return found


def _leads(path: Path, section: bytes) -> list[_Lead]:
    """Section 3. The last sample of a lead is included in its range."""
    leads = []
    for i in range(section[0]):
        start, end, code = struct.unpack_from("<IIB", section, 2 + 9 * i)
        name = canonical_name(f"5.6.3-9-{code}") or f"SCP lead {code}"
        if not 1 <= start <= end:
            raise UserError(f"{path}: lead {name} is from sample {start} to {end}; expected 1 or more, and an order")
        leads.append(_Lead(start, end, name))
    if not leads or max(lead.end for lead in leads) * len(leads) > _MOST_SAMPLES:
        raise UserError(
            f"{path}: {len(leads)} leads up to sample {max((lead.end for lead in leads), default=0)}; "
            f"expected at most {_MOST_SAMPLES} samples of all leads"
        )
    return leads


def _short_term(path: Path, sections: dict[int, bytes], metadata: dict[str, Any]) -> Recording:
    """Section 6: the 10 s rhythm."""
    if 3 not in sections:
        raise UserError(f"{path}: Section 3 is missing; expected the leads there")
    leads, rhythm = _leads(path, sections[3]), sections[6]
    if sections[3][1] & 1:
        raise UserError(f"{path}: reference beats are subtracted from the rhythm; expected it without (unsupported)")
    if 2 in sections and sections[2][:2] != _DEFAULT_TABLE:
        raise UserError(f"{path}: Huffman tables of its own; expected the default table (others are unsupported)")
    multiplier, interval, _, bimodal = struct.unpack_from("<HHBB", rhythm)
    if bimodal:
        raise UserError(f"{path}: bimodal compression of the rhythm; expected it without (unsupported)")
    if multiplier == 0 or interval == 0:
        raise UserError(f"{path}: {multiplier} nV per bit and {interval} us per sample; expected positive numbers")
    sizes = struct.unpack_from(f"<{len(leads)}H", rhythm, 6)
    for lead, size in zip(leads, sizes, strict=True):
        # No code is shorter than a bit.
        if lead.end - lead.start + 1 > 8 * size:
            raise UserError(
                f"{path}: damaged, lead {lead.name} has {size} bytes for samples {lead.start} to {lead.end}"
            )
    record = _decode(path)
    first, last = min(lead.start for lead in leads), max(lead.end for lead in leads)
    signal = np.full((last - first + 1, len(leads)), np.nan)
    for i, (lead, decoded) in enumerate(zip(leads, record.leads, strict=True)):
        signal[lead.start - first : lead.end - first + 1, i] = decoded.samples * (multiplier * 1e-6)
    if "age" not in metadata and record.patient.age is not None and 0 <= record.patient.age < 150:
        metadata["age"] = float(record.patient.age)  # From the dates of birth and recording.
    statements = [] if record.interpretation is None else [words for words, _ in record.interpretation.statements]
    return from_channels(
        path.stem,
        signal,
        [lead.name for lead in leads],
        # An interval is a whole number of microseconds: 3333 us is 300 Hz.
        round(1e6 / interval) if interval < 10_000 else 1e6 / interval,
        source=path,
        steps=[multiplier * 1e-3] * len(leads),
        metadata={**metadata, "statements": statements, "measurements": _measurements(record.measurements)},
    )


def _decode(path: Path) -> Any:
    try:
        from ecgdatakit.parsing.parsers.scp_ecg import SCPECGParser
    except ImportError as error:
        raise UserError(
            f"{path}: reading SCP-ECG needs ecgdatakit; install it with: pip install 'ecgjax[formats]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SCPECGParser().parse(path)
    except Exception as error:  # What the package raises on malformed files is not a set list.
        raise UserError(f"{path}: damaged SCP-ECG ({' '.join(str(error).split())})") from error


def _long_term(path: Path, section: bytes, metadata: dict[str, Any]) -> Recording:
    """Section 12 of version 3: interleaved samples of 1 to 4 bytes, each lead with its own step."""
    rate, count, samples, size = struct.unpack_from("<IBIB", section)
    notes, maker = struct.unpack_from("<II", section, 62)
    at = 70 + notes + maker
    if size not in (1, 2, 4):
        raise UserError(f"{path}: samples of {size} bytes; expected 1, 2 or 4")
    if not count or samples * count > _MOST_SAMPLES:
        raise UserError(f"{path}: {count} leads of {samples} samples; expected at most {_MOST_SAMPLES} of all leads")
    definitions = [struct.unpack_from("<BH", section, at + 4 * i) for i in range(count)]
    raw = section[at + 4 * count : at + 4 * count + samples * count * size]
    if len(raw) < samples * count * size:
        raise UserError(f"{path}: truncated, Section 12 holds {len(raw)} bytes for {count} leads of {samples} samples")
    bits = np.frombuffer(raw, f"<i{size}").reshape(samples, count)
    names = [canonical_name(f"5.6.3-9-{code}") or f"SCP lead {code}" for code, _ in definitions]
    nanovolts = np.array([step for _, step in definitions], np.float64)
    if zero := [name for name, step in zip(names, nanovolts, strict=True) if step == 0 and name in CANONICAL]:
        raise UserError(f"{path}: 0 nV per bit in {', '.join(zero)}; expected a positive number")
    return from_channels(
        path.stem, bits * (nanovolts * 1e-6), names, rate, source=path, steps=list(nanovolts * 1e-3), metadata=metadata
    )


def _patient(section: bytes) -> dict[str, Any]:
    """Age (tag 4) and sex (tag 8) of Section 1; nothing that names the patient."""
    metadata: dict[str, Any] = {}
    at = 0
    while at + 3 <= len(section) and section[at] != 255:
        tag, length = struct.unpack_from("<BH", section, at)
        value = section[at + 3 : at + 3 + length]
        at += 3 + length
        if tag == 8 and value and value[0] in _SEXES:
            metadata["sex"] = _SEXES[value[0]]
        elif tag == 4 and len(value) >= 3 and value[2] in _PER_YEAR:
            age = int.from_bytes(value[:2], "little") / _PER_YEAR[value[2]]
            metadata |= {"age": age} if 0 < age < 150 else {}
    return metadata


def _measurements(measured: Any) -> dict[str, dict[str, Any]]:
    units = {"heart_rate": "/min", "rr_interval": "ms", "pr_interval": "ms", "qrs_duration": "ms", "qt_interval": "ms",
             "qtc_bazett": "ms", "p_axis": "deg", "qrs_axis": "deg", "t_axis": "deg"}  # fmt: skip
    return {
        name: {"value": float(value), "unit": unit}
        for name, unit in units.items()
        if (value := getattr(measured, name, None)) is not None
    }
