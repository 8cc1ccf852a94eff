"""Folds where the publisher gives none: iterative stratification of records or patients (datasets.md, section 1.4)."""

from collections.abc import Sequence

import numpy as np

from ecgjax.data.preparation.vocabulary import vocabulary
from ecgjax.data.stratify import stratify, stratify_in_batches

ADULT_AGES = (20.0, 40.0, 60.0, 80.0)
"""Bounds of the age groups, years."""

NOWHERE = -1
"""Fold of records without any label; they count as training data."""


def record_folds(lists: Sequence[Sequence[str]], folds: int = 10, seed: int = 0) -> np.ndarray:
    """(records,) fold of each record, stratified over the labels; `NOWHERE` for records without one.

    Args:
        lists: labels of each record, in the order of the records' names.
        folds: number of folds of equal size.
        seed: of ties.
    """
    subsets = stratify(lists, vocabulary(lists), [1 / folds] * folds, seed=seed)
    return _assign(subsets, len(lists))


def patient_folds(
    lists: Sequence[Sequence[str]],
    patient_ids: Sequence[str],
    *,
    male: Sequence[bool] | None = None,
    ages: Sequence[float] | None = None,
    age_bounds: Sequence[float] = ADULT_AGES,
    folds: int = 10,
    batch: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """(records,) fold of each record, stratified over patients by labels, sex and age.

    Args:
        lists: labels of each record.
        patient_ids: of each record; patients are taken in sorted order.
        male: of each record; everybody else counts as the other sex. None leaves demographics out, as no `ages` does.
        ages: of each record, in the unit of `age_bounds`; NaN counts as the oldest group.
        age_bounds: upper bounds (exclusive) of the age groups.
        folds: number of folds of equal size.
        batch: patients that are stratified together; None is all.
        seed: of ties.
    """
    classes: list[object] = list(vocabulary(lists))
    extended: list[list[object]] = [list(labels) for labels in lists]
    if male is not None and ages is not None:
        # Numbers cannot clash with labels, which are strings; the order of the classes breaks ties.
        classes += list(range(len(age_bounds) + 4))
        for labels, is_male, age in zip(extended, male, ages, strict=True):
            group = next((i for i, bound in enumerate(age_bounds) if age < bound), len(age_bounds))
            labels += [0, 1 if is_male else 2, 3 + group]
    patients, owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    pooled: list[list[object]] = [[] for _ in patients]
    for labels, patient in zip(extended, owner, strict=True):
        pooled[patient].extend(labels)
    sizes = np.bincount(owner, minlength=len(patients)).tolist()
    ratios = [1 / folds] * folds
    if batch is None:
        subsets = stratify(pooled, classes, ratios, sizes, seed)
    else:
        subsets = stratify_in_batches(pooled, classes, ratios, batch, sizes, seed)
    return _assign(subsets, len(patients))[owner]


def _assign(subsets: Sequence[Sequence[int]], members: int) -> np.ndarray:
    fold = np.full(members, NOWHERE)
    for number, subset in enumerate(subsets):
        fold[list(subset)] = number
    return fold
