"""Empirical influence of each record on a metric, in closed form.

Their third and second moments give the acceleration of the BCa interval (Efron 1987, Better bootstrap confidence
intervals, section 6); those of the AUROC are the placement values of DeLong et al. 1988.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ecgjax.evaluation.metrics import Absent


def auroc_influences(targets: NDArray, scores: NDArray) -> Iterator[NDArray[np.float64] | None]:
    """(records,) influences on each class's AUROC in turn; None for an undefined class."""
    for target, score in zip(targets.T, scores.T, strict=True):
        yield _auroc_influence(target, score)


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


def _auroc_influence(target: NDArray, score: NDArray) -> NDArray[np.float64] | None:
    positive, negative = target == 1, target == 0
    n_positive, n_negative = np.count_nonzero(positive), np.count_nonzero(negative)
    if not (n_positive and n_negative):
        return None
    above = _share_below(score[positive], score[negative])
    beaten_by = 1 - _share_below(score[negative], score[positive])
    area = above.mean()
    influence = np.zeros(len(target))
    influence[positive] = (above - area) / n_positive
    influence[negative] = (beaten_by - area) / n_negative
    return influence


def _share_below(values: NDArray, others: NDArray) -> NDArray[np.float64]:
    """Share of `others` below each value, ties counted half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(ordered))
