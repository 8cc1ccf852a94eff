"""PTB Diagnostic ECG Database 1.0.0: 549 records of 290 subjects, 32 to 120 s at 1000 Hz.

    python -m ecgjax.prepare ptb --raw=DIR --out=STORE

DIR holds `patient001/s0010_re.hea`, `.dat`, `.xyz` and so on, as the release does. The twelve leads are in the `.dat`
files; the Frank leads of the `.xyz` files are not stored.

Diagnoses are comments of the headers: the reason for admission and the additional diagnoses, spellings united, "no",
"n/a" and "unknown" dropped. A myocardial infarction is one of three classes:

    Myocardial infarction acute                 0 to 3 days old at the ECG
    Myocardial infarction acute catheterized    the same, and the catheterisation was on the infarction's day or later,
                                                which includes days after the ECG
    Myocardial infarction old                   otherwise, also where a date is missing

Label set "all": labels that occur 10 times (18 classes), the most frequent first, equally frequent ones by name.
Records without a diagnosis have only zeros. Five folds: scikit-learn's shuffled stratified split (seed 42) of the
sorted patients.

The Challenge 2021 distributes 516 of these recordings as S0001 and so on: never train on one and test on the other.

The benchmark's own preparation leaves "Coronary artery disease (PTCA+Stent)" by itself, because it compares with a
trailing blank, and takes the second of the two catheterisation dates even where only the first is given. Both are
mended here; --protocol=paper does as the benchmark did.
"""

import argparse
import dataclasses
import datetime
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data import readers_wfdb
from ecgjax.data.download.origins import PTB
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError

FACTS = Facts(
    name="ptb",
    title="PTB Diagnostic ECG Database",
    version="1.0.0",
    licence="ODC-By 1.0",
    sampling_rate=1000.0,
    origins=PTB,
    records=549,
)

FOLDS = 5
STENT = "Coronary artery disease (PTCA+Stent)"

_INFARCTION = "Myocardial infarction"
_ACUTE_DAYS = 3
_NO_DIAGNOSIS = ("", "no", "n/a", "unknown", "M. Bechterew", "M. Basedow")
_HYPERLIPOPROTEINEMIA = ("Type IIa", "Type IIb", "Type IV", "Type IV b", "Typ IIa")
_OBSTRUCTIVE = "Hypertrophic obstructive cardiomyopathy"
_SPELLINGS = {
    "Arterial Hypertension": "Arterial hypertension",
    **{f"Hyperlipoproteinemia {kind}": "Hyperlipoproteinemia" for kind in _HYPERLIPOPROTEINEMIA},
    "Hyperlipemia": "Hyperlipoproteinemia",
    "Hyperlipidemia": "Hyperlipoproteinemia",
    "Postop. Thyriodectomy": "Postop. Thyroidectomy",
    STENT: "Coronary artery disease",
    "peripheral atherosclerosis": "Peripheral atherosclerosis",
    "Recurrent sustained ventricular tachycardia": "Ventricular tachycardia",
    "Ventricular tachycardias": "Ventricular tachycardia",
    "Recurrent ventricular tachycardia": "Ventricular tachycardia",
    "Recurrent ventricular tachycardias": "Ventricular tachycardia",
    "Recurrent ventricular tachycardia(s)": "Ventricular tachycardia",
    "Mitral regurgitation (grade 2)": "Mitral regurgitation",
    f"{_OBSTRUCTIVE} (intraventricular gradient 100-160mmHg)": _OBSTRUCTIVE,
    f"{_OBSTRUCTIVE} (intraventricular gradient 70-90mmHg)": _OBSTRUCTIVE,
}
_COLUMNS = {
    "reason for admission": "reason_for_admission",
    "additional diagnoses": "additional_diagnoses",
    "acute infarction (localization)": "infarct_localization",
    "ecg date": "ecg_date",
    "infarction date (acute)": "infarction_date",
}
_CATHETERIZATION = "catheterization date"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per header in a patient's folder; RECORDS, where it is there, adds those whose header is missing."""
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; expected PTB's patient001, patient002 ...")
    for depth in ("", "*/", "*/*/"):
        headers = set(raw.glob(f"{depth}patient*/*.hea"))
        if headers:
            break
    else:
        raise UserError(f"{raw}: no patient001/*.hea there or up to two folders below; expected PTB's patient folders")
    for top in {path.parent.parent for path in headers}:
        if (top / "RECORDS").is_file():
            names = (top / "RECORDS").read_text(encoding="utf-8", errors="replace").split()
            headers |= {top / f"{name}.hea" for name in names if name.startswith("patient")}
    ordered = sorted(headers, key=lambda path: (path.stem, path))
    for one, other in itertools.pairwise(ordered):
        if one.stem == other.stem:
            raise UserError(f"{one} and {other}: record {one.stem} is there twice; expected it once")
    return pd.DataFrame(
        {
            "record_id": [path.stem for path in ordered],
            "patient_id": [path.parent.name for path in ordered],
            "key": [raw_files.key(raw, path) for path in ordered],
        }
    )


def read(raw: Path, key: str) -> Recording:
    """Reads a record and what its header says of diagnoses and dates."""
    recording = readers_wfdb.read(raw / key)
    return dataclasses.replace(
        recording, metadata={**recording.metadata, **parse_header(recording.metadata["comments"])}
    )


def parse_header(comments: Sequence[str]) -> dict[str, str | float]:
    """Columns from the comment lines "key: value", as they are written; the later of two equal keys wins.

    Of the two dates of catheterisation both are kept: in `_first_catheterization_date` and `catheterization_date`.
    """
    found: dict[str, str | float] = {}
    dates = []
    for comment in comments:
        name, _, value = comment.partition(":")
        name, value = " ".join(name.split()).lower(), value.strip()
        if name in _COLUMNS:
            found[_COLUMNS[name]] = value
        elif name == _CATHETERIZATION:
            dates.append(value)
        elif name == "age" and re.fullmatch(r"\d{1,3},\d+", value):
            found["age"] = float(value.replace(",", "."))
    if dates:
        found |= {"_first_catheterization_date": dates[0], "catheterization_date": dates[-1]}
    return found


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """Label set "all" in descending count; five folds of patients."""
    paper = getattr(options, "protocol", "default") == "paper"
    rows = table.to_dict("records")
    lists = [diagnoses(row, paper=paper) for row in rows]
    notes = []
    if without := sum(not labels for labels in lists):
        notes.append(f"{without} records have no diagnosis")
    if not paper:
        changed = sum(diagnoses(row, paper=True) != labels for row, labels in zip(rows, lists, strict=True))
        notes.append(f"{changed} records have other labels than in the benchmark's own preparation (--protocol=paper)")
    classes = vocabulary(lists, options.min_count, order="count")
    return Labels(patient_folds(table["patient_id"].tolist()), {"all": label_set(lists, classes)}, tuple(notes))


def diagnoses(row: Mapping[Any, Any], *, paper: bool = False) -> list[str]:
    """Labels of a record, in the header's order and with repeats.

    Args:
        row: what `parse_header` found.
        paper: do as the benchmark's own preparation, see the top of this file.
    """
    text = {name: "" if value is None or value != value else str(value) for name, value in row.items()}
    stated = [text.get("reason_for_admission", ""), *text.get("additional_diagnoses", "").split(",")]
    labels = []
    for name in (part.strip() for part in stated):
        if name in _NO_DIAGNOSIS:
            continue
        label = name if paper and name == STENT else _SPELLINGS.get(name, name)
        labels.append(_infarction(text, paper) if label == _INFARCTION else label)
    return labels


def _infarction(text: Mapping[str, str], paper: bool) -> str:
    recorded, infarction = parse_date(text.get("ecg_date", "")), parse_date(text.get("infarction_date", ""))
    if recorded is None or infarction is None or not 0 <= (recorded - infarction).days <= _ACUTE_DAYS:
        return f"{_INFARCTION} old"
    catheterization = parse_date(text.get("catheterization_date", ""))
    if catheterization is None and not paper:
        catheterization = parse_date(text.get("_first_catheterization_date", ""))
    if catheterization is not None and catheterization >= infarction:
        return f"{_INFARCTION} acute catheterized"
    return f"{_INFARCTION} acute"


def parse_date(text: str) -> datetime.date | None:
    """A date written 01/10/1990 or 29-Sep-90 (69 to 99 are 19xx), or None."""
    if found := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", text.strip()):
        day, month, year = int(found[1]), int(found[2]), int(found[3])
    elif (found := re.fullmatch(r"(\d{1,2})-([A-Za-z]{3})-(\d{4}|\d{2})", text.strip())) and found[
        2
    ].lower() in _MONTHS:
        # Not by strptime, whose names of months are those of the locale.
        day, month, year = int(found[1]), 1 + _MONTHS.index(found[2].lower()), int(found[3])
        if len(found[3]) == 2:
            year += 1900 if year >= 69 else 2000
    else:
        return None
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def patient_folds(patient_ids: Sequence[str]) -> np.ndarray:
    """(records,) fold of each record: a shuffled five-fold split of the sorted patients.

    Raises:
        UserError: fewer patients than folds.
    """
    from sklearn.model_selection import StratifiedKFold  # Slow to import, and `read` does not need it.

    patients, owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    if len(patients) < FOLDS:
        raise UserError(f"{len(patients)} patients could be read; the {FOLDS} folds of PTB need at least {FOLDS}")
    fold = np.empty(len(patients), int)
    constant = np.zeros(len(patients), int)
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=42).split(constant, constant)
    for number, (_, members) in enumerate(splits):
        fold[members] = number
    return fold[owner]
