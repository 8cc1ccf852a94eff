"""Bootstrap intervals of AUROC and mean absolute error, and of differences between two models on the same resamples.

Differences from the benchmark's reference code: a class that a replicate does not define is left out of that
replicate's macro average (`absent="half"` counts it 0.5 as the reference does, which biases intervals of rare labels
downwards), and a class keeps its interval when some replicates do not define it. Given the reference's resample indices
and `absent="half"`, the macro limits are the reference's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import influence, limits, metrics, weighted_metric
from ecgjax.evaluation.limits import Kind
from ecgjax.evaluation.metrics import Absent
from ecgjax.evaluation.resamples import Resamples, draw_counts, unit_indices
from ecgjax.evaluation.weighted_auroc import replicate_aurocs
from ecgjax.evaluation.weighted_metric import WeightedMetric

Metric = Literal["auroc", "mae"]


@dataclass(frozen=True)
class Intervals:
    """Point values with their limits, and how they were made.

    Attributes:
        value: (classes,) metric on the data itself, NaN where undefined.
        low: (classes,) lower limits, NaN only where no replicate is defined.
        high: (classes,) upper limits.
        macro_value: macro average of the AUROCs, or the pooled mean absolute error.
        macro_low: its lower limit.
        macro_high: its upper limit.
        undefined_replicates: (classes,) how many replicates do not define the class.
        metric: "auroc", "mae" or the name of your own.
        kind: "percentile", "basic" or "bca".
        absent: rule for undefined classes in the macro average (no effect on "mae").
        level: nominal coverage.
        replicates: number of replicates.
        unit: what was resampled, "record" or "group".
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    macro_value: float
    macro_low: float
    macro_high: float
    undefined_replicates: NDArray[np.intp]
    metric: str
    kind: Kind
    absent: Absent
    level: float
    replicates: int
    unit: str


def intervals(
    targets: ArrayLike,
    scores: ArrayLike,
    metric: Metric | WeightedMetric = "auroc",
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    indices: ArrayLike | None = None,
    absent: Absent = "skip",
    kind: Kind = "percentile",
    groups: ArrayLike | None = None,
) -> Intervals:
    """Values of a metric with bootstrap intervals.

    Args:
        targets: (records, classes); 0, 1 or NaN for "auroc", numbers or NaN for "mae". NaN is unknown.
        scores: (records, classes).
        metric: "auroc" (macro average beside the classes), "mae" (pooled over all entries beside the targets), or any
            function of weighted records (see `ecgjax.evaluation.weighted_metric.WeightedMetric`; its values, and their
            average by the rule `absent`).
        replicates: number of resamples; each draws as many records as there are.
        level: nominal coverage of the intervals.
        seed: of the resampling; one seed and number of records gives the same resamples for every model.
        indices: (replicates, records) resamples to use instead of drawing; `replicates` and `seed` then mean nothing.
            With `groups`, positions among the sorted distinct groups.
        absent: undefined classes in a macro average: "skip", or "half" to count them 0.5.
        kind: "percentile", "basic" or "bca".
        groups: (records,) labels of groups to resample whole, e.g. patients.

    Returns:
        `Intervals`.

    Raises:
        UserError: shapes or values that do not fit, or an unknown option.
    """
    return _bootstrap(targets, [scores], metric, replicates, level, seed, indices, absent, kind, groups)


def differences(
    targets: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    metric: Metric | WeightedMetric = "auroc",
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    indices: ArrayLike | None = None,
    absent: Absent = "skip",
    kind: Kind = "percentile",
    groups: ArrayLike | None = None,
) -> Intervals:
    """The same for the difference a - b of two models' scores for the same records, resampled together.

    The models differ significantly at 1 - `level` where an interval excludes 0.

    Args:
        targets: as for `intervals`.
        scores_a: (records, classes) of the first model.
        scores_b: (records, classes) of the second, records in the same order.
        metric: as for `intervals`, like all that follow.
        replicates: as for `intervals`.
        level: as for `intervals`.
        seed: as for `intervals`.
        indices: as for `intervals`.
        absent: as for `intervals`.
        kind: as for `intervals`.
        groups: as for `intervals`.

    Returns:
        `Intervals` of the differences.
    """
    return _bootstrap(targets, [scores_a, scores_b], metric, replicates, level, seed, indices, absent, kind, groups)


def _bootstrap(
    targets: ArrayLike,
    models: list[ArrayLike],
    metric: Metric | WeightedMetric,
    replicates: int,
    level: float,
    seed: int,
    indices: ArrayLike | None,
    absent: Absent,
    kind: Kind,
    groups: ArrayLike | None,
) -> Intervals:
    if not callable(metric):
        metrics.check_choice("metric", metric, ("auroc", "mae"))
    check_options(absent, kind, level)
    check = metrics.check_regression if metric == "mae" or callable(metric) else metrics.check_classification
    pairs = [check(targets, scores) for scores in models]
    known = pairs[0][0]
    resamples = Resamples(draw_counts(len(known), replicates, seed, indices, groups))
    # The classes, then their macro average (or the pooled error) as the last column.
    columns = [replicate_values(known, scores, metric, resamples, absent) for _, scores in pairs]
    value, samples = columns[0] if len(columns) == 1 else tuple(a - b for a, b in zip(*columns, strict=True))
    units = None if groups is None else unit_indices(groups, len(known))
    shares = influences(known, [s for _, s in pairs], metric, absent, units)  # computed as they are read: for BCa only
    low, high = limits.interval(value, samples, level, kind, shares)
    return Intervals(
        *(value[:-1], low[:-1], high[:-1]),
        *(float(value[-1]), float(low[-1]), float(high[-1])),
        undefined_replicates=np.isnan(samples[:, :-1]).sum(axis=0),
        metric=weighted_metric.name_of(metric) if callable(metric) else metric,
        kind=kind,
        absent=absent,
        level=level,
        replicates=len(resamples.counts),
        unit="record" if groups is None else "group",
    )


def check_options(absent: Absent, kind: Kind, level: float) -> None:
    """Raises a `UserError` unless they are as for `intervals`."""
    metrics.check_choice("absent", absent, ("skip", "half"))
    metrics.check_choice("kind", kind, ("percentile", "basic", "bca"))
    if not 0 < level < 1:
        raise UserError(f"level is {level}; expected a coverage between 0 and 1, e.g. 0.95")


def replicate_values(
    targets: NDArray, scores: NDArray, metric: Metric | WeightedMetric, resamples: Resamples, absent: Absent
) -> tuple[NDArray, NDArray]:
    """One model's values on the data and on every resample.

    Args:
        targets: (records, classes), checked.
        scores: (records, classes), checked.
        metric: "auroc" or "mae".
        resamples: of the records.
        absent: as for `intervals`.

    Returns:
        (classes + 1,) values and (replicates, classes + 1) replicates; the last column is the macro average or the
        pooled error.
    """
    if callable(metric):
        value, samples = weighted_metric.replicates(metric, targets, scores, resamples.counts)
        macro, macro_samples = metrics.macro_average(value, absent), metrics.macro_average(samples, absent)
    elif metric == "auroc":
        every = replicate_aurocs(targets, scores, resamples.weights)
        value, samples = every[0], every[1:]
        macro, macro_samples = metrics.macro_average(value, absent), metrics.macro_average(samples, absent)
    else:
        value, macro = metrics.mae(targets, scores), metrics.mae(targets, scores, pooled=True)
        samples, macro_samples = _replicate_errors(targets, scores, resamples.counts)
    return np.append(value, macro), np.column_stack([samples, macro_samples])


def _replicate_errors(targets: NDArray, predictions: NDArray, counts: NDArray) -> tuple[NDArray, NDArray]:
    """Per target and pooled. Two matrix products; on the host, where float64 is at hand and the columns are few."""
    known = ~np.isnan(targets)
    errors = np.where(known, np.abs(predictions.astype(np.float64) - targets), 0.0)
    sums, totals = np.empty((2, len(counts), targets.shape[1]))
    for start in range(0, len(counts), 64):
        weights = counts[start : start + 64].astype(np.float64)
        sums[start : start + 64] = weights @ errors
        totals[start : start + 64] = weights @ known
    with np.errstate(invalid="ignore"):  # 0 / 0: a replicate without a known value
        return sums / totals, sums.sum(axis=1) / totals.sum(axis=1)


def _counted(influences: NDArray, absent: Absent) -> int:
    return len(influences) if absent == "half" else int(np.count_nonzero(~np.isnan(influences).any(axis=1)))


def influences(
    targets: NDArray,
    models: list[NDArray],
    metric: Metric | WeightedMetric,
    absent: Absent,
    units: NDArray[np.intp] | None,
) -> Iterable[NDArray | None]:
    """Influences of the resampled units on each class, then on the macro average; of a difference, their difference.

    Args:
        targets: (records, classes), checked.
        models: one model's scores, or two for their difference.
        metric: "auroc" or "mae".
        absent: as for `intervals`.
        units: (records,) numbers of the resampled groups; None resamples records.
    """

    def of_units(parts: Iterable[NDArray | None]) -> NDArray | None:
        known = [part for part in parts if part is not None]
        if not known:
            return None
        total = known[0] if len(known) == 1 else known[0] - known[1]
        return total if units is None else np.bincount(units, total)

    if callable(metric):
        every = [weighted_metric.influences(metric, targets, scores) for scores in models]
        for parts in zip(*every, strict=True):
            yield of_units(None if np.isnan(part).any() else part for part in parts)
        # The average over the defined values, or over all.
        yield of_units(np.nan_to_num(part).sum(0) / max(1, _counted(part, absent)) for part in every)
        return
    by_class = influence.auroc_influences if metric == "auroc" else influence.mae_influences
    for parts in zip(*(by_class(targets, scores) for scores in models), strict=True):
        yield of_units(parts)
    yield of_units(
        influence.macro_auroc_influence(targets, s, absent)
        if metric == "auroc"
        else influence.pooled_mae_influence(targets, s)
        for s in models
    )
