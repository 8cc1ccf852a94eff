"""Closed-form variance of the macro AUROC, and covariance between models (DeLong et al. 1988).

A check on the bootstrap: it needs no resampling and no seed. Each record's placement values are summed over the classes
before they are squared, so correlation between classes of the same records is counted.
"""

from collections.abc import Mapping, Sequence

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
        parts += deviations(known, checked, [range(known.shape[1])], absent)
    stacked = np.stack(parts)
    if groups is not None:
        units = unit_indices(groups, stacked.shape[1])
        stacked = np.stack([np.bincount(units, part) for part in stacked])
    return np.array(values), stacked @ stacked.T


def deviations(
    targets: NDArray, scores: NDArray, tasks: Sequence[Sequence[int]], absent: Absent
) -> list[NDArray[np.float64]]:
    """(records,) share of each record in the deviation of a task's macro AUROC; the squares sum to its variance.

    Args:
        targets: (records, classes), checked.
        scores: (records, classes), checked.
        tasks: columns of each task; they may share some.
        absent: as for `delong`.
    """
    totals, defined = np.zeros((len(tasks), len(targets))), np.zeros(len(tasks), int)
    chosen = [set(columns) for columns in tasks]
    needed = sorted(set().union(*chosen))
    for column, influence in zip(
        needed, auroc_influences(targets[:, needed], scores[:, needed], unbiased=True), strict=True
    ):
        if influence is not None:
            mine = np.array([column in columns for columns in chosen])
            totals[mine] += influence
            defined += mine
    sizes = [len(columns) if absent == "half" else max(1, n) for columns, n in zip(tasks, defined, strict=True)]
    return [total / size for total, size in zip(totals, sizes, strict=True)]
