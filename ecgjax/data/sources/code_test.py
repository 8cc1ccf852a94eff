"""CODE-test: 827 exams of as many patients, 7 or 10 s at 400 Hz, six diagnoses by consensus of cardiologists.

    python -m ecgjax.prepare code_test --raw=DIR --out=STORE

DIR is the unpacked data.zip or any folder above it: `ecg_tracings.hdf5`, `attributes.csv`, and `annotations/` with
`gold_standard.csv`. All files go together by row; record code_test_0000 is the first. The leads are stored in the order
I, II, III, aVL, aVF, aVR, V1 to V6, other than those of CODE-15%.

A set to test on what was trained on something else: every record is in the test split (fold 0). `configs/evaluate.py`
trains and tests on one store, so it does not take this one, nor is there a task of it. Compare scores of your own with
`store.targets("all")`, for example by `ecgjax.bootstrap.intervals`, and those of the cardiologists in the same way.

The label set "all" is the gold standard, in the order of code15: 1AVB, RBBB, LBBB, SBRAD, AFIB, STACH. Every other
annotation that is there is a label set of its own: cardiologist1, cardiologist2, cardiology_residents,
emergency_residents, medical_students, dnn.

Padding is cut as for code15, with --protocol=paper too.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.download import origins
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.sources import code_tracings
from ecgjax.errors import UserError

FACTS = Facts(
    name="code_test",
    title="CODE-test",
    version="1.0.3",
    licence="CC BY 4.0",
    sampling_rate=code_tracings.SAMPLING_RATE,
    origins=origins.CODE_TEST,
    records=827,
    published={"all": {"1AVB": 28, "RBBB": 34, "LBBB": 30, "SBRAD": 16, "AFIB": 13, "STACH": 37}},
)

LEADS = ("I", "II", "III", "aVL", "aVF", "aVR", "V1", "V2", "V3", "V4", "V5", "V6")
GOLD = "gold_standard"
ANNOTATORS = (
    *("cardiologist1", "cardiologist2", "cardiology_residents", "emergency_residents", "medical_students"),
    "dnn",
)

_CLASSES = tuple(code_tracings.FLAGS.values())
_SEX = {"m": "male", "f": "female", "male": "male", "female": "female"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per tracing; annotations in columns "_gold_standard 1AVB" and so on.

    Raises:
        UserError: a file is missing or malformed, or has another number of rows than there are tracings.
    """
    path = raw_files.find(raw, "ecg_tracings.hdf5", what="the tracings")
    exams = code_tracings.check(path)
    attributes_path = path.with_name("attributes.csv")
    annotations = path.with_name("annotations")
    if not (annotations / f"{GOLD}.csv").is_file():
        raise UserError(f"{annotations / f'{GOLD}.csv'}: no such file; expected the gold standard of {path}")
    mode = ":paper" if options.protocol == "paper" else ""
    names = [f"code_test_{row:04d}" for row in range(exams)]
    table = pd.DataFrame(
        {
            "record_id": names,
            "patient_id": names,
            "key": [f"{raw_files.key(raw, path)}#{row}{mode}" for row in range(exams)],
        }
    )
    if attributes_path.is_file():
        attributes = _rows(attributes_path, exams, ("age", "sex"))
        table["age"] = raw_files.numbers(attributes_path, attributes, "age")
        table["sex"] = [_SEX.get(cell.lower()) for cell in attributes["sex"]]
    columns = {}
    for name in (GOLD, *ANNOTATORS):
        file = annotations / f"{name}.csv"
        if file.is_file():
            flags = _rows(file, exams, tuple(code_tracings.FLAGS))
            for column, cls in code_tracings.FLAGS.items():
                columns[f"_{name} {cls}"] = _zeros_and_ones(file, flags, column)
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def read(raw: Path, key: str) -> Recording:
    """Reads one tracing."""
    name, _, place = key.rpartition("#")
    row, _, mode = place.partition(":")
    path = raw / name
    try:
        signal = code_tracings.acquired(
            code_tracings.read_row(path, int(row)), padding="paper" if mode == "paper" else "default"
        )
    except UserError as error:
        raise UserError(f"{path}: row {row}: {error}") from error
    return from_channels(
        f"code_test_{int(row):04d}", signal, LEADS, code_tracings.SAMPLING_RATE, source=f"{path}: row {row}"
    )


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The gold standard as "all", the annotators' sets, and one fold, which is the test split."""
    sets = {}
    for name in (GOLD, *ANNOTATORS):
        columns = [f"_{name} {cls}" for cls in _CLASSES]
        if columns[0] in table:
            targets = table[columns].to_numpy(np.float32)
            sets["all" if name == GOLD else name] = (_CLASSES, targets, ("classification",) * len(_CLASSES))
    positive = int(sets["all"][1].any(axis=1).sum())
    notes = (
        f"{positive} of {len(table)} records have at least one of the six diagnoses (published: 146 of 827)",
        "all records are in the test split",
    )
    return Labels(np.zeros(len(table), int), sets, notes)


def _rows(path: Path, exams: int, columns: tuple[str, ...]) -> pd.DataFrame:
    table = raw_files.read_csv(path, columns)
    if len(table) != exams:
        raise UserError(f"{path}: {len(table)} rows for {exams} tracings; expected one each, in their order")
    return table


def _zeros_and_ones(path: Path, table: pd.DataFrame, column: str) -> pd.Series:
    values = raw_files.numbers(path, table, column, required=True)
    raw_files.refuse(path, table[column], ~values.isin((0.0, 1.0)), "0 or 1")
    return values
