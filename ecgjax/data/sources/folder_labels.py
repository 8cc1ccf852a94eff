"""labels.csv of a folder of recordings: ids, patients, folds, metadata and targets, checked."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data.store import SPLITS, split_of
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError

FOLDS = 10
_RESERVED = ("record_id", "patient_id", "fold", "age", "sex")
_UNKNOWN = ("", "nan")


@dataclass(frozen=True)
class LabelTable:
    """Rows of a labels.csv.

    Attributes:
        record_ids: as written.
        patient_ids: the record ids where the file has no such column.
        folds: as written, or None.
        metadata: `age` and `sex`, None where unknown.
        classes: names of the label columns.
        targets: (rows, classes) float32; NaN is unknown.
        kinds: "classification" for columns of 0 and 1 only, else "regression".
    """

    record_ids: list[str]
    patient_ids: list[str]
    folds: np.ndarray | None
    metadata: dict[str, list[Any]]
    classes: tuple[str, ...]
    targets: np.ndarray
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.record_ids)


def read_labels(path: Path) -> LabelTable:
    """Reads and checks a labels.csv.

    Args:
        path: columns `record_id`, and optionally `patient_id`, `fold`, `age`, `sex`; every other column is a label.

    Raises:
        UserError: what is wrong, with column and row.
    """
    table = _read_csv(path)
    record_ids = table["record_id"].tolist()
    _check_ids(path, table, "record_id")
    repeated = table["record_id"][table["record_id"].duplicated()]
    if len(repeated):
        raise UserError(
            f"{path}: record {repeated.iloc[0]!r} is there twice (row {repeated.index[0]}); expected unique ids"
        )
    if "patient_id" in table:
        _check_ids(path, table, "patient_id")
    patient_ids = table["patient_id" if "patient_id" in table else "record_id"].tolist()
    ages = _numbers(path, table, "age").tolist() if "age" in table else [math.nan] * len(table)
    sexes = table["sex"].str.lower().tolist() if "sex" in table else [""] * len(table)
    metadata: dict[str, list[Any]] = {
        "age": [None if math.isnan(age) else age for age in ages],
        "sex": [{"m": "male", "f": "female", "": None}.get(sex, sex) for sex in sexes],
    }
    classes = tuple(str(name) for name in table.columns if name not in _RESERVED)
    targets = np.zeros((len(table), len(classes)), np.float32)
    for i, name in enumerate(classes):
        targets[:, i] = _numbers(path, table, name)
        if np.isnan(targets[:, i]).all():
            raise UserError(f"{path}: label column {name!r} has no value; expected numbers (0 and 1 for classes)")
    kinds = tuple("classification" if np.isin(t[~np.isnan(t)], (0, 1)).all() else "regression" for t in targets.T)
    folds = _given_folds(path, table, patient_ids) if "fold" in table else None
    return LabelTable(record_ids, patient_ids, folds, metadata, classes, targets, kinds)


def stratified_folds(path: Path, patient_ids: list[str], targets: np.ndarray) -> np.ndarray:
    """Up to ten folds of whole patients, stratified over the positive labels.

    Args:
        path: what to name in an error.
        patient_ids: of each record.
        targets: (records, classes) of 0, 1 and NaN.

    Raises:
        UserError: too few patients.
    """
    n_classes = targets.shape[1]
    # The last label is one that every record has, so that all patients are placed.
    labels = [[*np.flatnonzero(positive).tolist(), n_classes] for positive in targets == 1]
    patients = list(dict.fromkeys(patient_ids))
    pooled: dict[str, list[int]] = {patient: [] for patient in patients}
    for patient, found in zip(patient_ids, labels, strict=True):
        pooled[patient].extend(found)
    n_folds = min(FOLDS, len(patients))
    sizes = Counter(patient_ids)
    subsets = stratify(
        list(pooled.values()), range(n_classes + 1), [1 / n_folds] * n_folds, [sizes[patient] for patient in patients]
    )
    if n_folds < len(SPLITS) or not all(subsets):
        raise UserError(f"{path}: {len(patients)} patients are too few to make {n_folds} folds; expected a column fold")
    fold_of = {patients[i]: fold for fold, subset in enumerate(subsets) for i in subset}
    return np.array([fold_of[patient] for patient in patient_ids])


def _read_csv(path: Path) -> pd.DataFrame:
    """All cells as stripped text; the index is the row number in the file, counting the header as row 1."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a CSV with the column record_id and one column per label")
    try:
        # Without a header, because pandas would rename repeated columns instead of refusing them.
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, header=None, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({' '.join(str(error).split())})") from error
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    header, table = cells.iloc[0].tolist(), cells.iloc[1:]
    table.columns = header
    table.index = table.index + 1
    if "record_id" not in header:
        raise UserError(f"{path}: no column record_id; the columns are {', '.join(map(repr, header[:20]))}")
    if len(set(header)) < len(header) or "" in header:
        culprit = next(name for i, name in enumerate(header) if not name or name in header[:i])
        raise UserError(f"{path}: column {culprit!r} is empty or there twice; expected unique column names")
    if not len(table):
        raise UserError(f"{path}: no rows; expected one per record")
    return table


def _check_ids(path: Path, table: pd.DataFrame, column: str) -> None:
    empty = table.index[table[column] == ""]
    if len(empty):
        raise UserError(f"{path}: row {empty[0]} has an empty {column}; expected one for every record")


def _numbers(path: Path, table: pd.DataFrame, column: str) -> np.ndarray:
    text = table[column]
    unknown = text.str.lower().isin(_UNKNOWN)
    numbers = pd.to_numeric(text.where(~unknown), errors="coerce")
    bad = text[~unknown & ~np.isfinite(numbers)]
    if len(bad):
        record = table["record_id"][bad.index[0]]
        raise UserError(
            f"{path}: column {column!r}, row {bad.index[0]} (record {record!r}): {bad.iloc[0]!r} is not a number; "
            "expected 0, 1, another number, or empty for unknown"
        )
    return numbers.to_numpy(float)


def _given_folds(path: Path, table: pd.DataFrame, patient_ids: list[str]) -> np.ndarray:
    folds = _numbers(path, table, "fold")
    bad = table.index[np.isnan(folds) | (folds != np.round(folds)) | (np.abs(folds) > 2**31)]
    if len(bad):
        raise UserError(
            f"{path}: row {bad[0]} has fold {table['fold'][bad[0]]!r}; expected a whole number for every record"
        )
    folds = folds.astype(np.int64)
    if len(np.unique(folds)) < len(SPLITS):
        raise UserError(
            f"{path}: {len(np.unique(folds))} different folds; expected at least 3 (training, validation, test)"
        )
    split_by_patient: dict[str, int] = {}
    for patient, split in zip(patient_ids, split_of(folds).tolist(), strict=True):
        if split_by_patient.setdefault(patient, split) != split:
            one, other = SPLITS[split_by_patient[patient]], SPLITS[split]
            raise UserError(
                f"{path}: patient {patient!r} has records in {one} and in {other}; expected one split per patient"
            )
    return folds
