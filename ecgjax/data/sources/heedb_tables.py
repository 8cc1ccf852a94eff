"""HEEDB's tables, read in pieces: which files there are, which are duplicates, which diagnostic codes they have.

The tables have more than ten million rows; what is kept of them grows with the chosen partitions only.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import pandas as pd

from ecgjax.errors import UserError

ROWS = 200_000
"""Rows that are read at a time."""

_PARTITION = r"(?:^|/)([A-Z]\d{4})/(\d{4})(?=/)"
_SUFFIX = r"\.(?:hea|mat|dat)$"
_WHOLE = re.compile(r"\d+(?:\.0*)?")


def stems(names: pd.Series) -> pd.Series:
    """File names without folders and without the suffix of a WFDB file."""
    return names.str.rsplit("/", n=1).str[-1].str.replace(_SUFFIX, "", regex=True)


def demographics(path: Path, partitions: Collection[str] | None) -> tuple[pd.DataFrame, Counter[str]]:
    """Rows of demographics_ECG.csv that belong to the partitions.

    Args:
        path: the table.
        partitions: such as "S0001-1987"; None takes all.

    Returns:
        `file` (FileName without the suffix of a WFDB file), `partition`, `patient_id`, `age` (NaN if unknown), `sex`
        ("Unknown" if missing) and `race` ("Unavailable" if missing); and the number of rows of every partition.

    Raises:
        UserError: a missing or malformed table, or a file name without a partition.
    """
    parts, counts = [], Counter[str]()
    row = 2
    for piece in pieces(path, ("FileName", "Age", "SexDSC", "PatientRace", "BDSPPatientID")):
        found = piece["FileName"].str.extract(_PARTITION)
        if found[0].isna().any():
            wrong = int(found[0].isna().to_numpy().argmax())
            raise UserError(
                f"{path}: row {row + wrong}, column 'FileName' has {piece['FileName'].iloc[wrong]!r}; "
                "expected a path with institution and year, such as S0001/1987/"
            )
        row += len(piece)
        piece["partition"] = found[0] + "-" + found[1]
        counts.update({str(name): int(rows) for name, rows in piece["partition"].value_counts().items()})
        if partitions is not None:
            piece = piece[piece["partition"].isin(list(partitions))]
        sex, race = piece["SexDSC"], piece["PatientRace"]
        parts.append(
            pd.DataFrame(
                {
                    "file": piece["FileName"].str.strip("/").str.replace(_SUFFIX, "", regex=True),
                    "partition": piece["partition"],
                    "patient_id": piece["BDSPPatientID"].str.removesuffix(".0"),
                    "age": pd.to_numeric(piece["Age"], errors="coerce").astype("float32"),
                    "sex": sex.where(sex != "", "Unknown"),
                    "race": race.where(race != "", "Unavailable"),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return table.astype(dict.fromkeys(("partition", "sex", "race"), "category")), counts


def duplicates(path: Path, wanted: pd.Index) -> pd.Index:
    """Those of the stems `wanted` that duplicated.csv names.

    Raises:
        UserError: a missing or malformed table.
    """
    names = (stems(piece["file_name"]) for piece in pieces(path, ("file_name",)))
    return pd.Index(pd.concat([own[own.isin(wanted)] for own in names]))


def diagnostic_codes(path: Path, wanted: pd.Index) -> pd.Series:
    """Codes (comma separated) by stem, of the stems `wanted` that ECG_Interpretations.psv has; the first row counts.

    Raises:
        UserError: a missing or malformed table.
    """
    parts = []
    for piece in pieces(path, ("file_source", "diagnostic_codes")):
        names = stems(piece["file_source"])
        chosen = names.isin(wanted)
        cells = piece["diagnostic_codes"][chosen]
        parts.append(pd.Series([",".join(codes(cell)) for cell in cells], index=names[chosen], dtype=str))
    table = pd.concat(parts)
    return table[~table.index.duplicated()]


@lru_cache(maxsize=1)
def vocabulary(path: Path) -> tuple[str, ...]:
    """All diagnostic codes of ECG_Interpretations.psv, the most frequent first, equal counts by name.

    Raises:
        UserError: a missing or malformed table.
    """
    parts, counts = Counter[str](), Counter[str]()
    for piece in pieces(path, ("diagnostic_codes",)):
        parts.update(",".join(piece["diagnostic_codes"]).split(","))
    for part, times in parts.items():
        for code in codes(part):
            counts[code] += times
    return tuple(sorted(counts, key=lambda code: (-counts[code], code)))


def codes(cell: str) -> list[str]:
    """Whole numbers of a cell such as "22,1023"; anything else in it is no code and is left out."""
    parts = [part.strip(" []\"'") for part in cell.split(",")]
    return [str(int(float(part))) for part in parts if _WHOLE.fullmatch(part)]


def pieces(path: Path, columns: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """Columns of a table as text, `ROWS` rows at a time; at least one piece.

    Args:
        path: CSV, or with "|" between cells if it ends in .psv.
        columns: to read.

    Raises:
        UserError: the file is missing or malformed, or lacks a column.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a table with the columns {', '.join(columns)}")
    separator = "|" if path.suffix == ".psv" else ","
    try:
        header = pd.read_csv(path, sep=separator, nrows=0, dtype=str, encoding_errors="replace")
        missing = [column for column in columns if column not in header]
        if missing:
            there = ", ".join(map(repr, header.columns[:20]))
            raise UserError(f"{path}: no column {missing[0]!r}; the columns are {there}")
        reader = pd.read_csv(
            path,
            sep=separator,
            usecols=list(columns),
            dtype=str,
            keep_default_na=False,
            chunksize=ROWS,
            encoding_errors="replace",
        )
        empty = True
        with reader:
            for piece in reader:
                empty = False
                yield piece.apply(lambda cells: cells.str.strip()).reset_index(drop=True)
        if empty:
            yield pd.DataFrame({column: pd.Series(dtype=str) for column in columns})
    except (ValueError, pd.errors.ParserError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a table ({' '.join(str(error).split())})") from error
