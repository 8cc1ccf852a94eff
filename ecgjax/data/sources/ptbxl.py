"""PTB-XL 1.0.3: 21,799 records of 18,869 patients, 10 s at 500 Hz.

    python -m ecgjax.prepare ptbxl --raw=DIR --out=STORE

DIR holds `ptbxl_database.csv`, `scp_statements.csv` and `records500/`, as the release does (the release's own folder
in between is found too). The 100 Hz copies are not used.

Records are named after their files, e.g. "00001_hr". Folds are the publisher's, 1 to 10, by patient. Label sets, every
class list sorted by name:

    all                  all statements of a record, also those of likelihood 0 (71 classes)
    diag, form, rhythm   the statements that scp_statements.csv marks so (44, 19, 12; four are diagnostic and form)
    super, sub           the diagnostic classes and subclasses of a record's diagnostic statements (5, 23)

All statements of 1.0.3 are frequent enough to be a class. Records without a statement of a set have only zeros in it.
Patients above 89 have the age 300 in the release; the store has 90. Sex is 0 for male in the release, and a word in
the store. The index keeps the statements with their likelihoods, the report, body size, device and site.

The Challenge 2021 distributes the same recordings (of release 1.0.1) as HR00001 and so on: never train on one and test
on the other.
"""

import argparse
import ast
import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ecgjax.data import readers_wfdb
from ecgjax.data.download.origins import PTBXL
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError

FACTS = Facts(
    name="ptbxl",
    title="PTB-XL",
    version="1.0.3",
    licence="CC BY 4.0",
    sampling_rate=500.0,
    origins=PTBXL,
    records=21799,
    published={"super": {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}},
)

SETS = ("all", "diag", "form", "rhythm", "super", "sub")

_AGE_ABOVE_89 = 300.0
_FLAGS = {"diag": "diagnostic", "form": "form", "rhythm": "rhythm"}
_CLASSES = {"super": "diagnostic_class", "sub": "diagnostic_subclass"}
_NEEDED = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_hr")
_NUMBERS = ("height", "weight")
_TEXTS = ("site", "device", "recording_date", "heart_axis", "report", "validated_by_human", "pacemaker", "scp_codes")
# A likelihood that is missing is written as a bare nan, which is no Python literal.
_BARE_NAN = re.compile(r"(?<=:)\s*nan(?=\s*[,}])", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per record of ptbxl_database.csv; statements by label set in columns "_all", "_diag" and so on."""
    path = raw_files.find(raw, "ptbxl_database.csv", what="the list of records")
    statements_path = path.with_name("scp_statements.csv")
    if not statements_path.is_file():
        raise UserError(f"{statements_path}: no such file; expected PTB-XL's statements beside {path.name}")
    if not (path.parent / "records500").is_dir():
        raise UserError(f"{path.parent / 'records500'}: no such folder; expected PTB-XL's 500 Hz records")
    database = raw_files.read_csv(path, _NEEDED)
    statements = read_statements(statements_path)
    files = raw_files.unique(path, database, "filename_hr")
    ages = raw_files.numbers(path, database, "age")
    table = pd.DataFrame(
        {
            "record_id": [file.rpartition("/")[2] for file in files],
            "patient_id": [str(round(n)) for n in raw_files.numbers(path, database, "patient_id", required=True)],
            "key": [raw_files.key(raw, path.parent / file) for file in files],
            "ecg_id": raw_files.numbers(path, database, "ecg_id", required=True).astype(int),
            "age": ages.where(ages != _AGE_ABOVE_89, 90.0),
            "sex": _meaning(path, database, "sex", {0: "male", 1: "female"}),
            "_fold": _meaning(path, database, "strat_fold", {fold: fold for fold in range(1, 11)}, required=True),
        }
    )
    for column in _NUMBERS:
        if column in database:
            table[column] = pd.to_numeric(database[column], errors="coerce").astype(float)
    for column in _TEXTS:
        if column in database:
            table[column] = database[column].where(database[column] != "")
    parsed = [
        parse_codes(cell, source=f"{path}: record {name}")
        for cell, name in zip(database["scp_codes"], table["record_id"], strict=True)
    ]
    for name in SETS:
        table[f"_{name}"] = [
            ";".join(label for code in codes if (label := statements[name].get(code) if name != "all" else code))
            for codes in parsed
        ]
    table["_unknown"] = [" ".join(code for code in codes if code not in statements["all"]) for codes in parsed]
    return table.sort_values("record_id", ignore_index=True)


def read(raw: Path, key: str) -> Recording:
    """Reads one WFDB record."""
    return readers_wfdb.read(raw / f"{key}.hea")


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The six label sets, and the publisher's folds."""
    sets = {}
    for name in SETS:
        lists = [[part for part in cell.split(";") if part] for cell in table[f"_{name}"]]
        sets[name] = label_set(lists, vocabulary(lists, options.min_count))
    notes = []
    without, oldest = int((table["_all"] == "").sum()), int((table["age"] == 90).sum())
    unknown = sorted({code for cell in table["_unknown"] for code in cell.split()})
    if without:
        notes.append(f"{without} records have no statement")
    if oldest:
        notes.append(f"{oldest} records have the age 90, which stands for above 89 (300 in the release)")
    if unknown:
        notes.append(f"statements that scp_statements.csv lacks are in the set 'all' alone: {', '.join(unknown)}")
    return Labels(table["_fold"].to_numpy(dtype=int), sets, tuple(notes))


def read_statements(path: Path) -> dict[str, dict[str, str]]:
    """Label of each statement by label set; a statement that is not in a set is not in its dictionary.

    Args:
        path: scp_statements.csv; its first column, which has no name, is the code.

    Raises:
        UserError: a column is missing, a code is there twice, or a flag is no number.
    """
    table = raw_files.read_csv(path, (*_FLAGS.values(), *_CLASSES.values()))
    codes = raw_files.unique(path, table, str(table.columns[0]))
    flags = {column: raw_files.numbers(path, table, column).fillna(0) > 0 for column in _FLAGS.values()}
    sets = {"all": {code: code for code in codes}}
    for name, column in _FLAGS.items():
        sets[name] = {code: code for code, flag in zip(codes, flags[column], strict=True) if flag}
    for name, column in _CLASSES.items():
        of_code = dict(zip(codes, table[column], strict=True))
        sets[name] = {code: of_code[code] for code in sets["diag"] if of_code[code]}
    return sets


def parse_codes(cell: str, *, source: object) -> tuple[str, ...]:
    """Statements of a record, from a cell such as `{'NORM': 100.0, 'SR': 0.0}`; an empty cell has none.

    Raises:
        UserError: anything but a dictionary of likelihoods (numbers or nan) by statement.
    """
    if cell.lower() in ("", "nan"):
        return ()
    try:
        codes = ast.literal_eval(_BARE_NAN.sub(" None", cell))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        codes = None
    if not isinstance(codes, dict) or not all(_is_code(code) and _is_number(codes[code]) for code in codes):
        shown = cell if len(cell) <= 60 else f"{cell[:60]}..."
        raise UserError(f"{source}: scp_codes is {shown!r}; expected likelihoods by statement, like {{'NORM': 100.0}}")
    return tuple(code.strip() for code in codes)


def _is_code(code: object) -> bool:
    return isinstance(code, str) and bool(code.strip()) and not set(code.strip()) & {";", " ", "\n"}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not math.isinf(value))


def _meaning(
    path: Path, table: pd.DataFrame, column: str, meaning: Mapping[float, object], *, required: bool = False
) -> list[object]:
    """What the numbers of a column mean; None where there is none."""
    values = raw_files.numbers(path, table, column, required=required)
    expected = f"one of {', '.join(f'{value:g}' for value in meaning)}"
    raw_files.refuse(path, table[column], ~values.isin(meaning.keys()) & values.notna(), expected)
    return [meaning.get(value) for value in values]
