"""Writes a store: records as they come, labels at the end, and either the whole store or nothing."""

import errno
import glob
import hashlib
import io
import json
import os
import shutil
import socket
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ecgjax
from ecgjax.data.leads import CANONICAL
from ecgjax.data.recording import Recording
from ecgjax.data.store import FORMAT, FORMAT_VERSION, NAN, fingerprint
from ecgjax.data.store_shard import Shard, quantise
from ecgjax.errors import UserError, disk_errors

LabelSet = tuple[Sequence[str], np.ndarray, Sequence[str]]
"""Class names, targets (records, classes) with NaN for unknown, and "classification" or "regression" per class."""


class StoreWriter:
    """Writes a store, or nothing.

        with StoreWriter(path, source="folder") as writer:
            for recording in recordings:
                writer.add(recording, patient_id="17", fold=3, metadata={"age": 61.0})
            writer.finish({"rhythm": (("AFIB", "SR"), targets, ("classification",) * 2)})

    Everything goes to a hidden folder beside `path`, which `finish` renames. If the block is left otherwise the folder
    is removed; what a killed writer left behind is removed by the next one. Memory does not grow with the signals.

    Args:
        path: the store, which must not exist yet.
        source: name of the data set.
        source_version: its version, if it has one.
        sampling_rate: Hz of all records; None takes the first record's.
        dtype: "int16" or "float32". int16 keeps the source's own step where it is known, else 1 microvolt, and a
            power of two times that where the amplitude needs it.
        shard_bytes: a shard is closed when the next record would make it larger.

    Raises:
        UserError: `path` exists or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        source: str,
        source_version: str | None = None,
        sampling_rate: float | None = None,
        dtype: str = "int16",
        shard_bytes: int = 2 * 10**9,
    ) -> None:
        if dtype not in ("int16", "float32"):
            raise UserError(f"store dtype {dtype!r}; expected int16 or float32")
        self.path = Path(path).absolute()
        if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise UserError(f"{path}: exists already; expected the path of a new store")
        self.sampling_rate = None if sampling_rate is None else float(sampling_rate)
        self.dtype = np.dtype(dtype)
        self._source = {"source": source, "source_version": source_version}
        self._rows_per_shard = max(1, shard_bytes // (12 * self.dtype.itemsize))
        self._records: list[dict[str, Any]] = []
        self._metadata: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._files: dict[str, dict[str, Any]] = {}
        self._n_shards = 0
        self._shard: Shard | None = None
        self._finished = False
        self._folder = self.path.with_name(f".{self.path.name}.{socket.gethostname()}-{os.getpid()}.partial")
        _remove_leftovers(self.path)
        try:
            with disk_errors(path):
                self._folder.mkdir(parents=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{path}: cannot be made ({error.strerror}); expected the path of a new store") from error

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        unfinished = not self._finished
        self.abort()
        if unfinished and kind is None:
            raise RuntimeError(f"{self.path}: StoreWriter was left without finish()")

    def __len__(self) -> int:
        return len(self._records)

    def add(
        self, recording: Recording, *, patient_id: str, fold: int, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Appends a record.

        Args:
            recording: its `id` becomes the record id.
            patient_id: who it is of; the same patient must not be in two splits.
            fold: test is the highest fold, validation the one below, training all others.
            metadata: numbers and strings for the index, e.g. age and sex.

        Raises:
            UserError: an empty or repeated id, another sampling rate, a wrong shape, infinite values, a full disk.
        """
        name, signal = recording.id, recording.signal
        if not name or not str(patient_id):
            raise UserError(f"{self.path}: record number {len(self)} has an empty {'patient' if name else 'record'} id")
        if name in self._ids:
            raise UserError(f"{self.path}: record {name!r} is there twice; expected unique record ids")
        if signal.ndim != 2 or signal.shape[1] != 12 or not len(signal):
            raise UserError(f"record {name!r}: signal of shape {signal.shape}; expected (samples, 12)")
        if self.sampling_rate is None:
            self.sampling_rate = float(recording.sampling_rate)
        if recording.sampling_rate != self.sampling_rate:
            raise UserError(
                f"record {name!r} has {recording.sampling_rate:g} Hz; expected {self.sampling_rate:g} Hz, as before"
            )
        if np.isinf(signal).any():
            raise UserError(f"record {name!r}: infinite values in the signal; expected millivolts or NaN")
        step = np.nan
        rows = signal.astype(np.float32, copy=False)
        if self.dtype == np.int16:
            rows, step = quantise(rows, recording.microvolt_per_bit)
        with disk_errors(self.path):
            shard, start = self._append(rows)
        self._ids.add(name)
        self._metadata.append(dict(metadata or {}))
        self._records.append(
            {
                "record_id": name,
                "patient_id": str(patient_id),
                "fold": int(fold),
                "samples": len(rows),
                "sampling_rate": self.sampling_rate,
                "shard": shard,
                "start": start,
                "microvolt_per_bit": step,
                "nan_samples": int(np.isnan(signal).sum()),
                "derived_leads": " ".join(recording.derived),
                "missing_leads": " ".join(recording.missing),
            }
        )

    def write_text(self, name: str, text: str) -> None:
        """Adds a text file, e.g. the list of rejected records, to the store."""
        with disk_errors(self.path):
            self._write(name, text.encode())

    def finish(self, label_sets: Mapping[str, LabelSet] | None = None) -> Path:
        """Writes index, labels and meta, and moves the store to its place.

        Args:
            label_sets: by name; rows as the records were added.

        Returns:
            Where the store is.

        Raises:
            UserError: no record was added, a label set does not fit, a full disk.
        """
        if not self._records:
            raise UserError(f"{self.path}: not one record; expected at least one")
        label_sets = label_sets or {}
        for name, labels in label_sets.items():
            _check_label_set(f"{self.path}: label set {name!r}", labels, len(self))
        with disk_errors(self.path):
            self._close_shard()
            self._write("records.parquet", _parquet(self._records, self._metadata))
            self._write("labels.npz", _npz({name: targets for name, (_, targets, _) in label_sets.items()}))
            vocabulary = {name: {"classes": list(c), "kinds": list(k)} for name, (c, _, k) in label_sets.items()}
            self._write("classes.json", json.dumps(vocabulary, indent=2).encode())
            self._write("meta.json", json.dumps(self._meta(), indent=2).encode())
            _fsync(self._folder)
            try:
                os.replace(self._folder, self.path)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise UserError(f"{self.path}: another process made it meanwhile; expected a new store") from error
                raise
            _fsync(self.path.parent)
        self._finished = True
        return self.path

    def abort(self) -> None:
        """Removes what was written; harmless after `finish`."""
        if self._shard is not None:
            self._shard.discard()
            self._shard = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _append(self, rows: np.ndarray) -> tuple[int, int]:
        if self._shard is not None and self._shard.rows + len(rows) > self._rows_per_shard:
            self._close_shard()
        if self._shard is None:
            self._shard = Shard(self._folder / f"signals-{self._n_shards:05d}.npy", self.dtype)
            self._n_shards += 1
        return self._n_shards - 1, self._shard.append(rows)

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._files[self._shard.path.name] = self._shard.close()
            self._shard = None

    def _write(self, name: str, content: bytes) -> None:
        with open(self._folder / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def _meta(self) -> dict[str, Any]:
        meta = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **self._source,
            "sampling_rate": self.sampling_rate,
            "leads": list(CANONICAL),
            "unit": "mV",
            "dtype": self.dtype.name,
            "nan": NAN if self.dtype == np.int16 else None,
            "records": len(self),
            "patients": len({record["patient_id"] for record in self._records}),
            "samples": sum(record["samples"] for record in self._records),
            "shards": self._n_shards,
            "files": dict(sorted(self._files.items())),
        }
        return {**meta, "fingerprint": fingerprint(meta), "ecgjax_version": ecgjax.__version__}


def _parquet(records: list[dict[str, Any]], metadata: list[dict[str, Any]]) -> bytes:
    index, extra = pd.DataFrame(records), pd.DataFrame(metadata, index=range(len(records)))
    for name in extra:
        if name in index:
            raise UserError(f"metadata column {name!r} is one of the index's own; expected another name")
        if not pd.api.types.is_numeric_dtype(extra[name]):
            numbers = pd.to_numeric(extra[name], errors="coerce")
            text = extra[name].map(lambda value: None if value is None or value != value else str(value))
            extra[name] = numbers if numbers.notna().sum() == extra[name].notna().sum() else text
    buffer = io.BytesIO()
    pd.concat([index, extra], axis=1).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    # np.savez would take the names as keyword arguments, and stumble over a label set called "file".
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(values, "<f4"))
    return buffer.getvalue()


def _check_label_set(what: str, labels: LabelSet, n_records: int) -> None:
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


def _remove_leftovers(path: Path) -> None:
    """Removes the hidden folders of writers of `path` on this machine that no longer run."""
    prefix = f".{path.name}.{socket.gethostname()}-"
    for folder in path.parent.glob(f"{glob.escape(prefix)}*.partial"):
        process = folder.name.removeprefix(prefix).removesuffix(".partial")
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
