"""CODE-15%: 345,779 exams of 233,770 patients, 7 or 10 s at 400 Hz, six diagnoses.

    python -m ecgjax.prepare code15 --raw=DIR --out=STORE

DIR holds `exams.csv` and the unpacked `exams_part0.hdf5` ... `exams_part17.hdf5`; parts that are not there are said and
left out. exams.csv is not in the order of the tracings: the two are joined by exam_id. Rows of exam_id 0, one at the
end of every part, are no exams. Records are named after their exams and stand in the store as in the parts.

One label set, "all": 1AVB, RBBB, LBBB, SBRAD, AFIB, STACH in the benchmark's order, from the columns 1dAVb, RBBB, LBBB,
SB, AF, ST (the file has ST before AF). Having none of the six does not mean a normal ECG: the index keeps `normal_ecg`.
Exams that exams.csv lacks have fold -1 and unknown targets; the task leaves them out of every split.

One hundred folds, of patients, are stratified by diagnoses, sex and age in batches of about 10,000 patients, so that
validation (98) and test (99) are 1 % each.

Tracings are padded with zeros to 4096 samples. What lies outside 4000 (10 s) or 2800 (7 s) samples in the middle is cut
if it is zero; the task uses the 10 s exams. With --protocol=paper the benchmark's rule is used, which counts zero
samples anywhere, so that zeros inside shorten an exam and an odd number leaves one. Exams of zeros only are rejected.

Some tracings are byte for byte those of another exam, also of another patient, and may fall into different splits.
With --deduplicate only the first exam of such a group keeps its targets; those of the others become unknown.
"""

import argparse
import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.download import origins
from ecgjax.data.leads import CANONICAL
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import NOWHERE, patient_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.sources import code_tracings
from ecgjax.errors import UserError

FACTS = Facts(
    name="code15",
    title="CODE-15%",
    version="1.0.0",
    licence="CC BY 4.0",
    sampling_rate=code_tracings.SAMPLING_RATE,
    origins=origins.CODE15,
    records=345_779,
)

FOLDS = 100
BATCH = 10_000
"""Patients that are stratified together."""

_CLASSES = tuple(code_tracings.FLAGS.values())
_NEEDED = ("exam_id", "age", "is_male", "patient_id", *code_tracings.FLAGS)
_PARTS = 18
_PART = re.compile(r"exams_part(\d+)\.hdf5")
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --deduplicate."""
    parser.add_argument("--deduplicate", action="store_true", help="targets of repeated tracings become unknown")


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per exam of the parts, in their order; flags in columns "_1AVB" and so on, NaN where exams.csv has none.

    Raises:
        UserError: a file is missing or malformed, or an exam is there twice.
    """
    path = raw_files.find(raw, "exams.csv", what="the list of exams")
    exams = read_exams(path)
    parts = find_parts(raw)
    ids, keys = [], []
    mode = ":paper" if options.protocol == "paper" else ""
    for part in parts:
        own = code_tracings.exam_ids(part)
        code_tracings.check(part, exams=len(own))
        rows = np.flatnonzero(own)
        ids.append(own[rows])
        keys += [f"{raw_files.key(raw, part)}#{row}{mode}" for row in rows]
    exam_id = pd.Series(np.concatenate(ids))
    twice = exam_id[exam_id.duplicated()]
    if len(twice):
        raise UserError(f"{raw}: exam {twice.iloc[0]} is twice in the parts; expected every exam once")
    table = exams.reindex(exam_id).reset_index(drop=True)
    names = exam_id.astype(str)
    table.insert(0, "record_id", names)
    # An exam that exams.csv lacks might be of anybody; it is in no fold.
    table["patient_id"] = table["patient_id"].where(table["patient_id"].notna(), "of exam " + names)
    table.insert(2, "key", keys)
    there = {int(_number(part)) for part in parts}
    table["_absent"] = " ".join(str(number) for number in range(_PARTS) if number not in there)
    return table


def read(raw: Path, key: str) -> Recording:
    """Reads one exam; `_tracing` of its metadata is the same for the same tracing."""
    name, _, place = key.rpartition("#")
    row, _, mode = place.partition(":")
    path = raw / name
    tracing = code_tracings.read_row(path, int(row))
    try:
        signal = code_tracings.acquired(tracing, padding="paper" if mode == "paper" else "default")
    except UserError as error:
        raise UserError(f"{path}: row {row}: {error}") from error
    digest = hashlib.blake2b(tracing.tobytes(), digest_size=12).hexdigest()
    return from_channels(
        f"{path.stem}-{row}",
        signal,
        CANONICAL,
        code_tracings.SAMPLING_RATE,
        source=f"{path}: row {row}",
        metadata={"_tracing": digest},
    )


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The six classes, and folds of the exams that exams.csv has."""
    targets = table[[f"_{name}" for name in _CLASSES]].to_numpy(np.float32, copy=True)
    listed = ~np.isnan(targets).any(axis=1)
    targets[~listed] = np.nan
    notes = []
    folds = np.full(len(table), NOWHERE)
    if listed.any():
        lists = [[name for name, flag in zip(_CLASSES, row, strict=True) if flag] for row in targets[listed]]
        own = table[listed]
        folds[listed] = patient_folds(
            lists,
            own["patient_id"].tolist(),
            male=(own["sex"] == "male").tolist(),
            ages=own["age"].tolist(),
            folds=FOLDS,
            batch=BATCH,
        )
    if not listed.all():
        notes.append(f"exams that exams.csv lacks: {np.count_nonzero(~listed)}; targets unknown, fold -1")
    if absent := str(table["_absent"].iloc[0]):
        notes.append(f"parts that are not there, and whose exams are left out: {absent.replace(' ', ', ')}")
    notes += _repeats(table, targets, deduplicate=options.deduplicate)
    return Labels(folds, {"all": (_CLASSES, targets, ("classification",) * len(_CLASSES))}, tuple(notes))


def read_exams(path: Path) -> pd.DataFrame:
    """exams.csv, indexed by exam: patient_id, age, sex, what else there is, and the flags as "_1AVB" and so on.

    Raises:
        UserError: a column is missing, an exam is there twice, or a cell is not what the column holds.
    """
    exams = raw_files.read_csv(path, _NEEDED)
    ids = raw_files.numbers(path, exams, "exam_id", required=True).astype(np.int64)
    raw_files.refuse(path, exams["exam_id"], ids.duplicated(), "every exam once")
    male = _truths(path, exams, "is_male")
    patients = raw_files.numbers(path, exams, "patient_id", required=True).astype(np.int64)
    columns: dict[str, Sequence[object] | pd.Series] = {
        "patient_id": patients.astype(str),
        "age": raw_files.numbers(path, exams, "age"),
        "sex": [{1.0: "male", 0.0: "female"}.get(value) for value in male],
    }
    for name in ("normal_ecg", "death"):
        if name in exams:
            columns[name] = _truths(path, exams, name)
    for name in ("timey", "nn_predicted_age"):
        if name in exams:
            columns[name] = raw_files.numbers(path, exams, name)
    for name, cls in code_tracings.FLAGS.items():
        columns[f"_{cls}"] = _truths(path, exams, name, required=True)
    return pd.DataFrame(columns).set_axis(ids, axis=0)


def find_parts(raw: Path) -> list[Path]:
    """The files exams_partN.hdf5 in `raw` or up to two folders below, by number.

    Raises:
        UserError: there are none, or one is there twice.
    """
    found = [path for pattern in ("", "*/", "*/*/") for path in raw.glob(f"{pattern}exams_part*.hdf5")]
    parts = sorted((path for path in found if _PART.fullmatch(path.name)), key=lambda path: (int(_number(path)), path))
    if not parts:
        packed = next(iter(sorted(raw.glob("**/exams_part*.zip"))), None)
        hint = f"; {packed.name} is there: unpack it" if packed else ""
        raise UserError(f"{raw}: no exams_part0.hdf5 or other part there or up to two folders below{hint}")
    for one, other in itertools.pairwise(parts):
        if _number(one) == _number(other):
            raise UserError(f"{one} and {other}: the same part twice below {raw}; expected one")
    return parts


def _number(part: Path) -> str:
    match = _PART.fullmatch(part.name)
    assert match is not None
    return match[1]


def _truths(path: Path, table: pd.DataFrame, column: str, *, required: bool = False) -> pd.Series:
    """True and False as 1 and 0; NaN where the cell is empty."""
    cells = table[column].str.lower()
    values = cells.map(_TRUTH).astype(float)
    raw_files.refuse(path, table[column], values.isna() & (required | ~cells.isin(("", "nan"))), "True or False")
    return values


def _repeats(table: pd.DataFrame, targets: np.ndarray, *, deduplicate: bool) -> list[str]:
    """What is to be said of tracings that are there several times; takes the targets of all but the first."""
    repeated = table["_tracing"].duplicated()
    if not repeated.any():
        return []
    patients = table[table["_tracing"].duplicated(keep=False)].groupby("_tracing")["patient_id"].nunique()
    said = f"exams that repeat another's tracing byte for byte: {repeated.sum()}"
    said += f" (tracings of several patients: {(patients > 1).sum()})"
    if not deduplicate:
        return [f"{said}; --deduplicate leaves one of each its targets"]
    targets[repeated.to_numpy()] = np.nan
    return [f"{said}: their targets are unknown"]
