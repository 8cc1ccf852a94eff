"""What a preparation says of the data it stored: counts, leads, folds, positives, signs of bad units or leaks."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ecgjax.data.recording import Recording
from ecgjax.data.store import SPLITS, Store, split_of

_IMPLAUSIBLE_MILLIVOLT = 50.0
_IMPLAUSIBLE_RESIDUAL = 50.0
_SHOWN_CLASSES = 40


@dataclass(frozen=True)
class Prepared:
    """What a source hands back.

    Attributes:
        path: the store.
        checks: of its signals.
        rejected: record ids that were left out, and why.
        unlisted: recordings that no row of the labels names.
    """

    path: Path
    checks: "SignalChecks"
    rejected: Sequence[tuple[str, str]] = ()
    unlisted: Sequence[str] = ()


class SignalChecks:
    """Gathers, record by record, what can only be seen in the signals.

    Attributes:
        residuals: largest |I + III - II| of each record in which the three were recorded, microvolts.
        low: smallest value, mV.
        high: largest value, mV.
        derived: how many records had each lead derived.
        missing: how many records miss each lead.
        with_nan: how many records hold NaN.
        bad_checksums: how many records do not match the checksums in their own headers.
        twins: pairs of record ids with the same signal.
    """

    def __init__(self) -> None:
        self.residuals: list[float] = []
        self.low, self.high = np.inf, -np.inf
        self.derived: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.with_nan = 0
        self.bad_checksums = 0
        self.twins: list[tuple[str, str]] = []
        self._seen: dict[bytes, str] = {}

    def add(self, recording: Recording) -> None:
        """Looks at one recording."""
        signal = recording.signal
        self.low, self.high = min(self.low, float(np.nanmin(signal))), max(self.high, float(np.nanmax(signal)))
        self.derived.update(recording.derived)
        self.missing.update(recording.missing)
        self.with_nan += bool(np.isnan(signal).any())
        self.bad_checksums += "checksum_mismatches" in recording.metadata
        if {"I", "II", "III"} <= set(recording.present):
            residual = np.abs(signal[:, 0] + signal[:, 2] - signal[:, 1])
            self.residuals.append(1000 * float(np.max(residual, initial=0.0, where=~np.isnan(residual))))
        digest = hashlib.blake2b(signal.tobytes(), digest_size=12).digest()
        twin = self._seen.setdefault(digest, recording.id)
        if twin != recording.id:
            self.twins.append((twin, recording.id))


def warnings(store: Store, prepared: Prepared) -> list[str]:
    """One line for each thing the user should look at before trusting a result."""
    checks, found = prepared.checks, []
    if prepared.unlisted:
        found.append(f"{len(prepared.unlisted)} recordings have no row in the labels, e.g. {prepared.unlisted[0]}")
    peak = max(-checks.low, checks.high)
    if peak > _IMPLAUSIBLE_MILLIVOLT:
        found.append(f"amplitudes reach {peak:.0f} mV; are the units and gains of the files right?")
    if checks.residuals and np.median(checks.residuals) > _IMPLAUSIBLE_RESIDUAL:
        found.append(f"I + III differs from II by {np.median(checks.residuals):.0f} uV; are the leads named rightly?")
    if checks.bad_checksums:
        found.append(f"{checks.bad_checksums} records do not match the checksums in their own headers")
    splits = dict(zip(store.records["record_id"], split_of(store.records["fold"].to_numpy()), strict=True))
    leaks = [(one, other) for one, other in checks.twins if splits[one] != splits[other]]
    if leaks:
        one, other = leaks[0]
        found.append(
            f"{len(leaks)} pairs of records with the same signal are in different splits, e.g. {one!r} and {other!r}"
        )
    for label_set in store.label_sets():
        targets, kinds = store.targets(label_set), store.kinds(label_set)
        for split in SPLITS[1:]:
            rows = targets[store.rows(split)]
            absent = [
                name
                for name, column, kind in zip(store.classes(label_set), rows.T, kinds, strict=True)
                if (kind == "classification" and not (column == 1).any()) or np.isnan(column).all()
            ]
            if absent:
                shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
                found.append(f"no positive or known label in the {split} fold for {len(absent)} classes: {shown}")
    return found


def show(store: Store, prepared: Prepared, console: Console) -> None:
    """Prints the summary."""
    records, checks, rejected = store.records, prepared.checks, prepared.rejected
    hours = records["samples"].sum() / store.sampling_rate / 3600
    seconds = records["samples"] / store.sampling_rate
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    step = records["microvolt_per_bit"]
    rows = {
        "source": str(store.meta["source"]),
        "records": f"{len(store):,} of {records['patient_id'].nunique():,} patients, {hours:.2f} h",
        "duration": f"{seconds.min():g} to {seconds.max():g} s at {store.sampling_rate:g} Hz",
        "rejected": f"{len(rejected):,}" + (" (reasons in rejected.csv)" if rejected else ""),
        "derived leads": _counts(checks.derived),
        "missing leads": _counts(checks.missing),
        "records with NaN": f"{checks.with_nan:,}",
        "amplitude": f"{checks.low:.3g} to {checks.high:.3g} mV",
        "I + III - II": _residual(checks.residuals),
        "stored as": store.dtype
        + ("" if store.dtype == "float32" else f", {step.min():g} to {step.max():g} uV per bit"),
        "folds": ", ".join(f"{fold}: {count:,}" for fold, count in records["fold"].value_counts().sort_index().items()),
        "fingerprint": store.fingerprint,
        "store": str(store.path),
    }
    for name, value in rows.items():
        facts.add_row(name, value)
    console.print(facts)
    for label_set in store.label_sets():
        console.print(_label_table(store, label_set))


def _label_table(store: Store, label_set: str) -> Table:
    table = Table(title=f"label set {label_set!r}: positives (regression: known values)", title_justify="left")
    table.add_column("class", overflow="fold")
    for split in SPLITS:
        table.add_column(f"{split} ({len(store.rows(split)):,})", justify="right")
    targets = store.targets(label_set)
    classes = list(zip(store.classes(label_set), store.kinds(label_set), strict=True))
    for i, (name, kind) in enumerate(classes[:_SHOWN_CLASSES]):
        column = targets[:, i]
        counted = column == 1 if kind == "classification" else ~np.isnan(column)
        table.add_row(name, *(f"{counted[store.rows(split)].sum():,}" for split in SPLITS))
    if len(classes) > _SHOWN_CLASSES:
        table.add_row(f"... and {len(classes) - _SHOWN_CLASSES} more", *[""] * len(SPLITS))
    return table


def _counts(leads: Counter[str]) -> str:
    return ", ".join(f"{lead} in {count:,}" for lead, count in leads.items()) or "none"


def _residual(residuals: list[float]) -> str:
    if not residuals:
        return "not checked (no record has I, II and III)"
    return f"median {np.median(residuals):.3g}, largest {max(residuals):.3g} uV, over {len(residuals):,} records"
