"""The table of MIMIC-IV-ECG-Ext-ICD: which records there are, their diagnoses, and which of them are the benchmark's.

Diagnoses are ICD-10-CM codes without the dot, cut to five characters, with all their ancestors of three characters or
more (datasets.md, section 4.3).
"""

import ast
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ecgjax.atomic import replacing
from ecgjax.errors import UserError, disk_errors

COLUMNS = (
    *("study_id", "subject_id", "ecg_time", "all_diag_all", "gender", "age", "anchor_age"),
    *("ecg_no_within_stay", "ecg_taken_in_ed", "ecg_taken_in_hosp", "fold", "strat_fold"),
)
"""Columns that are used; others are ignored, also the stray index that some copies begin with."""

FIRST_TESTED_FOLD = 18
"""Folds 0 to 17 train, 18 validates, 19 tests."""

_CHARACTERS = 5
_LIST = re.compile(r"\[(?:'[^'\\]*'(?:, '[^'\\]*')*)?\]")
_WHOLE = ("study_id", "subject_id", "ecg_no_within_stay", "fold", "strat_fold")
_ROWS = 50_000

VERSION = 1
"""Of what `save` writes and `read` makes."""


@dataclass(frozen=True)
class Diagnoses:
    """The table, and the diagnoses of every record.

    Attributes:
        records: one row per record in the order of the file: `COLUMNS` without `all_diag_all`, with `ecg_time` a
            timestamp, and `has_statements`, whether the list of diagnoses has any entry.
        classes: codes, most frequent first.
        starts: (records + 1,) where each record's codes begin in `codes`.
        codes: index into `classes` of all codes of all records.
    """

    records: pd.DataFrame
    classes: tuple[str, ...]
    starts: np.ndarray
    codes: np.ndarray

    def fill(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """Sets targets (rows, classes), which are zeros, to 1 where the record of a row has the diagnosis."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        first = np.repeat(self.starts[rows] - np.cumsum(lengths) + lengths, lengths)
        targets[np.repeat(np.arange(len(rows)), lengths), self.codes[first + np.arange(len(first))]] = 1.0


def expand(code: str) -> tuple[str, ...]:
    """A code and its ancestors: "I4891" gives I48, I489 and I4891, "T07XXXA" gives T07, "I4" nothing.

    Args:
        code: without the dot.

    Returns:
        Prefixes of three characters and more of the first five characters without trailing "X".
    """
    code = code.strip()[:_CHARACTERS].rstrip("X")
    return tuple(code[:length] for length in range(3, len(code) + 1))


def read(path: Path, min_count: int) -> Diagnoses:
    """Reads the table in pieces; memory grows with the number of records but not with their text.

    Args:
        path: records_w_diag_icd10.csv.
        min_count: records that a code needs to become a class, counted over all of them.

    Raises:
        UserError: not a CSV file, a column is missing, or a cell is not what it should be.
    """
    numbers: dict[str, int] = {}
    known: dict[str, tuple[int, ...]] = {}
    pieces: list[pd.DataFrame] = []
    codes, starts = array("i"), array("q", [0])

    def encode(cell: str, row: int) -> bool:
        listed = _parse(cell, path, row)
        found: set[int] = set()
        for code in listed:
            if code not in known:
                known[code] = tuple(numbers.setdefault(name, len(numbers)) for name in expand(code))
            found.update(known[code])
        codes.extend(found)
        starts.append(len(codes))
        return bool(listed)

    try:
        there = pd.read_csv(path, nrows=0).columns
        for column in COLUMNS:
            if column not in there:
                raise UserError(f"{path}: no column {column!r}; expected the table of MIMIC-IV-ECG-Ext-ICD 1.0.1")
        with pd.read_csv(path, usecols=list(COLUMNS), dtype=str, keep_default_na=False, chunksize=_ROWS) as reader:
            for piece in reader:
                lists = piece.pop("all_diag_all")
                piece = _typed(piece, path)
                piece["has_statements"] = [encode(cell, row) for row, cell in lists.items()]  # type: ignore[arg-type]
                pieces.append(piece)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV file ({' '.join(str(error).split())})") from error
    if not len(starts) - 1:
        raise UserError(f"{path}: no rows; expected one per record")
    records = pd.concat(pieces, ignore_index=True)
    twice = records["study_id"][records["study_id"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: study {twice.iloc[0]} is there twice; expected one row per study")
    classes, kept, bounds = _frequent(list(numbers), np.asarray(codes, np.int32), np.asarray(starts), min_count)
    return Diagnoses(records, classes, bounds, kept)


def in_emergency(records: pd.DataFrame) -> np.ndarray:
    """(records,) bool: taken in the emergency department, with a diagnosis."""
    return records["ecg_taken_in_ed"].to_numpy(bool) & records["has_statements"].to_numpy(bool)


def cohort(records: pd.DataFrame, protocol: str) -> np.ndarray:
    """(records,) bool: the benchmark's records.

    Those of `in_emergency`; for validation and test only the first of a stay. The benchmark's own code looks for
    the first of a stay by `fold`, but splits by `strat_fold`: `protocol` "paper" does so too, "default" uses
    `strat_fold` for both.
    """
    fold = records["fold" if protocol == "paper" else "strat_fold"]
    first = records["ecg_no_within_stay"] == 0
    return in_emergency(records) & ((fold < FIRST_TESTED_FOLD) | first).to_numpy(bool)


def save(path: Path, diagnoses: Diagnoses) -> None:
    """Writes a Parquet file that `load` reads, atomically."""
    table = pa.Table.from_pandas(diagnoses.records, preserve_index=False)
    lists = pa.ListArray.from_arrays(pa.array(diagnoses.starts, pa.int32()), pa.array(diagnoses.codes, pa.int32()))
    table = table.append_column("codes", lists).replace_schema_metadata({"classes": json.dumps(diagnoses.classes)})
    with disk_errors(path), replacing(path) as temporary:
        pa.parquet.write_table(table, temporary)


def load(path: Path) -> Diagnoses:
    """Reads what `save` wrote."""
    table = pa.parquet.read_table(path)
    lists = table.column("codes").combine_chunks()
    classes = tuple(json.loads((table.schema.metadata or {})[b"classes"]))
    starts, codes = (np.asarray(part, np.int64) for part in (lists.offsets, lists.values))
    return Diagnoses(table.drop_columns("codes").to_pandas(), classes, starts, codes)


def _frequent(
    names: list[str], codes: np.ndarray, starts: np.ndarray, min_count: int
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Classes by descending count, equal counts by name; the codes that are one; where each record's begin."""
    counts = np.bincount(codes, minlength=len(names))
    order = sorted((i for i in range(len(names)) if counts[i] >= min_count), key=lambda i: (-counts[i], names[i]))
    index = np.full(len(names), -1, np.int32)
    index[order] = np.arange(len(order), dtype=np.int32)
    mapped = index[codes]
    bounds = np.concatenate([[0], np.cumsum(mapped >= 0)])[starts]
    return tuple(names[i] for i in order), mapped[mapped >= 0], bounds


def _parse(cell: str, path: Path, row: int) -> Sequence[str]:
    """A list as Python writes it. An empty cell is an empty list."""
    if _LIST.fullmatch(cell):
        return cell[2:-2].split("', '") if len(cell) > 2 else ()
    if not cell.strip():
        return ()
    try:
        listed = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        listed = None
    if not isinstance(listed, (list, set, tuple)) or not all(isinstance(code, str) for code in listed):
        raise UserError(f"{path}: row {row + 2}, column 'all_diag_all' has {cell[:60]!r}; expected a list of codes")
    return tuple(listed)


def _typed(piece: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The cells as numbers, times and booleans."""
    piece = piece.copy()
    for column in (*_WHOLE, "age", "anchor_age"):
        values = pd.to_numeric(piece[column], errors="coerce")
        if column in _WHOLE:
            # Some copies write whole numbers with ".0", as pandas does in a column that once had gaps.
            _check(path, piece[column], values.notna() & (values % 1 == 0), "a whole number")
            piece[column] = values.astype(np.int64)
        else:
            _check(path, piece[column], values.notna() | (piece[column] == ""), "a number")
            piece[column] = values.astype(float)
    times = pd.to_datetime(piece["ecg_time"], errors="coerce", format="ISO8601")
    _check(path, piece["ecg_time"], times.notna(), "a time as 2180-05-06 22:47:00")
    piece["ecg_time"] = times.astype("datetime64[us]")
    for column in ("ecg_taken_in_ed", "ecg_taken_in_hosp"):
        _check(path, piece[column], piece[column].isin(("True", "False")), "True or False")
        piece[column] = piece[column] == "True"
    return piece


def _check(path: Path, cells: pd.Series, right: pd.Series, expected: str) -> None:
    if not right.all():
        row = int((~right).to_numpy().argmax())
        cell = cells.iloc[row]
        raise UserError(f"{path}: row {cells.index[row] + 2}, column {cells.name!r} has {cell!r}; expected {expected}")
