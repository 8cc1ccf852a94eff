"""Anybody's folder of recordings with a CSV of labels.

    python -m ecgjax.prepare folder --raw=DIR --labels=labels.csv --out=STORE

labels.csv has one row per record. Columns:

    record_id    path of the recording below --raw, with or without suffix, or its bare name if that is unique
    patient_id   optional; without it every record counts as a patient
    fold         optional whole number: the highest is test, the next lower validation, the others training. Without it
                 patients are put into ten folds, stratified over the positive labels (Sechidis et al. 2011)
    age, sex     optional; without them the recordings' own are taken
    any other    a label: 0, 1, or empty for unknown. A column with other numbers is a regression target and is stored
                 in its own units; standardising it is left to the task

Records that cannot be read, hold no value, or are flat in all leads are listed with the reason in STORE/rejected.csv.
"""

import argparse
import csv
import dataclasses
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import find_recordings, read_recording
from ecgjax.data.recording import Recording
from ecgjax.data.sources.folder_labels import LabelTable, read_labels
from ecgjax.data.store import split_of
from ecgjax.data.store_summary import Prepared, SignalChecks
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError

LABEL_SET = "labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this source takes on the command line."""
    parser.add_argument("--raw", type=Path, required=True, help="folder of recordings, searched with its subfolders")
    parser.add_argument("--labels", type=Path, required=True, help="labels.csv, see the top of this file")
    parser.add_argument("--out", type=Path, required=True, help="the store to write; must not exist")
    parser.add_argument("--dtype", choices=("int16", "float32"), default="int16", help="how signals are stored")
    parser.add_argument("--rate", type=float, help="resample to this rate (Hz); needed if the recordings differ")
    parser.add_argument("--max_rejected", type=float, default=0.05, help="share of records that may be unusable")
    parser.add_argument("--limit", type=int, help="take this many rows of labels.csv, evenly spaced, to try things out")


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Writes the store.

    Raises:
        UserError: whatever is wrong with the folder, the CSV or too many of the recordings; nothing is written then.
    """
    raw: Path = arguments.raw
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; expected the folder of recordings")
    if arguments.rate is not None and not (np.isfinite(arguments.rate) and arguments.rate > 0):
        raise UserError(f"--rate={arguments.rate}; expected a positive number of Hz")
    if not 0 <= arguments.max_rejected <= 1:
        raise UserError(f"--max_rejected={arguments.max_rejected}; expected a share from 0 to 1")
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit={arguments.limit}; expected at least 1")
    labels = read_labels(arguments.labels, arguments.limit)
    files, unlisted = _locate(raw, arguments.labels, labels)
    checks, rejected, kept = SignalChecks(), [], []
    allowed = arguments.max_rejected * len(labels)
    with StoreWriter(arguments.out, source="folder", sampling_rate=arguments.rate, dtype=arguments.dtype) as writer:
        first = None
        for row, outcome in enumerate(_read_all(labels, files, arguments.rate)):
            name = labels.record_ids[row]
            if isinstance(outcome, str):
                rejected.append((name, outcome))
                if len(rejected) > allowed:
                    raise UserError(
                        f"{len(rejected)} of the first {row + 1} records are unusable, more than "
                        f"--max_rejected={arguments.max_rejected:g} of {len(labels)} allows; the first: "
                        f"{rejected[0][0]!r}: {rejected[0][1]}"
                    )
                continue
            first = first or outcome
            if outcome.sampling_rate != first.sampling_rate:
                raise UserError(
                    f"records {first.id!r} ({first.sampling_rate:g} Hz) and {name!r} ({outcome.sampling_rate:g} Hz) "
                    "differ in sampling rate; expected one rate, or --rate=HZ to resample to"
                )
            own = outcome.metadata
            metadata = {
                key: own.get(key) if known[row] is None else known[row] for key, known in labels.metadata.items()
            }
            writer.add(outcome, patient_id=labels.patient_ids[row], fold=int(labels.folds[row]), metadata=metadata)
            checks.add(outcome)
            kept.append(row)
        _check_folds(labels, kept)
        writer.write_text("rejected.csv", _csv([("record_id", "reason"), *rejected]))
        label_sets = {LABEL_SET: (labels.classes, labels.targets[kept], labels.kinds)} if labels.classes else {}
        path = writer.finish(label_sets)
    return Prepared(path, checks, rejected, unlisted)


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
        # A WFDB record may be named by its signal file.
        key = re.sub(r"\.(dat|mat)$", ".hea", os.path.normpath(name), flags=re.IGNORECASE)
        found = by_path.get(key) or by_name.get(key) or []
        if len(found) > 1:
            raise UserError(
                f"{csv_path}: record {name!r} may be {found[0]} or {found[1]}; expected its path below {raw}"
            )
        if found and owner.setdefault(found[0], name) != name:
            raise UserError(f"{csv_path}: records {owner[found[0]]!r} and {name!r} are the same file {found[0]}")
        files.append(found[0] if found else None)
    return files, [str(recording.relative_to(raw)) for recording in recordings if recording not in owner]


def _read_all(labels: LabelTable, files: list[Path | None], rate: float | None) -> Iterator[Recording | str]:
    """A recording, or why it is unusable, for each row."""
    progress = Console(stderr=True)
    for name, file in track(
        zip(labels.record_ids, files, strict=True),
        description="reading",
        total=len(files),
        console=progress,
        transient=True,
        disable=not sys.stderr.isatty(),
    ):
        if file is None:
            yield "no such recording below --raw"
            continue
        try:
            recording = dataclasses.replace(read_recording(file), id=name)
        except UserError as error:
            yield " ".join(str(error).split())
            continue
        recorded = recording.signal[:, [lead not in recording.missing for lead in CANONICAL]]
        if np.isnan(recorded).all():
            yield "every value is NaN"
        elif _flat(recorded):
            yield "all leads are flat"
        else:
            yield recording if rate is None else resampled(recording, rate)


def _flat(signal: np.ndarray) -> bool:
    low = np.min(signal, axis=0, initial=np.inf, where=~np.isnan(signal))
    high = np.max(signal, axis=0, initial=-np.inf, where=~np.isnan(signal))
    return bool((high <= low).all())


def resampled(recording: Recording, rate: float) -> Recording:
    """The recording at another rate.

    Gaps are bridged by straight lines before and cut out again after, so that a missing sample costs its own place
    instead of everything under the filter.
    """
    if recording.sampling_rate == rate:
        return recording
    from ecgjax.data.resampling import resample_signal

    signal, ratio = recording.signal.copy(), recording.sampling_rate / rate
    gaps = np.isnan(signal)
    places = np.arange(len(signal))
    for lead in np.flatnonzero(gaps.any(axis=0) & ~gaps.all(axis=0)):
        gap = gaps[:, lead]
        signal[gap, lead] = np.interp(places[gap], places[~gap], signal[~gap, lead])
    out = resample_signal(signal, recording.sampling_rate, rate)
    if gaps.any():
        centre, half = np.arange(len(out)) * ratio, max(ratio, 1.0) / 2
        first = np.clip(np.ceil(centre - half), 0, len(signal) - 1).astype(int)
        last = np.clip(np.floor(centre + half), 0, len(signal) - 1).astype(int)
        before = np.concatenate([np.zeros((1, 12), int), np.cumsum(gaps, axis=0)])
        out[before[last + 1] > before[first]] = np.nan
    return dataclasses.replace(recording, signal=out, sampling_rate=float(rate), microvolt_per_bit=None)


def _check_folds(labels: LabelTable, kept: list[int]) -> None:
    """Refuses a store in which a fold became another split because the highest ones were rejected."""
    if not kept:
        raise UserError("not one record is usable; expected at least one")
    if (split_of(labels.folds[kept]) != split_of(labels.folds)[kept]).any():
        raise UserError("every record of the test or the validation fold is unusable; expected some in each")


def _csv(rows: list[tuple[str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
