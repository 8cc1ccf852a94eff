"""Anybody's folder of recordings with a CSV of labels.

    python -m ecgjax.prepare folder --raw=DIR --labels=labels.csv --out=STORE

labels.csv has one row per record. Columns:

    record_id    path of the recording below --raw, with or without suffix, or its bare name if that is unique
    patient_id   optional; without it every record counts as a patient
    fold         optional whole number: the highest is test, the next lower validation, the others training. Without it
                 patients are put into ten folds, stratified over the positive labels (Sechidis et al. 2011)
    age, sex     optional; without them the recordings' own are taken
    any other    a label: 0, 1, or empty for unknown. A column with other numbers is a regression target; the store
                 holds it standardised on the training folds, with mean and SD

Records that cannot be read, hold no value, or are flat in all leads are listed with the reason in STORE/rejected.csv.
Recordings of different sampling rates need --rate. The formats are those of `ecgjax.data.readers.FORMATS`. CSV, .npy
and bare .mat files do not say their rate: put a recordings.json beside or above them, see `ecgjax.data.sidecar`.
"""

import argparse
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.readers import find_recordings, read_recording
from ecgjax.data.recording import Recording
from ecgjax.data.sources.folder_labels import LabelTable, read_labels, stratified_folds
from ecgjax.data.store import split_of
from ecgjax.errors import UserError

LABEL_SET = "labels"

FACTS = Facts(
    name="folder",
    title="Recordings in a folder, labels in a CSV",
    version="",
    licence="",
    sampling_rate=None,
    skip=("all_nan", "flat"),
)

_KEPT = ("age", "sex", "checksum_mismatches")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this source takes on the command line."""
    parser.add_argument("--labels", type=Path, required=True, help="labels.csv, see above")


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Rows of labels.csv with the file of each; `key` is empty where there is none.

    Raises:
        UserError: what is wrong with the CSV, or a name that may be two files.
    """
    labels = read_labels(options.labels)
    files, unlisted = _locate(raw, options.labels, labels)
    options.unlisted = unlisted
    table: dict[str, Any] = {
        "record_id": labels.record_ids,
        "patient_id": labels.patient_ids,
        "key": ["" if file is None else file.relative_to(raw).as_posix() for file in files],
        **labels.metadata,
    }
    if labels.folds is not None:
        table |= {"_fold": labels.folds, "_split": split_of(labels.folds)}
    for i, (name, kind) in enumerate(zip(labels.classes, labels.kinds, strict=True)):
        table[f"_{kind} {name}"] = labels.targets[:, i]
    return pd.DataFrame(table)


def read(raw: Path, key: str) -> Recording:
    """Reads one recording; of what it says of itself, age and sex are kept.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not key:
        raise UserError("no such recording below --raw")
    recording = read_recording(raw / key)
    metadata = {name: value for name, value in recording.metadata.items() if name in _KEPT}
    return dataclasses.replace(recording, metadata=metadata)


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The folds and labels of labels.csv.

    Raises:
        UserError: too few patients for folds, or every record of a split was rejected.
    """
    columns = [name for name in map(str, table) if name.startswith(("_classification ", "_regression "))]
    kinds, classes = zip(*(name[1:].split(" ", 1) for name in columns), strict=True) if columns else ((), ())
    targets = table[columns].to_numpy(np.float32)
    if "_fold" in table:
        folds = table["_fold"].to_numpy()
        if options.limit is None and (split_of(folds) != table["_split"].to_numpy()).any():
            raise UserError("every record of the test or the validation fold is unusable; expected some in each")
    elif options.folds is None:
        of_classes = targets[:, [kind == "classification" for kind in kinds]]
        folds = stratified_folds(options.labels, table["patient_id"].tolist(), of_classes)
    else:
        folds = np.zeros(len(table), int)
    notes = []
    if options.unlisted:
        notes.append(f"{len(options.unlisted)} recordings have no row in the labels, e.g. {options.unlisted[0]}")
    return Labels(folds, {LABEL_SET: (classes, targets, kinds)} if classes else {}, tuple(notes))


def _locate(raw: Path, csv_path: Path, labels: LabelTable) -> tuple[list[Path | None], list[str]]:
    """The file of each row, None where there is none, and the recordings without a row."""
    recordings = list(find_recordings(raw))
    by_path: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for recording in recordings:
        relative = recording.relative_to(raw)
        for key in {str(relative), str(relative.with_suffix(""))}:
            by_path.setdefault(key, []).append(recording)
        for key in {recording.name, recording.stem}:
            by_name.setdefault(key, []).append(recording)
    files: list[Path | None] = []
    owner: dict[Path, str] = {}
    for name in labels.record_ids:
        key = os.path.normpath(name)
        # A WFDB record may be named by its signal file.
        header = re.sub(r"\.(dat|mat)$", ".hea", key, flags=re.IGNORECASE)
        found = by_path.get(key) or by_name.get(key) or by_path.get(header) or by_name.get(header) or []
        if len(found) > 1:
            raise UserError(
                f"{csv_path}: record {name!r} may be {found[0]} or {found[1]}; expected its path below {raw}"
            )
        if found and owner.setdefault(found[0], name) != name:
            raise UserError(f"{csv_path}: records {owner[found[0]]!r} and {name!r} are the same file {found[0]}")
        files.append(found[0] if found else None)
    return files, [str(recording.relative_to(raw)) for recording in recordings if recording not in owner]
