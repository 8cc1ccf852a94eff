"""All models of a task on the same resamples: every interval, every paired difference and its significance.

The resamples are drawn once and each model's replicates are computed once; all pairs are then subtractions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import limits, metrics
from ecgjax.evaluation.bootstrap import Kind, Metric, influences, replicate_values
from ecgjax.evaluation.metrics import Absent
from ecgjax.evaluation.resamples import draw_counts, unit_indices


@dataclass(frozen=True)
class Differences:
    """Overall metric of model i minus that of model j, at [i, j].

    Attributes:
        value: (models, models).
        low: lower limits.
        high: upper limits.
        p: two-sided bootstrap p-values: twice the smaller share of replicates on one side of 0, ties half, never below
            2 / (replicates + 1). NaN where no replicate defines the difference, 1 on the diagonal.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]


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
    metrics.check_choice("absent", absent, ("skip", "half"))
    metrics.check_choice("kind", kind, ("percentile", "basic", "bca"))
    if not scores:
        raise UserError("no model to compare; expected at least one")
    if not 0 < level < 1:
        raise UserError(f"level is {level}; expected a coverage between 0 and 1, e.g. 0.95")
    check = metrics.check_classification if metric == "auroc" else metrics.check_regression
    arrays = []
    for name, values in scores.items():
        try:
            known, checked = check(targets, values)
        except UserError as error:
            raise UserError(f"model {name}: {error}") from error
        arrays.append(checked)
    counts = draw_counts(len(known), replicates, seed, indices, groups)
    units = None if groups is None else unit_indices(groups, len(known))

    def limit(value: NDArray, samples: NDArray, models: list[NDArray]) -> NDArray:
        if kind == "percentile":
            return limits.percentile(samples, level)
        if kind == "basic":
            return limits.basic(value, samples, level)
        return limits.bca(value, samples, level, influences(known, models, metric, absent, units))

    results = [replicate_values(known, array, metric, counts, absent) for array in arrays]
    bounds = [limit(value, samples, [array]) for (value, samples), array in zip(results, arrays, strict=True)]
    values = np.stack([value for value, _ in results])
    overall = np.stack([samples[:, -1] for _, samples in results], axis=1)
    low, high = np.stack(bounds, axis=1)
    shares = [_overall_influence(known, array, metric, absent, units) for array in arrays] if kind == "bca" else []
    return Joint(
        names=tuple(scores),
        value=values[:, -1],
        low=low[:, -1],
        high=high[:, -1],
        samples=overall,
        class_value=values[:, :-1],
        class_low=low[:, :-1],
        class_high=high[:, :-1],
        differences=_differences(values[:, -1], overall, level, kind, shares),
    )


def _overall_influence(
    known: NDArray, scores: NDArray, metric: Metric, absent: Absent, units: NDArray | None
) -> NDArray | None:
    *_, overall = influences(known, [scores], metric, absent, units)
    return overall


def _differences(
    value: NDArray, samples: NDArray, level: float, kind: Kind, shares: list[NDArray | None]
) -> Differences:
    models = len(value)
    first, second = np.triu_indices(models, 1)
    difference, replicates = value[first] - value[second], samples[:, first] - samples[:, second]
    if kind == "percentile":
        bounds = limits.percentile(replicates, level)
    elif kind == "basic":
        bounds = limits.basic(difference, replicates, level)
    else:
        bounds = limits.bca(
            difference, replicates, level, [_minus(shares[i], shares[j]) for i, j in zip(first, second, strict=True)]
        )
    square = {name: np.zeros((models, models)) for name in ("value", "low", "high")}
    for name, upper, lower in (
        ("value", difference, -difference),
        ("low", bounds[0], -bounds[1]),
        ("high", bounds[1], -bounds[0]),
    ):
        square[name][first, second], square[name][second, first] = upper, lower
    p = np.ones((models, models))
    p[first, second] = p[second, first] = _two_sided(replicates)
    return Differences(**square, p=p)


def _minus(a: NDArray | None, b: NDArray | None) -> NDArray | None:
    return None if a is None or b is None else a - b


def _two_sided(replicates: NDArray) -> NDArray[np.float64]:
    defined = np.count_nonzero(~np.isnan(replicates), axis=0)
    ties = np.count_nonzero(replicates == 0, axis=0) / 2
    below = np.count_nonzero(replicates < 0, axis=0) + ties
    smaller = np.minimum(below, defined - below)
    # (k + 1) / (n + 1): a p-value of 0 would claim more than the replicates can show (Davison & Hinkley 1997, 4.11).
    p = np.minimum(1.0, 2 * (smaller + 1) / (defined + 1))
    return np.where(defined > 0, p, np.nan)
