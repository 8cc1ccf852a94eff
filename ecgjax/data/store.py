"""A prepared data set: signals in memory-mapped shards, an index, labels, and checksums of all of it.

signals-00000.npy ...  (rows, 12) int16 or float32, records one after the other
records.parquet        one row per record: where it lies, whose it is, its fold, its step, metadata
folds.csv              record_id and fold, to prepare the same data with the same folds elsewhere
labels.npz             one array (records, classes) float32 per label set; NaN is unknown
classes.json           class names and kinds of each label set, in the order of the columns; mean and SD by which
                       regression targets were standardised
meta.json              format, source, rate, leads, unit, counts, size and SHA-256 of each file, fingerprint

Stores that `ecgjax.prepare` makes also hold rejected.csv (records left out, and why) and checks.json (what was seen).
"""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.errors import UserError

FORMAT = "ecgjax-store"
FORMAT_VERSION = 2
NAN = -32768
"""What stands for NaN in int16 shards."""

_NO_CONTENT = ("fingerprint", "ecgjax_version", "files", "title", "licence", "notes")
SPLITS = ("train", "validation", "test")


def open_store(path: str | os.PathLike[str]) -> "Store":
    """Opens a store.

    Sizes of all files and checksums of the index and the labels are checked here; `Store.verify` checks the signals.

    Raises:
        UserError: not a store, a format this version does not read, or a file missing, of the wrong size or damaged.
    """
    return Store(Path(path))


class Store:
    """A prepared data set, see `open_store`.

    Attributes:
        path: its folder.
        meta: content of meta.json; `meta["unit"]` is "mV", or "z-score" where the publisher standardised the signals.
        records: one row per record: record_id, patient_id, fold, samples, sampling_rate, shard, start,
            microvolt_per_bit, nan_samples, derived_leads, missing_leads, and the source's metadata.
        sampling_rate: Hz, of every record.
        dtype: "int16" or "float32".
        fingerprint: hash of everything in the store that determines a result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.meta = read_meta(self.path)
        small = {
            name: _read_checked(self.path, name, self.meta)
            for name in ("records.parquet", "labels.npz", "classes.json")
        }
        self.records = pd.read_parquet(io.BytesIO(small["records.parquet"]))
        with np.load(io.BytesIO(small["labels.npz"])) as labels:
            self._targets = {name: labels[name] for name in labels.files}
        self._vocabulary: dict[str, dict[str, list[Any]]] = json.loads(small["classes.json"])
        self.sampling_rate = float(self.meta["sampling_rate"])
        self.dtype: str = self.meta["dtype"]
        self.fingerprint: str = self.meta["fingerprint"]
        self._row = {name: i for i, name in enumerate(self.records["record_id"])}
        # Plain arrays: looking up a data frame costs more than cutting the crop.
        self._shard, self._start, self._samples, self._step = (
            self.records[name].to_numpy() for name in ("shard", "start", "samples", "microvolt_per_bit")
        )
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} records, {self.sampling_rate:g} Hz, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the shards itself instead of receiving copies of them.
        return {**self.__dict__, "_maps": {}}

    def raw(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples of a record as stored, without a copy.

        Args:
            row: row number in `records`.
            start: first sample, from the record's own start.
            stop: one past the last sample; None is the record's end.

        Returns:
            (stop - start, 12), read-only: float32 mV, or int16 in steps of `microvolt_per_bit` with `NAN` for NaN.
        """
        samples = int(self._samples[row])
        stop = samples if stop is None else stop
        if not 0 <= start <= stop <= samples:
            raise IndexError(f"samples {start} to {stop} of a record of {samples}")
        first = int(self._start[row])
        return self._map(int(self._shard[row]))[first + start : first + stop]

    def signal(self, record_id: str) -> np.ndarray:
        """A record's whole signal, (samples, 12) float32, NaN where unknown; mV unless `meta["unit"]` says otherwise.

        Raises:
            UserError: no such record.
        """
        if record_id not in self._row:
            raise UserError(
                f"{self.path}: no record {record_id!r}; it has {len(self)}, e.g. {self.records['record_id'][0]!r}"
            )
        row = self._row[record_id]
        stored = self.raw(row)
        if self.dtype == "float32":
            return stored.copy()
        signal = (stored * (self._step[row] / 1000)).astype(np.float32)
        signal[stored == NAN] = np.nan
        return signal

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split: "test" is the highest fold, "validation" the one below it, "train" all others."""
        folds = self.records["fold"].to_numpy()
        return np.flatnonzero(split_of(folds) == SPLITS.index(split))

    def label_sets(self) -> tuple[str, ...]:
        """Names of the label sets."""
        return tuple(self._vocabulary)

    def classes(self, label_set: str) -> tuple[str, ...]:
        """Class names of a label set, in the order of its targets' columns."""
        return tuple(self._labels(label_set)["classes"])

    def kinds(self, label_set: str) -> tuple[str, ...]:
        """What each class is: "classification" or "regression"."""
        return tuple(self._labels(label_set)["kinds"])

    def targets(self, label_set: str) -> np.ndarray:
        """(records, classes) float32, rows as in `records`; NaN is unknown.

        Regression targets of prepared stores are standardised, see `scales`.
        """
        self._labels(label_set)
        return self._targets[label_set]

    def scales(self, label_set: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and SD of each class, (classes,) float64: `targets * sd + mean` is in the source's own units.

        They are those of the training folds; 0 and 1 for classification and whatever is not standardised.
        """
        labels = self._labels(label_set)
        return np.array(labels["mean"], np.float64), np.array(labels["sd"], np.float64)

    def verify(self) -> None:
        """Reads every file and compares its checksum.

        Raises:
            UserError: a file is damaged; it is named.
        """
        for name, expected in self.meta["files"].items():
            with open(self.path / name, "rb") as file:
                _compare(self.path / name, hashlib.file_digest(file, "sha256").hexdigest(), expected["sha256"])

    def _labels(self, name: str) -> dict[str, list[Any]]:
        if name not in self._vocabulary:
            raise UserError(
                f"{self.path}: no label set {name!r}; expected one of {', '.join(self._vocabulary) or '(none)'}"
            )
        return self._vocabulary[name]

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            mapped = np.load(self.path / f"signals-{shard:05d}.npy", mmap_mode="r")
            # A plain view: slicing a np.memmap costs ten times more than slicing an array.
            self._maps[shard] = mapped.view(np.ndarray)
        return self._maps[shard]


def split_of(folds: np.ndarray) -> np.ndarray:
    """Index into `SPLITS` of each record: the highest fold id is test, the next lower one in use validation."""
    ids = np.unique(folds)
    return np.where(folds == ids[-1], 2, np.where(folds == ids[max(len(ids) - 2, 0)], 1, 0))


def fingerprint(meta: dict[str, Any]) -> str:
    """Hash of a store's content: all of meta but how it is packed, who wrote it, prose, and the fingerprint.

    `meta["content"]` holds hashes of values, not of files: a store written through another version of pyarrow is the
    same store.
    """
    content = {key: value for key, value in meta.items() if key not in _NO_CONTENT}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_meta(folder: Path) -> dict[str, Any]:
    """Content of a store's meta.json, checked with the sizes of all files; cheap where a whole store is not needed.

    Raises:
        UserError: not a store, a format this version does not read, or a file missing or of the wrong size.
    """
    path = folder / "meta.json"
    if not path.is_file():
        raise UserError(f"{folder}: not a store (it has no meta.json); expected a folder that ecgjax.prepare wrote")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); prepare the store again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UserError(f"{path}: not the meta.json of a store; expected format {FORMAT!r}")
    if meta.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {meta.get('format_version')!r}; this version of ecgjax reads {FORMAT_VERSION}"
        )
    if meta.get("fingerprint") != fingerprint(meta):
        raise UserError(f"{path}: does not match its own fingerprint (edited or damaged); prepare the store again")
    for name, entry in meta["files"].items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the store; prepare the store again")
        if file.stat().st_size != entry["bytes"]:
            raise UserError(f"{file}: {file.stat().st_size} bytes; expected {entry['bytes']}; prepare the store again")
    return meta


def _read_checked(folder: Path, name: str, meta: dict[str, Any]) -> bytes:
    content = (folder / name).read_bytes()
    _compare(folder / name, hashlib.sha256(content).hexdigest(), meta["files"][name]["sha256"])
    return content


def _compare(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise UserError(
            f"{path}: damaged (SHA-256 {found[:12]}..., expected {expected[:12]}...); prepare the store again"
        )
