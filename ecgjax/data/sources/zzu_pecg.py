"""ZZU pECG: 14,190 ECGs of 11,643 children, 5 to 120 s at 500 Hz; the 12,334 with twelve leads.

    python -m ecgjax.prepare zzu_pecg --raw=DIR --out=STORE

DIR holds `AttributesDictionary.csv`, `ECGCode.csv`, `DiseaseCode.csv` and the folder `Child_ecg/` with P00/ and so on,
which `Child_ecg.zip` and `Child_ecg.z01` (one archive in two parts) unpack to.

The 1,856 records with nine leads (no V2, V4, V6) are left out; they are sicker than the others. Folds: 10, by patient,
stratified over disease categories, sex and age (days; groups up to 1, 5, 12 and 18 years). Label sets, sorted by name:

    all               descriptions of the AHA codes, as in the benchmark (58 classes): of `'C21';'Left ventricular high
                      voltage';'L145+Modifier362'` only C21, because what is not exactly a code of ECGCode.csv is
                      dropped there
    findings          all findings: also those that are there as text because AHA has no code for them, and codes with
                      a modifier, without it
    disease_category  categories of DiseaseCode.csv by the ICD-10 codes of the admission, prefix included ("(F) I40.0")
    disease_type      their groups

Gains and baselines differ from lead to lead. About one record in eight touches the amplifier's limit of 26.6 mV; the
index marks them (`at_limit`), the signals are left as they are. Ages are in years there, and in days.
"""

import argparse
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data import readers_wfdb
from ecgjax.data.download import origins
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import patient_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError

FACTS = Facts(
    name="zzu_pecg",
    title="ZZU pECG (Zhengzhou University, paediatric)",
    version="figshare 27078763 v1",
    licence="CC BY 4.0",
    sampling_rate=500.0,
    origins=origins.ZZU_PECG,
    records=12_334,
)

AGE_BOUNDS = (365.0, 5 * 365.0, 12 * 365.0, 18 * 365.0)
"""Bounds of the age groups, days."""

AT_LIMIT = 26.5
"""mV from which a value counts as the amplifier's limit."""

SETS = ("all", "findings", "disease_category", "disease_type")

_NEEDED = ("filename", "ecg_id", "patient_id", "age", "gender", "lead", "aha_code", "icd-10 code")
_DAYS = re.compile(r"(\d+(?:\.\d+)?)\s*d(?:ays?)?", re.IGNORECASE)
# What follows a plus sign is a modifier only if it begins with a letter.
_MODIFIER = re.compile(r"\+(?=[A-Za-z])")
_NO_CODE = ("", "n/a", "nan", "null")
_SEPARATOR = "\n"  # Descriptions hold commas and blanks.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per record with twelve leads; labels by set in columns "_all" and so on."""
    path = raw_files.find(raw, "AttributesDictionary.csv", what="the list of records")
    attributes = _lower(raw_files.read_csv(path), path, _NEEDED)
    findings, descriptions = read_findings(raw_files.find(raw, "ECGCode.csv", what="the codes of findings"))
    diseases = read_diseases(raw_files.find(raw, "DiseaseCode.csv", what="the codes of diseases"))
    signals = _find_signals(raw)
    raw_files.unique(path, attributes, "ecg_id")
    raw_files.unique(path, attributes, "filename")
    leads = attributes["lead"].map(unquote)
    raw_files.refuse(path, leads, ~leads.isin(("12", "9", "12.0", "9.0")), "12 or 9")
    twelve = attributes[leads.isin(("12", "12.0"))].reset_index(drop=True)
    if not len(twelve):
        raise UserError(f"{path}: no record has 12 leads; expected some")
    days = [
        parse_days(cell, source=f"{path}: record {name}")
        for cell, name in zip(twelve["age"], twelve["ecg_id"], strict=True)
    ]
    codes = [split_cell(cell) for cell in twelve["aha_code"]]
    illnesses = [split_cell(cell) for cell in twelve["icd-10 code"]]
    labels = {
        "all": [[findings[code] for code in own if code in findings] for own in codes],
        "findings": [[name for code in own if (name := finding(code, findings, descriptions))] for own in codes],
        "disease_category": [[diseases[code][0] for code in own if code in diseases] for own in illnesses],
        "disease_type": [[diseases[code][1] for code in own if code in diseases] for own in illnesses],
    }
    sexes = twelve["gender"].map(unquote).str.lower()
    table = pd.DataFrame(
        {
            "record_id": twelve["ecg_id"],
            "patient_id": twelve["patient_id"],
            "key": [raw_files.key(raw, signals / file.lstrip("/").removesuffix(".hea")) for file in twelve["filename"]],
            "age": np.array(days) / 365.25,
            "age_days": days,
            "sex": sexes.where(sexes.isin(("male", "female")), None),
            "aha_code": twelve["aha_code"],
            "icd10_code": twelve["icd-10 code"],
            **{name: twelve[name] for name in ("chn_code", "acquisition_date") if name in twelve},
            **{f"_{name}": [_SEPARATOR.join(own) for own in labels[name]] for name in SETS},
            "_entries": [len(own) for own in codes],
            "_nine": len(attributes) - len(twelve),
        }
    )
    return table.sort_values("record_id", ignore_index=True)


def read(raw: Path, key: str) -> Recording:
    """Reads one WFDB record of twelve leads."""
    recording = readers_wfdb.read(raw / f"{key}.hea")
    absent = (*recording.derived, *recording.missing)
    if absent:
        raise UserError(f"{raw / key}.hea: no lead {', '.join(absent)}; expected all twelve")
    at_limit = bool(np.nanmax(np.abs(recording.signal), initial=0) >= AT_LIMIT)
    return dataclasses.replace(recording, metadata={**recording.metadata, "at_limit": at_limit})


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The four label sets; folds over the frequent disease categories."""
    lists = {name: [[part for part in cell.split(_SEPARATOR) if part] for cell in table[f"_{name}"]] for name in SETS}
    classes = {name: vocabulary(lists[name], options.min_count) for name in SETS}
    frequent = set(classes["disease_category"])
    folds = patient_folds(
        [[name for name in own if name in frequent] for own in lists["disease_category"]],
        table["patient_id"].tolist(),
        male=(table["sex"] == "male").tolist(),
        ages=table["age_days"].tolist(),
        age_bounds=AGE_BOUNDS,
    )
    entries, kept = int(table["_entries"].sum()), sum(map(len, lists["all"]))
    notes = (
        f"{table['_nine'].max()} records with nine leads are left out",
        f"{entries - kept} of {entries} entries of AHA_code are text or have a modifier and are not in the label set "
        f"'all', as in the benchmark; {sum(map(len, lists['findings'])) - kept} of them are in 'findings'",
        f"{int(table['at_limit'].sum())} records reach the amplifier's limit ({AT_LIMIT} mV or more)",
    )
    return Labels(folds, {name: label_set(lists[name], classes[name]) for name in SETS}, notes)


def unquote(text: str) -> str:
    """`text` without blanks and single quotes around it."""
    return text.strip().strip("'").strip()


def split_cell(cell: str) -> list[str]:
    """Entries of a cell such as `'C21';'Left ventricular high voltage'`."""
    return [entry for part in cell.split(";") if (entry := unquote(part)).lower() not in _NO_CODE]


def finding(entry: str, findings: Mapping[str, str], descriptions: frozenset[str]) -> str | None:
    """Description of an entry that is a code, a code with modifiers, or a description; else None."""
    base = _MODIFIER.split(entry, maxsplit=1)[0].strip()
    return findings.get(entry) or findings.get(base) or (entry if entry in descriptions else None)


def parse_days(cell: str, *, source: object) -> float:
    """Age in days of a cell such as "572d"; NaN where it is empty.

    Raises:
        UserError: anything else.
    """
    text = unquote(cell)
    if text.lower() in _NO_CODE:
        return float("nan")
    days = _DAYS.fullmatch(text)
    if days is None:
        raise UserError(f"{source}: Age is {cell!r}; expected days, like 572d")
    return float(days[1])


def read_findings(path: Path) -> tuple[dict[str, str], frozenset[str]]:
    """ECGCode.csv: the description of each AHA code, and all descriptions.

    Raises:
        UserError: a column is missing.
    """
    table = _lower(raw_files.read_csv(path), path, ("description", "aha(category&code)"))
    names, codes = table["description"].map(unquote), table["aha(category&code)"].map(unquote)
    findings = {code: name for code, name in zip(codes, names, strict=True) if code.lower() not in _NO_CODE}
    return findings, frozenset(names)


def read_diseases(path: Path) -> dict[str, tuple[str, str]]:
    """DiseaseCode.csv: category and type of each ICD-10 code, with the prefix that the study gave it.

    Raises:
        UserError: a column is missing.
    """
    table = _lower(raw_files.read_csv(path), path, ("disease type", "disease category", "icd-10 code"))
    # The file breaks long names over lines.
    types, categories = (
        [" ".join(unquote(cell).split()) for cell in table[column]] for column in ("disease type", "disease category")
    )
    codes = table["icd-10 code"].map(unquote)
    return {code: (category, kind) for code, category, kind in zip(codes, categories, types, strict=True) if code}


def _lower(table: pd.DataFrame, path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """`table` with lower-cased column names, those that are needed being there."""
    return raw_files.checked(path, table.rename(columns=str.lower), columns)


def _find_signals(raw: Path) -> Path:
    """The folder that file names are relative to: Child_ecg, or what holds its P00."""
    for pattern in ("", "*/", "*/*/"):
        for folder in sorted(raw.glob(f"{pattern}P00")):
            if folder.is_dir():
                return folder.parent
    for pattern in ("", "*/", "*/*/"):
        for folder in sorted(raw.glob(f"{pattern}Child_ecg")):
            if folder.is_dir():
                return folder
    archive = next((path for pattern in ("", "*/") for path in sorted(raw.glob(f"{pattern}Child_ecg.zip"))), None)
    if archive is not None:
        raise UserError(
            f"{archive}: not unpacked; it is the second part of an archive that begins in {archive.stem}.z01: join and "
            f"unpack them beside it with zip -s 0 {archive.name} --out joined.zip && unzip joined.zip"
        )
    raise UserError(f"{raw}: no folder Child_ecg there or up to two folders below; expected the signals in it")
