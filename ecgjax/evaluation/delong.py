"""Closed-form variance of the macro AUROC, and covariance between models (DeLong et al. 1988).

A check on the bootstrap: it needs no resampling and no seed. Each record's placement values are summed over the classes
before they are squared, so correlation between classes of the same records is counted.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import metrics
from ecgjax.evaluation.influence import auroc_influences
from ecgjax.evaluation.metrics import Absent
from ecgjax.evaluation.resamples import unit_indices


def delong(
    targets: ArrayLike,
    scores: Mapping[str, ArrayLike],
    absent: Absent = "skip",
    groups: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Macro AUROC of each model and the covariance of their estimates.

    Args:
        targets: (records, classes) of 0, 1 or NaN.
        scores: model -> (records, classes).
        absent: as for `ecgjax.metrics.macro_auroc`; which classes are defined is taken as given.
        groups: (records,) e.g. patients, whose records are not independent; None takes records as independent.

    Returns:
        (models,) values and (models, models) covariances. With one class and no groups they are DeLong's own.

    Raises:
        UserError: no model, or as for `ecgjax.metrics.auroc`.
    """
    if not scores:
        raise UserError("no model; expected at least one")
    values, parts = [], []
    for array in scores.values():
        known, checked = metrics.check_classification(targets, array)
        values.append(metrics.macro_auroc(known, checked, absent))
        parts.append(_of_records(known, checked, absent))
    stacked = np.stack(parts)
    if groups is not None:
        units = unit_indices(groups, stacked.shape[1])
        stacked = np.stack([np.bincount(units, part) for part in stacked])
    return np.array(values), stacked @ stacked.T


def _of_records(targets: NDArray, scores: NDArray, absent: Absent) -> NDArray[np.float64]:
    """(records,) share of each in the macro AUROC's deviation, scaled so that squares sum to the variance."""
    total, defined = np.zeros(len(targets)), 0
    for target, influence in zip(targets.T, auroc_influences(targets, scores), strict=True):
        if influence is None:
            continue
        defined += 1
        for side in (target == 1, target == 0):
            count = int(np.count_nonzero(side))
            # DeLong's variances divide by n - 1; a single positive has none of its own.
            total[side] += influence[side] * np.sqrt(count / max(count - 1, 1.0))
    return total / max(1, targets.shape[1] if absent == "half" else defined)
