"""Subsets of labelled records for label-efficiency studies (protocol.md, 5; datasets.md, 2).

Two ways to take a share of the records, both stratified by sex, age band (20 years) and labels:

    nested  patients whole, by repeated halving: a smaller subset lies inside every larger one, so that what a curve
            compares differs by size and not by who happened to be drawn. Ratio 1 is all records.
    paper   as the authors' code, record for record: one random ECG per patient (also at ratio 1), then one stratified
            draw for each ratio, independent of all others. N is therefore a number of patients.

An unknown age or sex is a stratum of its own (the authors' code stops there).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgjax.data.store import Store
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError

Method = Literal["nested", "paper"]
METHODS: tuple[Method, ...] = ("nested", "paper")

BANDS = ("<20", "20-40", "40-60", "60-80", ">=80")
_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
_SHUFFLE_SEED = 42  # of the paper


def subset(
    store: Store,
    rows: NDArray[np.int64],
    targets: NDArray[np.float32],
    classes: Sequence[str],
    kinds: Sequence[str],
    *,
    ratio: float,
    method: Method = "nested",
    seed: int = 0,
) -> NDArray[np.int64]:
    """A share of some records.

    Args:
        store: whose records; `patient_id`, and `sex` and `age` where it has them.
        rows: row numbers to choose from, e.g. of the training folds.
        targets: (records of the store, classes).
        classes: names of the columns.
        kinds: "classification" or "regression" of each.
        ratio: above 0, at most 1.
        method: see above. The paper's patients are found again if the store has the order of the authors' table, as a
            store of PTB-XL has.
        seed: of the nested draw; the paper's is always the same.

    Returns:
        Row numbers, ascending. At least one patient.

    Raises:
        UserError: a ratio or a method that cannot be.
    """
    if not 0 < ratio <= 1:
        raise UserError(f"ratio {ratio}; expected a share of the records above 0, at most 1")
    if method not in METHODS:
        raise UserError(f"subset {method!r}; expected one of {', '.join(METHODS)}")
    if method == "nested" and ratio == 1:
        return np.sort(rows)
    index = store.records.iloc[rows]
    if method == "paper" and store.meta["source"] == "echonext":
        # The authors' code looks for "male" where EchoNext has 1: everybody counts as female.
        index = index.assign(sex="female")
    strata = stratum_labels(index, targets[rows], classes, kinds)
    patients = index["patient_id"].tolist()
    positions = paper(patients, strata, ratio) if method == "paper" else nested(patients, strata, ratio, seed)
    return np.sort(rows[positions])


def stratum_labels(
    index: pd.DataFrame, targets: NDArray[np.float32], classes: Sequence[str], kinds: Sequence[str]
) -> list[list[str]]:
    """What each record is stratified by: sex, age band and its positive classes.

    Where there is no class but only measurements, each contributes a third of its range of values.

    Args:
        index: (records,) with `sex` and `age` or without.
        targets: (records, classes), NaN where unknown.
        classes: names.
        kinds: "classification" or "regression" of each.
    """
    labels = [[sex, band] for sex, band in zip(*sexes_and_ages(index), strict=True)]
    if "classification" in kinds:
        columns = [i for i, kind in enumerate(kinds) if kind == "classification"]
        for record, column in np.argwhere(targets[:, columns] == 1).tolist():
            labels[record].append(classes[columns[column]])
        return labels
    for name, values in zip(classes, targets.T, strict=True):
        known = values[~np.isnan(values)]
        limits = np.quantile(known, [1 / 3, 2 / 3]) if len(known) else np.zeros(2)
        for record in np.flatnonzero(~np.isnan(values)).tolist():
            labels[record].append(f"{name} third {1 + int((values[record] > limits).sum())}")
    return labels


def sexes_and_ages(index: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Of each record "male", "female" or "sex unknown", and its age band, or "age unknown".

    Args:
        index: (records,) with `sex` and `age` or without.
    """
    unknown = [None] * len(index)
    sexes = [_SEXES.get(str(sex).lower(), "sex unknown") for sex in index.get("sex", unknown)]
    ages = pd.to_numeric(index["age"], errors="coerce").tolist() if "age" in index else [np.nan] * len(index)
    return sexes, [_band(age) for age in ages]


def paper(patients: Sequence[str], labels: Sequence[Sequence[str]], ratio: float) -> list[int]:
    """The authors' subset.

    Args:
        patients: of each record.
        labels: of each record, at least one.
        ratio: share of the records that one per patient leaves.

    Returns:
        Positions of the chosen records, in the order of the authors' shuffle.
    """
    n = len(patients)
    order = np.random.RandomState(_SHUFFLE_SEED).choice(n, n, replace=False).tolist()
    first: dict[str, int] = {}
    for i in order:
        first.setdefault(patients[i], i)
    kept = list(first.values())
    if ratio == 1:
        return kept
    own = [labels[i] for i in kept]
    chosen, _ = stratify(own, _names(own), [ratio, 1 - ratio])
    return [kept[i] for i in chosen]


def nested(patients: Sequence[str], labels: Sequence[Sequence[str]], ratio: float, seed: int = 0) -> list[int]:
    """A subset that lies inside those of larger ratios and the same seed, and holds those of smaller ones.

    Patients are halved by stratification, and the halves again; the subset is as many of these parts, in their order,
    as the ratio needs. Patients are never divided, so shares of records are met as closely as patients allow.

    Args:
        patients: of each record.
        labels: of each record, at least one.
        ratio: above 0, at most 1.
        seed: another seed, another subset.

    Returns:
        Positions of the chosen records, ascending. At least one patient's.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    records = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    pooled = [[label for record in own for label in labels[record]] for own in records]
    weights = [len(own) for own in records]
    # The stratifier walks through patients in their order: a random one, or the sorting of names would choose.
    rest = np.random.default_rng(seed).permutation(len(names)).tolist()
    taken: list[int] = []
    low, high = 0.0, 1.0  # the part of all records that `rest` is; `taken` is what lies below
    while ratio < high and len(rest) > 1:
        middle = (low + high) / 2
        # Measured from the start: what one division missed, the next one makes good.
        missing = middle * len(patients) - sum(weights[i] for i in taken)
        share = missing / sum(weights[i] for i in rest)
        first, second = _divide(rest, pooled, weights, min(max(share, 0.25), 0.75), seed)
        if ratio <= middle:
            rest, high = first, middle
        else:
            taken, rest, low = taken + first, second, middle
    if 2 * ratio >= low + high or not taken:
        taken = taken + rest
    return sorted(int(record) for patient in taken for record in records[patient])


def _divide(
    patients: list[int], labels: Sequence[Sequence[str]], weights: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    own = [labels[i] for i in patients]
    parts = stratify(own, _names(own), [share, 1 - share], [weights[i] for i in patients], seed)
    first, second = ([patients[i] for i in part] for part in parts)
    if first and second:
        return first, second
    return patients[: len(patients) // 2], patients[len(patients) // 2 :]  # too few to stratify


def _names(labels: Sequence[Sequence[str]]) -> list[str]:
    return sorted({label for own in labels for label in own})


def _band(age: float) -> str:
    return "age unknown" if np.isnan(age) else BANDS[int(min(max(age, 0) // 20, len(BANDS) - 1))]
