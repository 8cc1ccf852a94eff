"""What is checked of a prepared data set before anyone trusts a result; it goes to checks.json and to the screen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data.preparation.signal_checks import LAWS
from ecgjax.data.preparation.source import Facts, LabelSet
from ecgjax.data.store import SPLITS, split_of

EINTHOVEN_MICROVOLT = 20.0
"""What may be left of a law (root mean square over a record): rounding, and filters that differ between leads."""

EINTHOVEN_SHARE = 0.01
"""Share of the records that may break a law."""

PLAUSIBLE_PEAK = (0.2, 8.0)
"""Range of the median over records of the largest voltage, mV: narrower than a factor 1000, wider than any disease."""

LARGEST = 50.0
"""mV that no record on a human chest reaches; amplifiers saturate below."""

_SHOWN = 20


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: of it.
        passed: None where it does not apply.
        detail: one line with the figures.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Checks:
    """All of them.

    Attributes:
        checks: passed or not.
        leads: how many records had each lead derived, and how many miss each.
        amplitude: lowest and highest value and the median peak, in the unit of the store.
        einthoven: law -> records checked, median and largest residual in microvolts, records beyond the tolerance.
        twins: pairs of record ids with the same signal (the first ones), and how many there are.
        published: label set -> class -> published and found number of positives; with them "records".
        notes: what the source says of itself.
    """

    checks: tuple[Check, ...]
    leads: Mapping[str, Mapping[str, int]]
    amplitude: Mapping[str, float]
    einthoven: Mapping[str, Mapping[str, float]]
    twins: Mapping[str, Any]
    published: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """As checks.json holds it."""
        return {"passed": all(check.passed is not False for check in self.checks), **asdict(self)}


def check(
    facts: Facts,
    index: pd.DataFrame,
    signals: pd.DataFrame,
    label_sets: Mapping[str, LabelSet],
    *,
    rejected: int,
    limited: bool,
    notes: Sequence[str] = (),
) -> Checks:
    """Checks a data set.

    Args:
        facts: of the source.
        index: of the store.
        signals: columns of `signal_checks.COLUMNS`, rows as in `index`.
        label_sets: of the store.
        rejected: number of records that were left out.
        limited: whether this is a part of the data set only, whose counts say nothing.
        notes: of the source.
    """
    split = split_of(index["fold"].to_numpy())
    twins = _twins(index["record_id"].to_numpy(), signals["_digest"].to_numpy())
    einthoven, published = _einthoven(index, signals), _published(facts, label_sets, len(index) + rejected)
    amplitude = {
        "low": float(np.nanmin(signals["_low"])) if signals["_low"].notna().any() else float("nan"),
        "high": float(np.nanmax(signals["_high"])) if signals["_high"].notna().any() else float("nan"),
        "median_peak": float(_peaks(signals).median()),
    }
    checks = [
        _check_einthoven(facts, einthoven),
        _check_amplitude(facts, index, signals, amplitude),
        _check_patients(index, split),
        _check_twins(index, split, twins),
        _check_checksums(signals),
        _check_published(published, limited),
        *_check_labels(label_sets, split, limited),
    ]
    leads = {
        kind: {str(lead): int(count) for lead, count in _words(index[f"{kind}_leads"]).items()}
        for kind in ("derived", "missing")
    }
    found = {"pairs": len(twins), "first": [list(pair) for pair in twins[:_SHOWN]]}
    return Checks(tuple(checks), leads, amplitude, einthoven, found, published, tuple(notes))


def _einthoven(index: pd.DataFrame, signals: pd.DataFrame) -> dict[str, dict[str, Any]]:
    # What is stored as whole steps cannot obey a law better than rounding lets it.
    found = {}
    for lead in LAWS:
        residual = signals[f"_law_{lead}"].to_numpy()
        checked = ~np.isnan(residual)
        if checked.any():
            beyond = np.flatnonzero(checked & (residual > EINTHOVEN_MICROVOLT))
            found[lead] = {
                "records": int(checked.sum()),
                "median": float(np.median(residual[checked])),
                "largest": float(residual[checked].max()),
                "beyond": len(beyond),
                "first": index["record_id"].iloc[beyond[:_SHOWN]].tolist(),
            }
    return found


def _check_einthoven(facts: Facts, found: Mapping[str, Mapping[str, Any]]) -> Check:
    name = "Einthoven's laws"
    if facts.einthoven is not True:
        return Check(name, None, f"exempt: {facts.einthoven}")
    if not found:
        return Check(name, None, "no record has I, II and another limb lead recorded")
    broken = {lead: law for lead, law in found.items() if law["beyond"] > EINTHOVEN_SHARE * law["records"]}
    if broken:
        parts = [
            f"{lead} in {law['beyond']:,} of {law['records']:,} records, e.g. {law['first'][0]!r}"
            for lead, law in broken.items()
        ]
        return Check(
            name,
            False,
            f"off by more than {EINTHOVEN_MICROVOLT:g} uV: {'; '.join(parts)}; are the leads named rightly?",
        )
    beyond, records = max(law["beyond"] for law in found.values()), max(law["records"] for law in found.values())
    median, largest = (max(law[kind] for law in found.values()) for kind in ("median", "largest"))
    return Check(
        name,
        True,
        f"{', '.join(found)} of {records:,} records; rms residual {median:.2g} uV (median) to {largest:.3g} uV, "
        f"beyond {EINTHOVEN_MICROVOLT:g} uV in {beyond:,}",
    )


def _peaks(signals: pd.DataFrame) -> pd.Series:
    return signals["_high"].where(signals["_high"] > -signals["_low"], -signals["_low"])


def _check_amplitude(facts: Facts, index: pd.DataFrame, signals: pd.DataFrame, amplitude: Mapping[str, float]) -> Check:
    name, median = "amplitude", amplitude["median_peak"]
    unit = facts.unit
    detail = f"{amplitude['low']:.3g} to {amplitude['high']:.3g} {unit}, median peak {median:.3g} {unit}"
    if unit != "mV":
        return Check(name, None, f"{detail}; no voltages")
    above = np.flatnonzero(_peaks(signals).to_numpy() > LARGEST)
    if len(above):
        example = index["record_id"].iloc[above[0]]
        detail += f"; above {LARGEST:g} mV in {len(above):,} records, e.g. {example!r}"
    plausible = PLAUSIBLE_PEAK[0] <= median <= PLAUSIBLE_PEAK[1]
    if not plausible:
        detail += f"; expected a median of {PLAUSIBLE_PEAK[0]:g} to {PLAUSIBLE_PEAK[1]:g} mV"
    passed = plausible and not len(above)
    return Check(name, passed, detail if passed else f"{detail}; are the units and gains of the files right?")


def _check_patients(index: pd.DataFrame, split: np.ndarray) -> Check:
    name = "patients in one split"
    patients = index["patient_id"]
    splits = pd.Series(split).groupby(patients.to_numpy()).nunique()
    leaking = splits.index[splits > 1]
    if len(leaking):
        where = sorted({SPLITS[i] for i in split[(patients == leaking[0]).to_numpy()]}, key=SPLITS.index)
        return Check(
            name,
            False,
            f"{len(leaking):,} of {len(splits):,} are in several, e.g. {leaking[0]!r} in {' and '.join(where)}",
        )
    return Check(name, True, f"none of {len(splits):,} is in two of {', '.join(SPLITS)}")


def _twins(record_ids: np.ndarray, digests: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of a record and a later one with the same signal."""
    codes, _ = pd.factorize(digests)
    _, first = np.unique(codes, return_index=True)
    again = np.flatnonzero(first[codes] != np.arange(len(codes)))
    return [(str(record_ids[first[codes[row]]]), str(record_ids[row])) for row in again]


def _check_twins(index: pd.DataFrame, split: np.ndarray, twins: list[tuple[str, str]]) -> Check:
    name = "same signal twice"
    if not twins:
        return Check(name, True, "no two records have the same signal")
    split_by_id = dict(zip(index["record_id"], split.tolist(), strict=True))
    leaks = [(one, other) for one, other in twins if split_by_id[one] != split_by_id[other]]
    if leaks:
        one, other = leaks[0]
        return Check(
            name,
            False,
            f"{len(leaks):,} pairs of records with the same signal are in different splits, e.g. {one!r} and {other!r}",
        )
    return Check(name, True, f"{len(twins):,} pairs, each within one split, e.g. {twins[0][0]!r} and {twins[0][1]!r}")


def _check_checksums(signals: pd.DataFrame) -> Check:
    bad = int(signals["_bad_checksum"].sum())
    if bad:
        return Check("checksums in the files", False, f"{bad:,} records do not match those of their own headers")
    return Check("checksums in the files", None, "no mismatch found")


def _published(facts: Facts, label_sets: Mapping[str, LabelSet], records: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if facts.records is not None:
        found["records"] = {"published": facts.records, "found": records}
    sets: dict[str, Any] = {}
    for name, published in facts.published.items():
        classes, targets, _ = label_sets.get(name, ((), np.zeros((0, 0)), ()))
        counts = {
            c: int(np.count_nonzero(column == 1)) for c, column in zip(classes, np.asarray(targets).T, strict=True)
        }
        sets[name] = {
            c: {"published": published.get(c), "found": counts.get(c)} for c in dict.fromkeys([*published, *counts])
        }
    return found | ({"label_sets": sets} if sets else {})


def _check_published(published: Mapping[str, Any], limited: bool) -> Check:
    name = "published counts"
    if not published:
        return Check(name, None, "the source has none")
    if limited:
        return Check(name, None, "not compared: this is a part of the data set (--limit)")
    parts = []
    records = published.get("records")
    if records and records["published"] != records["found"]:
        parts.append(f"{records['found']:,} records instead of {records['published']:,}")
    for label_set, classes in published.get("label_sets", {}).items():
        other = {c: n for c, n in classes.items() if n["published"] != n["found"]}
        if other:
            first = next(iter(other))
            counts = other[first]
            parts.append(
                f"{len(other)} of {len(classes)} classes of {label_set!r} differ, e.g. {first} "
                f"{_number(counts['found'])} instead of {_number(counts['published'])}"
            )
    return Check(name, not parts, "; ".join(parts) or "records and positives of every class are as published")


def _number(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"


def _check_labels(label_sets: Mapping[str, LabelSet], split: np.ndarray, limited: bool) -> list[Check]:
    """What cannot be measured: a class without a positive or known label in validation or test."""
    found = []
    for label_set, (classes, targets, kinds) in label_sets.items():
        if not classes:
            found.append(Check(f"label set {label_set!r}", False, "no class occurs often enough (--min-count)"))
        for number, name in list(enumerate(SPLITS))[1:]:
            rows = np.asarray(targets)[split == number]
            if not len(rows):  # a set that is all test, or has no validation fold
                continue
            absent = [
                c
                for c, column, kind in zip(classes, rows.T, kinds, strict=True)
                if (kind == "classification" and not (column == 1).any()) or np.isnan(column).all()
            ]
            if absent:
                shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
                detail = f"no positive or known label in the {name} fold for {len(absent)} classes: {shown}"
                found.append(Check(f"label set {label_set!r}", None if limited else False, detail))
    return found


def _words(texts: pd.Series) -> Mapping[Any, int]:
    counts: dict[str, int] = {}
    for text, count in texts.value_counts().items():
        for word in str(text).split():
            counts[word] = counts.get(word, 0) + int(count)
    return counts
