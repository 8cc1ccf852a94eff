"""The small files of a store (index, folds, labels, classes, meta), and its move to its place."""

import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ecgjax
from ecgjax.data.leads import CANONICAL
from ecgjax.data.store import FORMAT, FORMAT_VERSION, NAN, fingerprint
from ecgjax.errors import UserError

LabelSet = tuple[Sequence[str], np.ndarray, Sequence[str]]
"""Class names, targets (records, classes) with NaN for unknown, and "classification" or "regression" per class."""

Scales = tuple[np.ndarray, np.ndarray]
"""What a target was reduced by and divided by, (classes,) each: 0 and 1 where it was left as it is."""

INDEX = (
    "record_id", "patient_id", "fold", "samples", "sampling_rate", "shard", "start", "microvolt_per_bit",
    "nan_samples", "derived_leads", "missing_leads",
)  # fmt: skip
"""The index's own columns; those of a source follow."""


@dataclass
class Content:
    """All that a store holds beside its signals.

    Attributes:
        index: one row per record, columns `INDEX` and the source's.
        signals: name of each shard's file -> bytes, sha256, rows.
        source: name of the data set.
        source_version: its version, if it has one.
        dtype: "int16" or "float32".
        unit: of the signals.
        label_sets: by name; rows as in `index`.
        scales: of label sets whose targets are standardised.
        facts: further entries of meta.json.
        texts: further files by name, e.g. rejected.csv; they do not count for the fingerprint.
    """

    index: pd.DataFrame
    signals: Mapping[str, Mapping[str, Any]]
    source: str
    source_version: str | None
    dtype: np.dtype
    unit: str = "mV"
    label_sets: Mapping[str, LabelSet] = field(default_factory=dict)
    scales: Mapping[str, Scales] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def write(folder: Path, content: Content) -> str:
    """Writes everything but the signals, which are there already, and returns the fingerprint.

    Raises:
        UserError: a label set does not fit, or a column of the source's is called like one of the index's own.
    """
    for name, labels in content.label_sets.items():
        check_label_set(f"label set {name!r}", labels, len(content.index))
    files = {name: dict(entry) for name, entry in content.signals.items()}

    def add(name: str, data: bytes) -> None:
        write_bytes(folder / name, data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    targets = {name: np.ascontiguousarray(targets, "<f4") for name, (_, targets, _) in content.label_sets.items()}
    vocabulary = {name: _vocabulary(labels, content.scales.get(name)) for name, labels in content.label_sets.items()}
    folds = content.index[["record_id", "fold"]].to_csv(index=False, lineterminator="\n")
    add("records.parquet", _parquet(content.index))
    add("labels.npz", _npz(targets))
    add("classes.json", json.dumps(vocabulary, indent=2).encode())
    add("folds.csv", folds.encode())
    for name, text in content.texts.items():
        add(name, text.encode())
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": content.source,
        "source_version": content.source_version,
        **content.facts,
        "sampling_rate": float(content.index["sampling_rate"].iloc[0]),
        "leads": list(CANONICAL),
        "unit": content.unit,
        "dtype": content.dtype.name,
        "nan": NAN if content.dtype == np.int16 else None,
        "records": len(content.index),
        "patients": int(content.index["patient_id"].nunique()),
        "samples": int(content.index["samples"].sum()),
        "shards": len(content.signals),
        "records_per_fold": {
            str(fold): int(count) for fold, count in content.index["fold"].value_counts().sort_index().items()
        },
        "content": {
            "records": digest_of_table(content.index),
            "labels": _digest_of_arrays(targets),
            "classes": files["classes.json"]["sha256"],
            "folds": files["folds.csv"]["sha256"],
            "signals": {name: entry["sha256"] for name, entry in sorted(content.signals.items())},
        },
        "files": dict(sorted(files.items())),
    }
    found = fingerprint(meta)
    meta = {**meta, "fingerprint": found, "ecgjax_version": ecgjax.__version__}
    write_bytes(folder / "meta.json", json.dumps(meta, indent=2).encode())
    expected = {*files, "meta.json"}
    for stray in folder.iterdir():
        if stray.name not in expected:
            stray.unlink()
    fsync_folder(folder)
    return found


def publish(folder: Path, path: Path) -> None:
    """Renames a finished folder to the store's place.

    Raises:
        UserError: something came to be there meanwhile.
    """
    try:
        os.replace(folder, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise UserError(f"{path}: another process made it meanwhile; expected a new store") from error
        raise
    fsync_folder(path.parent)


def check_vacant(path: Path, called: object) -> None:
    """Refuses a place where there is something already; an empty folder is nothing."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{called}: exists already; expected the path of a new store")


def check_label_set(what: str, labels: LabelSet, n_records: int) -> None:
    """Refuses a label set whose parts do not fit together."""
    classes, targets, kinds = labels
    expected = (n_records, len(classes))
    if np.shape(targets) != expected:
        raise UserError(f"{what}: targets of shape {np.shape(targets)}; expected (records, classes) = {expected}")
    if len(set(classes)) != len(classes) or not all(classes):
        raise UserError(f"{what}: class names {list(classes)}; expected unique names, none empty")
    if len(kinds) != len(classes) or not set(kinds) <= {"classification", "regression"}:
        raise UserError(f"{what}: kinds {list(kinds)}; expected classification or regression for each class")
    for name, column, kind in zip(classes, np.asarray(targets).T, kinds, strict=True):
        if np.isinf(column).any():
            raise UserError(f"{what}: class {name!r} has infinite targets; expected numbers or NaN")
        if kind == "classification" and not np.isin(column[~np.isnan(column)], (0, 1)).all():
            raise UserError(
                f"{what}: class {name!r} has targets other than 0, 1 and NaN; expected those, or kind regression"
            )


def digest_of_table(table: pd.DataFrame) -> str:
    """SHA-256 of names, kinds and values of the columns, whatever library stores them in whatever way."""
    digest = hashlib.sha256()
    for name in table:
        values = table[name]
        kind = values.dtype.kind if isinstance(values.dtype, np.dtype) else "O"
        digest.update(json.dumps([str(name), kind, len(values)]).encode())
        if kind in "iu":
            digest.update(np.ascontiguousarray(values, "<i8").tobytes())
        elif kind == "b":
            digest.update(np.ascontiguousarray(values, "u1").tobytes())
        elif kind == "f":
            numbers = np.array(values, "<f8")
            numbers[np.isnan(numbers)] = np.nan  # NaN has many patterns of bits
            digest.update(numbers.tobytes())
        else:
            for value, unknown in zip(values, values.isna(), strict=True):
                digest.update(b"\0" if unknown else json.dumps(str(value)).encode())
    return digest.hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _vocabulary(labels: LabelSet, scales: Scales | None) -> dict[str, list[Any]]:
    classes, _, kinds = labels
    mean, sd = scales or (np.zeros(len(classes)), np.ones(len(classes)))
    return {
        "classes": list(classes),
        "kinds": list(kinds),
        "mean": [float(value) for value in mean],
        "sd": [float(value) for value in sd],
    }


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    # np.savez would take the names as keyword arguments, and stumble over a label set called "file".
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            # A fixed date: the same arrays are the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values)
    return buffer.getvalue()


def _digest_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(json.dumps([name, values.shape]).encode())
        digest.update(np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4").tobytes())
    return digest.hexdigest()
