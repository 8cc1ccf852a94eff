"""One shard of a store: reads its records, writes those that can be used, and notes what came of it in a manifest.

A shard is a fixed range of the listing, so that its bytes do not depend on who writes it, or when. It is done once its
manifest is there.
"""

import dataclasses
import functools
import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecgjax import atomic
from ecgjax.data import sources
from ecgjax.data.preparation.resampled import resampled
from ecgjax.data.preparation.signal_checks import measure
from ecgjax.data.preparation.source import Source
from ecgjax.data.preparation.table import flat
from ecgjax.data.preparation.usable import why_unusable
from ecgjax.data.preparation.workers import Report
from ecgjax.data.recording import Recording
from ecgjax.data.store_files import fsync_folder
from ecgjax.data.store_shard import Shard, quantise
from ecgjax.errors import UserError, disk_errors

_FEWEST, _MOST = 32, 2048
_SHARDS = 64
_MOST_SHARDS = 512


@dataclass(frozen=True)
class Job:
    """A shard to write.

    Attributes:
        number: of the shard.
        first: row of the listing of its first record.
        record_ids: of its records.
        keys: what the source needs to read them.
        source: what `sources.load` takes.
        raw: folder of the raw files.
        dtype: "int16" or "float32".
        rate: Hz to resample to, or None.
        skip: see `Facts.skip`.
        sampling_rate: Hz that records must have, or None.
        store: folder of the finished signals.
        manifests: folder of the manifests.
        writing: folder of what is in the making.
        called: the store as the user calls it.
        debug: a record that fails with anything but a `UserError` is an error instead of being rejected.
    """

    number: int
    first: int
    record_ids: tuple[str, ...]
    keys: tuple[str, ...]
    source: str
    raw: Path
    dtype: str
    rate: float | None
    skip: tuple[str, ...]
    sampling_rate: float | None
    store: Path
    manifests: Path
    writing: Path
    called: Path
    debug: bool = False


def records_per_shard(records: int) -> int:
    """Records of one shard, from the size of the data set alone.

    Up to 2048 (246 MB of int16 for 10 s at 500 Hz); fewer in small data sets, so that many processes have something to
    do, and more in huge ones, because every shard is a mapped file.
    """
    return max(min(max(-(-records // _SHARDS), _FEWEST), _MOST), -(-records // _MOST_SHARDS))


def file_name(shard: int) -> str:
    """Name of a shard's signals."""
    return f"signals-{shard:05d}.npy"


def write_shard(job: Job, report: Report) -> None:
    """Writes a shard and its manifest.

    Reports ("doing", record id) before each record, ("rejected", (row of the listing, record id, reason)) and, at the
    end, ("written", (records, the first record's id and its rate)).

    Raises:
        UserError: records of different rates, a full disk.
    """
    columns: dict[str, list[Any]] = {}
    metadata: list[dict[str, Any]] = []
    rejected: list[tuple[int, str]] = []
    first: Recording | None = None
    shard: Shard | None = None
    path = job.writing / file_name(job.number)
    try:
        for row, name, outcome in _read_all(job, report):
            if isinstance(outcome, str):
                rejected.append((row, outcome))
                report("rejected", (row, name, outcome))
                continue
            first = first or outcome
            if outcome.sampling_rate != first.sampling_rate:
                raise different_rates(first.id, first.sampling_rate, name, outcome.sampling_rate)
            rows, step = _stored(outcome, job.dtype)
            with disk_errors(job.called):
                shard = shard or Shard(path, np.dtype(job.dtype))
                start = shard.append(rows)
            entry = {
                "row": row,
                "samples": len(rows),
                "start": start,
                "microvolt_per_bit": step,
                "nan_samples": int(np.isnan(outcome.signal).sum()),
                "derived_leads": " ".join(outcome.derived),
                "missing_leads": " ".join(outcome.missing),
                **measure(outcome, rows),
            }
            for column, value in entry.items():
                columns.setdefault(column, []).append(value)
            metadata.append(flat(outcome.metadata, name))
        with disk_errors(job.called):
            file = None
            if shard is not None:
                file = shard.close()
                path.replace(job.store / path.name)
                fsync_folder(job.store)
    except BaseException:
        if shard is not None:
            shard.discard()
            path.unlink(missing_ok=True)
        raise
    names = list(dict.fromkeys(key for row in metadata for key in row))
    manifest = {
        "shard": job.number,
        "file": file,
        "first": None if first is None else first.id,
        "sampling_rate": None if first is None else first.sampling_rate,
        "records": columns,
        "metadata": {key: [row.get(key) for row in metadata] for key in names},
        "rejected": rejected,
    }
    with disk_errors(job.called):
        atomic.write_text(job.manifests / f"{job.number:05d}.json", json.dumps(manifest))
    report("written", (len(metadata), manifest["first"], manifest["sampling_rate"]))


def read_manifest(path: Path, store: Path) -> dict[str, Any] | None:
    """A manifest; None if it or the signals it speaks of are not as they were written."""
    try:
        manifest = json.loads(path.read_text())
        file = manifest["file"]
        signals = store / file_name(manifest["shard"])
        whole = file is None or (signals.is_file() and signals.stat().st_size == file["bytes"])
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return manifest if whole else None


def different_rates(one: str, rate: float, other: str, other_rate: float) -> UserError:
    """The error of a data set whose records differ in sampling rate."""
    return UserError(
        f"records {one!r} ({rate:g} Hz) and {other!r} ({other_rate:g} Hz) "
        "differ in sampling rate; expected one rate, or --rate=HZ to resample to"
    )


def _read_all(job: Job, report: Report) -> Iterator[tuple[int, str, Recording | str]]:
    """Row, record id, and the recording or why it cannot be used."""
    source = _load(job.source)
    for offset, (name, key) in enumerate(zip(job.record_ids, job.keys, strict=True)):
        report("doing", name)
        outcome: Recording | str
        try:
            recording = dataclasses.replace(source.read(job.raw, key), id=name)
            reason = why_unusable(recording, job.skip, None if job.rate else job.sampling_rate)
            outcome = reason or (recording if job.rate is None else resampled(recording, job.rate))
        except UserError as error:
            outcome = " ".join(str(error).split())
        except Exception as error:  # What libraries raise on damaged files is not a set list.
            if job.debug:
                raise
            outcome = _reason(error)
        yield job.first + offset, name, outcome


@functools.lru_cache(maxsize=1)
def _load(name: str) -> Source:
    # Looking for entry points reads the metadata of every installed package: once per process is enough.
    return sources.load(name)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(place.filename).name}, line {place.lineno})"


def _stored(recording: Recording, dtype: str) -> tuple[np.ndarray, float]:
    """The signal as it is stored, and its step in microvolts (NaN for float32)."""
    signal = recording.signal.astype(np.float32, copy=False)
    return quantise(signal, recording.microvolt_per_bit) if dtype == "int16" else (signal, float("nan"))
