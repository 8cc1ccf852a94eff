"""Tables of numbers: CSV with one column per lead, and NumPy arrays (.npy). `ecgjax.data.sidecar` says the rest."""

import re
import warnings
from pathlib import Path

import numpy as np

from ecgjax.data.leads import canonical_name
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.sidecar import Sidecar, find_sidecar, read_sidecar
from ecgjax.errors import UserError

_MAGIC = b"\x93NUMPY"
_LARGEST_NPY = 2**28
_LARGEST_CSV = 2**26
_MOST_COLUMNS = 256
_LONGEST_LINE = 2**14
# Columns that count or time the samples.
_INDEX = ("", "time", "t", "sample", "samples", "index", "seconds", "ms", "time (s)", "time [s]", "unnamed: 0")


def matches_npy(path: Path) -> bool:
    """Whether `path` begins like a .npy file."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_npy(path: Path) -> Recording:
    """Reads an array (samples, leads) or (leads, samples), integer or floating.

    Raises:
        UserError: no sidecar, or the file is damaged, or of another shape than the leads.
    """
    if path.stat().st_size > _LARGEST_NPY:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected a .npy file of at most {_LARGEST_NPY}")
    sidecar = read_sidecar(path)
    try:
        # Mapped: a header cannot ask for more than the file holds.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy evaluates the header, and lets through what that raises.
        raise UserError(f"{path}: damaged or not a .npy file ({' '.join(str(error).split())})") from error
    return from_array(path, array, sidecar)


def from_array(path: Path, array: np.ndarray, sidecar: Sidecar) -> Recording:
    """Makes a recording of a matrix whose leads the sidecar names."""
    if array.dtype.kind not in "iuf" or array.ndim != 2 or not array.size:
        raise UserError(f"{path}: array of {array.dtype} and shape {array.shape}; expected numbers (samples, leads)")
    if sidecar.leads is None:
        raise UserError(f'{sidecar.path}: no "leads"; expected their names, because {path.name} does not hold them')
    count = len(sidecar.leads)
    if count not in array.shape or array.shape == (count, count):
        raise UserError(
            f"{path}: shape {array.shape}; expected (samples, {count}) for the leads of {sidecar.path.name}"
        )
    values = np.asarray(array if array.shape[1] == count else array.T, np.float64)
    if np.isinf(values).any():
        raise UserError(f"{path}: infinite values; expected numbers, or NaN where there is none")
    return _recording(path, values, sidecar.leads, sidecar)


def _recording(path: Path, values: np.ndarray, leads: tuple[str, ...], sidecar: Sidecar) -> Recording:
    return from_channels(
        path.stem,
        values * sidecar.millivolts,
        leads,
        sidecar.sampling_rate,
        source=path,
        steps=[sidecar.microvolt_per_bit] * len(leads),
        metadata=sidecar.metadata,
    )


def matches_csv(path: Path) -> bool:
    """Whether `path` is a text table with a lead in its header, or without header but with a sidecar."""
    if path.suffix.lower() not in (".csv", ".tsv", ".txt") or not path.is_file():
        return False
    line = _first_line(path)
    fields = _fields(line, _separator(line))
    if any(canonical_name(field) for field in fields):
        return True
    return bool(fields) and all(_is_number(field) for field in fields) and find_sidecar(path) is not None


def read_csv(path: Path) -> Recording:
    """Reads a text table, one row per sample, separated by comma, semicolon, tab or blanks.

    The first line may name the leads; a column that counts or times the samples is left out. Empty fields are NaN. With
    semicolons, decimals may have a comma.

    Raises:
        UserError: no sidecar, or something that is not a number, named by its line.
    """
    import pandas as pd

    if path.stat().st_size > _LARGEST_CSV:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected a table of at most {_LARGEST_CSV}")
    line = _first_line(path)
    separator = _separator(line)
    fields = _fields(line, separator)
    if len(fields) > _MOST_COLUMNS:
        raise UserError(f"{path}: {len(fields)} columns; expected one row per sample and one column per lead")
    sidecar = read_sidecar(path)
    named = not all(_is_number(field) for field in fields)
    names = tuple(fields) if named else sidecar.leads
    if names is None:
        raise UserError(f'{path}: no header; expected names of leads there or as "leads" in {sidecar.path.name}')
    if named and sidecar.leads is not None and sidecar.leads != _leads(names):
        raise UserError(f"{path}: its header names {', '.join(names)}; {sidecar.path.name} names other leads")
    if len(names) != len(fields):
        raise UserError(f"{path}: {len(fields)} columns; expected {len(names)} for the leads of {sidecar.path.name}")
    try:
        with warnings.catch_warnings():
            # Such as of fields beyond the last column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep=separator or r"\s+",
                decimal="," if separator == ";" else ".",
                header=None,
                skiprows=1 if named else 0,
                names=range(len(fields)),
                index_col=False,
                dtype=np.float64,
                encoding="utf-8-sig",
                skipinitialspace=True,
                skip_blank_lines=True,
            )
    except Exception as error:  # pandas raises all kinds of errors on malformed text.
        raise UserError(f"{path}: {' '.join(str(error).split())}; expected a number in every field") from error
    kept = [i for i, name in enumerate(names) if not _is_index(name)]
    values = table.to_numpy()[:, kept]
    if np.isinf(values).any():
        row = int(np.isinf(values).any(axis=1).argmax()) + 1 + named
        raise UserError(f"{path}: line {row}: an infinite value; expected numbers, or nothing")
    return _recording(path, values, _leads(names), sidecar)


def _leads(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if not _is_index(name))


def _is_index(name: str) -> bool:
    return name.strip().lower() in _INDEX


def _first_line(path: Path) -> str:
    with open(path, "rb") as file:
        line = file.readline(_LONGEST_LINE)
    return line.decode("utf-8-sig", errors="replace").rstrip("\r\n")


def _separator(line: str) -> str | None:
    """What separates the fields of a line; None for blanks."""
    return next((separator for separator in ("\t", ";", ",") if separator in line), None)


def _fields(line: str, separator: str | None) -> list[str]:
    return [field.strip().strip('"').strip() for field in line.split(separator)]


def _is_number(field: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|[nN]a[nN]", field) is not None
