"""WFDB records: a text header (.hea) and signal files (.dat, or MATLAB v4 .mat read as raw samples).

The decoding of samples is the wfdb package's. What it lets pass is checked here first: it ignores surplus samples,
drops the letter from a unit written with a non-ASCII mu (making microvolts volts), and allocates what a header says.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from ecgjax.data.leads import canonical_name
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.wfdb_header import Header, parse
from ecgjax.errors import UserError

# Stored samples per block of bytes. Formats 508, 516 and 524 are FLAC: their length is asked of the file.
_SAMPLES_PER_BYTES = {
    "8": (1, 1), "16": (1, 2), "24": (1, 3), "32": (1, 4), "61": (1, 2), "80": (1, 1), "160": (1, 2),
    "212": (2, 3), "310": (3, 4), "311": (3, 4),
}  # fmt: skip
_FLAC = ("508", "516", "524")
_INVALID = {
    "16": -(2**15), "24": -(2**23), "32": -(2**31), "61": -(2**15), "80": -(2**7), "160": -(2**15),
    "212": -(2**11), "310": -(2**9), "311": -(2**9), "508": -(2**7), "516": -(2**15), "524": -(2**23),
}  # fmt: skip
"""Number that stands for no value, by format; format 8, of differences, has none."""
_MILLIVOLTS = {"": 1.0, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6, "v": 1e3}
_LARGEST_HEADER = 2**20
_MOST_SAMPLES = 2**30


def matches(path: Path) -> bool:
    """Whether `path` names a WFDB record: its header, or a signal file or bare name with a header beside it."""
    return path.suffix.lower() == ".hea" or (path.suffix.lower() in ("", ".dat", ".mat") and _header_of(path).is_file())


def read(path: Path) -> Recording:
    """Reads a WFDB record.

    Args:
        path: see `matches`.

    Raises:
        UserError: anything wrong with the header or the signal files, or a record without one of the twelve leads.
    """
    header_path = _header_of(path).absolute()
    if "::" in str(header_path):
        # The wfdb package opens files through fsspec, to which "::" is a chain of (remote) file systems.
        raise UserError(f"{header_path}: '::' in the path; expected a path without it")
    lines, comments = _read_header(header_path)
    try:
        header = parse(lines)
    except ValueError as error:
        raise UserError(f"{header_path}: not a WFDB header ({' '.join(str(error).split())})") from error
    if header.n_seg is not None:
        raise UserError(f"{header_path}: a record of several segments; expected one segment")
    if not header.n_sig or len(lines) - 1 != header.n_sig:
        raise UserError(
            f"{header_path}: {len(lines) - 1} signal lines for {header.n_sig or 0} signals; expected one each"
        )
    names = [name or "" for name in header.sig_name]
    wanted = [i for i, name in enumerate(names) if canonical_name(name)]
    if not wanted:
        raise UserError(f"{header_path}: no lead is one of the twelve; the signals are {', '.join(map(repr, names))}")
    units = [_units(line) for line in lines[1:]]
    for i in wanted:
        _check_signal(header_path, header, i, units[i])
    for file in dict.fromkeys(header.file_name[i] for i in wanted):
        _check_file(header_path, header, file)
    digital, missing, flawed = _read_samples(header_path, header, wanted)
    scales = [_MILLIVOLTS[units[i].lower()] for i in wanted]
    with np.errstate(over="ignore"):
        signal = digital - np.array([float(header.baseline[i]) for i in wanted])
        signal /= [header.adc_gain[i] for i in wanted]
        signal *= scales
    signal[missing] = np.nan
    metadata = parse_comments(comments)
    others = [name for i, name in enumerate(names) if i not in wanted]
    metadata |= {"other_leads": others} if others else {}
    metadata |= {"checksum_mismatches": flawed} if flawed else {}
    return from_channels(
        header_path.stem,
        signal,
        [names[i] for i in wanted],
        header.fs * (header.samps_per_frame[wanted[0]] or 1),
        source=header_path,
        steps=[abs(1000 * scale / header.adc_gain[i]) for i, scale in zip(wanted, scales, strict=True)],
        metadata=metadata,
    )


def parse_comments(comments: list[str]) -> dict[str, Any]:
    """What the comment lines of a header say.

    Args:
        comments: lines without "#".

    Returns:
        `comments` (the lines), `fields` (value by key of the lines "key: value"; of a repeated key the last), and where
        they are given `age` (years), `sex` ("male" or "female") and `diagnoses` (the codes of "Dx").
    """
    pairs = [line.partition(":") for line in comments if ":" in line]
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    lower = {key.lower(): value for key, value in fields.items()}
    metadata: dict[str, Any] = {"comments": comments, "fields": fields}
    try:
        age = float(lower.get("age", "nan"))
    except ValueError:
        age = math.nan
    if 0 <= age < 150:
        metadata["age"] = age
    sex = {"m": "male", "male": "male", "f": "female", "female": "female"}.get(lower.get("sex", "").lower())
    if sex:
        metadata["sex"] = sex
    if lower.get("dx"):
        metadata["diagnoses"] = [code for part in lower["dx"].split(",") if (code := part.strip())]
    return metadata


def _header_of(path: Path) -> Path:
    if path.suffix.lower() in (".dat", ".mat"):
        return path.with_suffix(".hea")
    return path if path.suffix.lower() == ".hea" else path.with_name(path.name + ".hea")


def _read_header(path: Path) -> tuple[list[str], list[str]]:
    """Lines and comments of a header, decoded here because the package drops every non-ASCII letter."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a WFDB header")
    if path.stat().st_size > _LARGEST_HEADER:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected a WFDB header of at most {_LARGEST_HEADER}")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    return [s for s in lines if not s.startswith("#")], [s.lstrip("#").strip() for s in lines if s.startswith("#")]


def _units(line: str) -> str:
    """Unit text of a signal line, whose third field is gain(baseline)/units."""
    fields = line.split()
    return fields[2].partition("/")[2] if len(fields) > 2 else ""


def _check_signal(path: Path, header: Header, i: int, units: str) -> None:
    lead = f"{path}: lead {header.sig_name[i]!r}"
    if units.lower() not in _MILLIVOLTS:
        raise UserError(f"{lead} has units {units!r}; expected mV, uV, nV or V")
    if not (math.isfinite(header.adc_gain[i]) and header.adc_gain[i] != 0):
        raise UserError(f"{lead} has gain {header.adc_gain[i]}; expected a finite number per unit")
    if header.fmt[i] not in (*_SAMPLES_PER_BYTES, *_FLAC):
        raise UserError(
            f"{lead} has format {header.fmt[i]!r}; expected one of {', '.join((*_SAMPLES_PER_BYTES, *_FLAC))}"
        )


def _check_file(path: Path, header: Header, name: str) -> None:
    """Checks that a signal file holds what the header promises, before anything is allocated."""
    file = path.with_name(name)
    if not name or not file.is_file():
        raise UserError(f"{file}: no such file; expected the signal file that {path.name} names")
    signals = [i for i, other in enumerate(header.file_name) if other == name]
    if signals != list(range(signals[0], signals[-1] + 1)):
        raise UserError(f"{path}: the signals of {name} are not in one block; expected them together")
    layouts = {(header.fmt[i], header.byte_offset[i] or 0) for i in signals}
    if len(layouts) > 1:
        raise UserError(f"{path}: the signals of {name} differ in format or byte offset; expected one format per file")
    form, offset = layouts.pop()
    per_frame = sum(header.samps_per_frame[i] or 1 for i in signals)
    if any(header.samps_per_frame[i] == 0 for i in signals):
        raise UserError(f"{path}: a signal of {name} has 0 samples per frame; expected at least 1")
    if form in _FLAC:
        frames = _flac_frames(file) // max(header.samps_per_frame[i] or 1 for i in signals) - offset
        exact = frames
    else:
        samples, of_bytes = _SAMPLES_PER_BYTES[form]
        available = max(file.stat().st_size - offset, 0)
        frames = available * samples // of_bytes // per_frame
        # The packed formats end in a block that may hold up to two samples too many.
        exact = max((available - (of_bytes if samples > 1 else 0)) * samples // of_bytes // per_frame, 0)
    expected = header.sig_len
    if expected is None:
        return
    if frames < expected:
        raise UserError(f"{file}: truncated, it holds {frames} samples per lead; {path.name} promises {expected}")
    if exact > expected:
        raise UserError(f"{file}: holds {frames} samples per lead; {path.name} promises {expected}")
    if expected * per_frame > _MOST_SAMPLES:
        raise UserError(f"{path}: {expected} samples per lead; expected at most {_MOST_SAMPLES // per_frame}")
    if max(header.skew[i] or 0 for i in signals) >= expected > 0:
        raise UserError(f"{path}: a lead is skewed by more than the record's {expected} samples")


def _flac_frames(file: Path) -> int:
    import soundfile

    try:
        return int(soundfile.info(str(file)).frames)
    except (RuntimeError, OSError) as error:
        raise UserError(f"{file}: not a FLAC signal file ({error})") from error


def _read_samples(path: Path, header: Header, wanted: list[int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Stored numbers (samples, leads), which of them are invalid, and the leads whose checksum is wrong."""
    if len({header.samps_per_frame[i] or 1 for i in wanted}) > 1:
        raise UserError(f"{path}: leads of different sampling rates; expected one rate for all leads")
    try:
        if all(_is_plain(header, name) for name in {header.file_name[i] for i in wanted}):
            digital = _read_plain(path, header, wanted)
        else:
            record = wfdb.rdrecord(
                str(path.with_suffix("")), channels=wanted, physical=False, smooth_frames=False, return_res=32
            )
            digital = np.stack(record.e_d_signal, axis=1)
    except Exception as error:  # What the package raises on malformed files is not a set list.
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    missing = digital == np.array([_INVALID.get(header.fmt[i], 2**40) for i in wanted])
    sums = digital.sum(axis=0, dtype=np.int64)
    flawed = [
        str(header.sig_name[i])
        for i, total in zip(wanted, sums, strict=True)
        # 0 is what writers put that do not compute checksums.
        if header.checksum[i] and (int(total) - int(header.checksum[i] or 0)) % 2**16
    ]
    return digital, missing, flawed


def _is_plain(header: Header, file_name: str) -> bool:
    """Whether a file holds nothing but 16-bit numbers, one of each signal in turn."""
    signals = [k for k, name in enumerate(header.file_name) if name == file_name]
    return all(header.fmt[k] == "16" and header.samps_per_frame[k] == 1 and not header.skew[k] for k in signals)


def _read_plain(path: Path, header: Header, wanted: list[int]) -> np.ndarray:
    """What `wfdb.rdrecord` gives for plain files, without its reading the header anew."""
    columns: dict[int, np.ndarray] = {}
    for name in dict.fromkeys(header.file_name[i] for i in wanted):
        signals = [k for k, other in enumerate(header.file_name) if other == name]
        count = -1 if header.sig_len is None else header.sig_len * len(signals)
        numbers = np.fromfile(path.with_name(name), "<i2", count, offset=header.byte_offset[signals[0]] or 0)
        frames = numbers[: len(numbers) // len(signals) * len(signals)].reshape(-1, len(signals))
        columns |= {signal: frames[:, k] for k, signal in enumerate(signals)}
    return np.stack([columns[i] for i in wanted], axis=1)
