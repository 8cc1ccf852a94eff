"""All models of a task on the same resamples: every interval, every paired difference and its significance.

The resamples are drawn once and each model's replicates are computed once; all pairs are then subtractions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import metrics
from ecgjax.evaluation.bootstrap import Metric, check_options, influences, replicate_values
from ecgjax.evaluation.limits import Kind, interval
from ecgjax.evaluation.metrics import Absent
from ecgjax.evaluation.replicated import Differences, Replicated, differences
from ecgjax.evaluation.resamples import Resamples, draw_counts, unit_indices


@dataclass(frozen=True)
class Joint:
    """Models on the same records and resamples. The overall value is the macro AUROC or the pooled absolute error.

    Attributes:
        names: of the models.
        value: (models,) overall values.
        low: (models,) lower limits.
        high: (models,) upper limits.
        samples: (replicates, models) overall values of the replicates.
        class_value: (models, classes); NaN where undefined.
        class_low: (models, classes) lower limits.
        class_high: (models, classes) upper limits.
        differences: of every pair of models.
    """

    names: tuple[str, ...]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    samples: NDArray[np.float64]
    class_value: NDArray[np.float64]
    class_low: NDArray[np.float64]
    class_high: NDArray[np.float64]
    differences: Differences


def joint(
    targets: ArrayLike,
    scores: Mapping[str, ArrayLike],
    metric: Metric = "auroc",
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    indices: ArrayLike | None = None,
    absent: Absent = "skip",
    kind: Kind = "percentile",
    groups: ArrayLike | None = None,
) -> Joint:
    """Intervals of all models and of all their differences.

    Args:
        targets: (records, classes), as for `ecgjax.bootstrap.intervals`, like all that is not said here.
        scores: model -> (records, classes), records and classes in one order.
        metric: as for `intervals`.
        replicates: as for `intervals`.
        level: as for `intervals`.
        seed: as for `intervals`.
        indices: as for `intervals`.
        absent: as for `intervals`.
        kind: as for `intervals`.
        groups: as for `intervals`.

    Returns:
        `Joint`, models in the order of `scores`. The values are those of `intervals` and `differences`.

    Raises:
        UserError: no model, or as for `intervals`; the model is named.
    """
    metrics.check_choice("metric", metric, ("auroc", "mae"))
    check_options(absent, kind, level)
    if not scores:
        raise UserError("no model to compare; expected at least one")
    check = metrics.check_classification if metric == "auroc" else metrics.check_regression
    arrays = []
    for name, values in scores.items():
        try:
            known, checked = check(targets, values)
        except UserError as error:
            raise UserError(f"model {name}: {error}") from error
        arrays.append(checked)
    resamples = Resamples(draw_counts(len(known), replicates, seed, indices, groups))
    units = None if groups is None else unit_indices(groups, len(known))
    points: list[NDArray] = []
    bounds: list[NDArray] = []
    models: list[Replicated] = []
    for array in arrays:
        value, samples = replicate_values(known, array, metric, resamples, absent)
        shares: list[NDArray | None] = [None]
        if kind == "bca":
            shares = list(influences(known, [array], metric, absent, units))
        points.append(value)
        bounds.append(interval(value, samples, level, kind, shares))
        models.append(Replicated(float(value[-1]), samples[:, -1].copy(), shares[-1]))
    value, (low, high) = np.stack(points), np.stack(bounds, axis=1)
    return Joint(
        names=tuple(scores),
        value=value[:, -1],
        low=low[:, -1],
        high=high[:, -1],
        samples=np.stack([model.samples for model in models], axis=1),
        class_value=value[:, :-1],
        class_low=low[:, :-1],
        class_high=high[:, :-1],
        differences=differences(models, level, kind),
    )
