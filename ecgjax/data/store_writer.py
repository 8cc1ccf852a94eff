"""Writes a store: records as they come, labels at the end, and either the whole store or nothing."""

import glob
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data.preparation.table import column
from ecgjax.data.recording import Recording
from ecgjax.data.store_files import Content, LabelSet, check_vacant, publish, write
from ecgjax.data.store_shard import Shard, quantise
from ecgjax.errors import UserError, disk_errors


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
        check_vacant(self.path, path)
        self.sampling_rate = None if sampling_rate is None else float(sampling_rate)
        self.dtype = np.dtype(dtype)
        self._source, self._version = source, source_version
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
        index = pd.DataFrame(self._records)
        names = list(dict.fromkeys(name for row in self._metadata for name in row))
        for name in names:
            if name in index:
                raise UserError(f"metadata column {name!r} is one of the index's own; expected another name")
            index[name] = column([row.get(name) for row in self._metadata])
        with disk_errors(self.path):
            self._close_shard()
            content = Content(index, self._files, self._source, self._version, self.dtype, label_sets=label_sets or {})
            write(self._folder, content)
            publish(self._folder, self.path)
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
