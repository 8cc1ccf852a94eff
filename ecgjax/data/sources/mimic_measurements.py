"""The 35 regression targets of MIMIC-IV: age, biometrics, features of the ECG, laboratory values, vital signs.

Values near an ECG come from `mimic_tables`; here outliers go, and the nearest value is attached (datasets.md, section
4.6). Targets are in their own units: years, inches, pounds, kg/m2, ms, degrees, and those of the laboratory.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgjax.data.sources.mimic_events import OTHER, TESTED, TRAINING, Extract, Table, moment
from ecgjax.data.sources.mimic_tables import BIOMETRICS, DAYS_30, HOUR, LABS, VITALS

ECG_FEATURES = ("rr", "qrs", "qt", "qtc", "p_axis", "qrs_axis", "t_axis")
REGRESSION = ("age", *BIOMETRICS.values(), *ECG_FEATURES, *LABS.values(), *VITALS)
"""The targets in the benchmark's order."""

MEASURED = ("rr_interval", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis")
"""Columns of machine_measurements.csv that are used."""

MASKED_AGE = 91.0
"""`anchor_age` of everybody above 89."""

_AXES = (-360.0, 360.0)
_TIMES = (0.0, 5000.0)
_PERCENTILES = (0.01, 0.99)
_FEWEST_CHART_ROWS = 1000


def ecg_features(measured: pd.DataFrame) -> pd.DataFrame:
    """RR, QRS, QT, Bazett's QTc (ms) and axes (degrees) from the machine's marks.

    Marks outside 0 to 5000 ms and axes outside +-360 degrees are unknown: the machine writes 29999, 32767, -32768 and
    65535 for what it could not measure. Negative durations are possible.

    Args:
        measured: columns `MEASURED`, as numbers.
    """
    marks = {
        name: measured[name].where(measured[name].between(*(_AXES if name.endswith("axis") else _TIMES)))
        for name in MEASURED
    }
    rr, qt = marks["rr_interval"], marks["t_end"] - marks["qrs_onset"]
    return pd.DataFrame(
        {
            "rr": rr,
            "qrs": marks["qrs_end"] - marks["qrs_onset"],
            "qt": qt,
            "qtc": qt / np.sqrt(rr.where(rr > 0) / 1000),
            "p_axis": marks["p_axis"],
            "qrs_axis": marks["qrs_axis"],
            "t_axis": marks["t_axis"],
        }
    )


def ages(records: pd.DataFrame, protocol: str) -> np.ndarray:
    """Years; unknown for patients whose age the publisher masks (all above 89 count as 91 in their anchor year).

    Protocol "paper" takes the masked ages for true.
    """
    age = records["age"].to_numpy(float)
    return age if protocol == "paper" else np.where(records["anchor_age"].to_numpy(float) >= MASKED_AGE, np.nan, age)


def percentile(values: np.ndarray, counts: np.ndarray, share: float) -> float:
    """Percentile of values that occur so and so often, linear between neighbours as numpy's; NaN of nothing.

    Args:
        values: (n,) distinct or not.
        counts: (n,) int.
        share: 0 to 1.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(counts[order])
    at = share * (total - 1)
    low, high = (values[order[np.searchsorted(ends, rank, side="right")]] for rank in (np.floor(at), np.ceil(at)))
    return float(low + (high - low) * (at - np.floor(at)))


def nearest(subjects: np.ndarray, when: np.ndarray, events: pd.DataFrame, seconds: int, unit: int = 1) -> np.ndarray:
    """(ecgs,) value of the event that is nearest to each ECG, before or after it; NaN where there is none.

    Args:
        subjects: (ecgs,) int64.
        when: (ecgs,) int64, seconds.
        events: subject, time (s), value; of equally near ones the first row counts.
        seconds: the largest distance.
        unit: distances are compared in whole multiples of so many seconds.
    """
    order = np.argsort(moments := moment(events["subject"].to_numpy(), events["time"].to_numpy()), kind="stable")
    moments, value = moments[order], events["value"].to_numpy()
    first = np.searchsorted(moments, moment(subjects, when - seconds))
    number = np.searchsorted(moments, moment(subjects, when + seconds), side="right") - first
    ecg = np.repeat(np.arange(len(subjects)), number)
    candidate = order[np.arange(len(ecg)) + np.repeat(first - np.cumsum(number) + number, number)]
    distance = np.abs(events["time"].to_numpy()[candidate] - when[ecg]) // unit
    best = np.lexsort((candidate, distance, ecg))
    ecg, chosen = np.unique(ecg[best], return_index=True)
    found = np.full(len(subjects), np.nan)
    found[ecg] = value[candidate[best[chosen]]]
    return found


def attach(
    subjects: np.ndarray, when: np.ndarray, extracts: Sequence[tuple[Table, Extract]], protocol: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Biometrics, laboratory values and vital signs of every ECG.

    Args:
        subjects: (ecgs,) int64.
        when: (ecgs,) int64, seconds since 1970.
        extracts: tables and what was kept of them, chartevents last; what is not there contributes nothing.
        protocol: see `trim`.

    Returns:
        (ecgs,) float64 by quantity, NaN where unknown, and a line on each that has values.
    """
    targets, lines = {}, []
    for quantity in (*BIOMETRICS.values(), *LABS.values(), *VITALS):
        rows, (low, high) = trim(quantity, extracts, protocol)
        seconds, unit = (DAYS_30, 24 * HOUR) if quantity in BIOMETRICS.values() else (HOUR, 1)
        targets[quantity] = nearest(subjects, when, rows, seconds, unit)
        known = int(np.isfinite(targets[quantity]).sum())
        if known:
            lines.append(f"{quantity}: known for {known} of {len(when)} records, trimmed to {low:.6g} to {high:.6g}")
    return targets, tuple(lines)


def trim(
    quantity: str, extracts: Sequence[tuple[Table, Extract]], protocol: str
) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Events of one quantity between its 1st and 99th percentile, and these limits.

    Under protocol "default" the percentiles are those of the training subjects' values. Under "paper" they are those of
    all values, test subjects' too: of every patient of the hospital for omr, vitalsign and labevents, of the
    benchmark's for chartevents; for biometrics the lower one is that of what the upper one leaves; and laboratory
    values of labevents are trimmed first alone, then, of patients with an ECG, again together with those of
    chartevents.
    """
    paper = protocol == "paper"
    kept, counted = [], []
    for table, extract in extracts:
        if quantity not in {item.quantity for item in table.items}:
            continue
        rows, counts = _of(quantity, table, extract)
        if table.name == "labevents":
            rows, counts = _one_assay(rows, counts, paper)
        kept.append(rows)
        counted.append(counts)
    empty = pd.DataFrame({name: np.empty(0) for name in ("subject", "time", "value", "group", "count")})
    rows, counts = (pd.concat(parts, ignore_index=True) if parts else empty for parts in (kept, counted))
    limits = _limits(counts if paper else counts[counts["group"] == TRAINING])
    if paper and quantity in BIOMETRICS.values():
        limits = _limits(counts[counts["value"] <= limits[1]])[0], limits[1]
    return rows[rows["value"].between(*limits)], limits


def _of(quantity: str, table: Table, extract: Extract) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and counts of one quantity in one table."""
    rows, counts = extract.rows, extract.counts
    mine = [i for i, item in enumerate(table.items) if item.quantity == quantity]
    rows, counts = rows[rows["item"].isin(mine)], counts[counts["item"].isin(mine)]
    if table.name == "chartevents":
        counts = counts[counts["group"] >= TESTED]
        labels = np.array([item.label for item in table.items])
        by_label = counts["count"].groupby(labels[counts["item"]]).sum()
        common = [i for i in mine if by_label.get(labels[i], 0) >= _FEWEST_CHART_ROWS]
        rows, counts = rows[rows["item"].isin(common)], counts[counts["item"].isin(common)]
    needs_unit = np.array([item.needs_unit for item in table.items], bool)
    rows, counts = (part[~needs_unit[part["item"]] | part["unit"].notna()] for part in (rows, counts))
    return rows, counts[counts["value"].notna()]


def _one_assay(rows: pd.DataFrame, counts: pd.DataFrame, paper: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Laboratory values of the most frequent item of a label, in that item's most frequent unit."""
    if not len(counts):
        return rows, counts
    item = counts.groupby("item")["count"].sum().idxmax()
    rows, counts = rows[rows["item"] == item], counts[counts["item"] == item]
    if paper:
        limits = _limits(counts)
        rows, counts = rows[rows["value"].between(*limits)], counts[counts["value"].between(*limits)]
    by_unit = counts.groupby("unit")["count"].sum()
    unit = by_unit.idxmax() if len(by_unit) else None
    rows, counts = rows[rows["unit"] == unit], counts[counts["unit"] == unit]
    return rows, counts[counts["group"] >= OTHER] if paper else counts


def _limits(counts: pd.DataFrame) -> tuple[float, float]:
    values, numbers = counts["value"].to_numpy(float), counts["count"].to_numpy()
    return percentile(values, numbers, _PERCENTILES[0]), percentile(values, numbers, _PERCENTILES[1])
