"""Empirical influence of each record on a metric, in closed form.

Their third and second moments give the acceleration of the BCa interval (Efron 1987, Better bootstrap confidence
intervals, section 6); those of the AUROC are the placement values of DeLong et al. 1988.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ecgjax.evaluation.metrics import Absent


def auroc_influences(targets: NDArray, scores: NDArray, unbiased: bool = False) -> Iterator[NDArray[np.float64] | None]:
    """(records,) influences on each class's AUROC in turn; None for an undefined class.

    Args:
        targets: (records, classes) of 0, 1 or NaN.
        scores: (records, classes).
        unbiased: scale each side as if its variance were divided by n - 1: the squares then sum to DeLong's variance.
            A single positive has no variance of its own.
    """
    for target, score in zip(targets.T, scores.T, strict=True):
        yield _auroc_influence(target, score, unbiased)


def macro_auroc_influence(targets: NDArray, scores: NDArray, absent: Absent) -> NDArray[np.float64]:
    """(records,) influences on the macro AUROC; which classes are defined is taken as given."""
    total, defined = np.zeros(len(targets)), 0
    for influence in auroc_influences(targets, scores):
        if influence is not None:
            total += influence
            defined += 1
    return total / max(1, targets.shape[1] if absent == "half" else defined)


def mae_influences(targets: NDArray, predictions: NDArray) -> Iterator[NDArray[np.float64] | None]:
    """(records,) influences on each target's mean absolute error in turn; None where nothing is known."""
    for target, prediction in zip(targets.T, predictions.T, strict=True):
        known = ~np.isnan(target)
        yield pooled_mae_influence(target[:, None], prediction[:, None]) if known.any() else None


def pooled_mae_influence(targets: NDArray, predictions: NDArray) -> NDArray[np.float64]:
    """(records,) influences on the mean absolute error over all known entries."""
    known = ~np.isnan(targets)
    errors = np.abs(predictions.astype(np.float64) - targets)
    total = max(1, np.count_nonzero(known))
    return np.where(known, errors - errors[known].sum() / total, 0.0).sum(axis=1) / total


def _auroc_influence(target: NDArray, score: NDArray, unbiased: bool) -> NDArray[np.float64] | None:
    known = np.flatnonzero((target == 0) | (target == 1))
    order = known[np.argsort(score[known])]
    positive = target[order] == 1
    n_positive, n_negative = (int(np.count_nonzero(side)) for side in (positive, ~positive))
    if not (n_positive and n_negative):
        return None
    below, positives_below = _ranks(score[order], positive)
    # Placement values: the share of negatives below a positive, of positives above a negative.
    placement = np.where(positive, (below - positives_below) / n_negative, 1 - positives_below / n_positive)
    area = placement[positive].mean()
    scale = [1 / n * np.sqrt(n / max(n - 1, 1) if unbiased else 1) for n in (n_positive, n_negative)]
    influence = np.zeros(len(target))
    influence[order] = (placement - area) * np.where(positive, *scale)
    return influence


def _ranks(ordered: NDArray, positive: NDArray[np.bool_]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """How many records, and how many positives, lie below each of the sorted scores; those level with it count half."""
    positives = np.append(0, np.cumsum(positive))
    new = ordered[1:] != ordered[:-1]
    if new.all():
        return np.arange(len(ordered)) + 0.5, (positives[:-1] + positives[1:]) / 2
    first = np.append(0, np.flatnonzero(new) + 1)
    last = np.append(first[1:], len(ordered))
    group = np.append(0, np.cumsum(new))
    return ((first + last) / 2)[group], ((positives[first] + positives[last]) / 2)[group]
