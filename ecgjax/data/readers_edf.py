"""EDF, EDF+ (16 bits) and BDF, BDF+ (24 bits)."""

import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ecgjax.data.leads import canonical_name
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.units import millivolts
from ecgjax.errors import UserError

_LARGEST_FILE = 2**27
_MAGIC = {b"0       ": "EDF", b"\xffBIOSEMI": "BDF"}
# "ECG I", "EKG V1", "ECG-aVR": what the signal is may stand before the lead.
_KIND = re.compile(r"e[ck]g[ _:-]+", re.IGNORECASE)


def matches(path: Path) -> bool:
    """Whether `path` begins like an EDF or BDF file."""
    return _magic(path) in _MAGIC


def _magic(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(8)


def read(path: Path) -> Recording:
    """Reads the leads of an EDF or BDF file; annotations and other signals are left out.

    Raises:
        UserError: edfio is not installed, or the file is damaged, truncated, interrupted, not in volts, or without any
            of the twelve leads.
    """
    try:
        import edfio
    except ImportError as error:
        raise UserError(f"{path}: reading EDF needs edfio; install it with: pip install 'ecgjax[formats]'") from error
    kind = _MAGIC.get(_magic(path))
    if kind is None:
        raise UserError(f"{path}: begins neither like EDF nor like BDF")
    if path.stat().st_size > _LARGEST_FILE:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected {kind} of at most {_LARGEST_FILE}")
    content = path.read_bytes()
    _check_header(path, kind, content)
    reader = edfio.read_edf if kind == "EDF" else edfio.read_bdf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path, reader(content, header_encoding="latin-1"))
    except UserError:
        raise
    except Exception as error:  # edfio converts header fields when they are looked at, and raises what it likes.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: damaged or not {kind} ({reason})") from error


def _check_header(path: Path, kind: str, content: bytes) -> None:
    """Checks that the file is as long as its header says; edfio reads what is there."""
    try:
        header_bytes, records, signals = (int(content[i:j]) for i, j in ((184, 192), (236, 244), (252, 256)))
        if not 1 <= signals <= 1024 or header_bytes != 256 * (signals + 1):
            raise UserError(f"{path}: {signals} signals and a header of {header_bytes} bytes; expected 256 per signal")
        start = 256 + 216 * signals
        per_record = [int(content[start + 8 * i : start + 8 * i + 8]) for i in range(signals)]
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged, its header has no number where one is expected ({error})") from error
    size = {"EDF": 2, "BDF": 3}[kind] * sum(per_record)
    if min(per_record) < 0 or size == 0:
        raise UserError(f"{path}: {per_record} samples per record; expected positive numbers")
    held = (len(content) - header_bytes) / size
    # -1 is what a recorder leaves that did not close the file.
    if records != -1 and held != records:
        raise UserError(f"{path}: truncated or damaged, it holds {held:g} data records; its header says {records}")


def _read(path: Path, edf: Any) -> Recording:
    if edf.reserved[:5] in ("EDF+D", "BDF+D") and not edf.is_continuous:
        raise UserError(f"{path}: recorded with interruptions ({edf.reserved[:5]}); expected a continuous recording")
    wanted = [(name, signal) for signal in edf.signals if canonical_name(name := _KIND.sub("", signal.label, count=1))]
    others = [signal.label for signal in edf.signals if signal not in [kept for _, kept in wanted]]
    if not wanted:
        raise UserError(f"{path}: no signal is one of the twelve leads; they are {', '.join(map(repr, others))}")
    rates = {signal.sampling_frequency for _, signal in wanted}
    if len(rates) > 1:
        raise UserError(f"{path}: leads of {sorted(rates)} Hz; expected one rate for all leads")
    columns, steps = [], []
    for name, signal in wanted:
        scale = millivolts(signal.physical_dimension)
        if scale is None:
            raise UserError(f"{path}: lead {name} has units {signal.physical_dimension!r}; expected uV, mV or V")
        bits = signal.digital_max - signal.digital_min
        gain = (signal.physical_max - signal.physical_min) * scale / bits if bits else 0.0
        if not (math.isfinite(gain) and gain != 0):
            raise UserError(
                f"{path}: lead {name} has a physical or digital range of nothing; expected minimum < maximum"
            )
        offset = signal.physical_max * scale - gain * signal.digital_max
        columns.append(signal.digital.astype(np.float64) * gain + offset)
        steps.append(abs(gain) * 1000 if abs(math.remainder(offset, gain)) < 1e-6 * abs(gain) else None)
    metadata = _metadata(edf) | ({"other_leads": others} if others else {})
    names = [name for name, _ in wanted]
    return from_channels(
        path.stem, np.stack(columns, axis=1), names, rates.pop(), source=path, steps=steps, metadata=metadata
    )


def _metadata(edf: Any) -> dict[str, Any]:
    """Sex, age and equipment of EDF+; nothing that names the patient. Plain EDF has no such fields."""
    metadata: dict[str, Any] = {}
    if edf.reserved[:4] not in ("EDF+", "BDF+"):
        return metadata
    try:
        sex = {"M": "male", "F": "female"}.get(edf.patient.sex)
        metadata |= {"sex": sex} if sex else {}
        equipment = edf.recording.equipment_code
        metadata |= {"device": equipment} if equipment not in ("", "X") else {}
        born, recorded = edf.patient.birthdate, edf.recording.startdate
        age = recorded.year - born.year - ((recorded.month, recorded.day) < (born.month, born.day))
        metadata |= {"age": float(age)} if 0 <= age < 150 else {}
    except Exception:  # edfio raises its own and Python's errors where a field is anonymous ("X") or absent.
        return metadata
    return metadata
