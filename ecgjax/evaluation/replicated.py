"""A model's overall metric on the data and on every resample, its interval, and differences between such models.

Whatever was computed on the same resamples of the same records can be compared, also if it was computed elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ecgjax.evaluation.limits import Kind, interval


@dataclass(frozen=True)
class Replicated:
    """Overall metric of one model: the macro average or the pooled error.

    Attributes:
        value: on the data.
        samples: (replicates,) on the resamples, NaN where one does not define it.
        influence: (units,) influences of the resampled units on it; None unless the intervals are to be BCa, or where
            the value is not defined.
        deviation: (units,) shares of the resampled units in its deviation by DeLong's closed form, whose squares sum to
            the variance (`ecgjax.evaluation.delong`); None for other metrics than the AUROC.
    """

    value: float
    samples: NDArray[np.float64]
    influence: NDArray[np.float64] | None = None
    deviation: NDArray[np.floating] | None = None

    def limits(self, level: float, kind: Kind) -> tuple[float, float]:
        """Lower and upper limit of the interval."""
        value, samples = np.array([self.value]), self.samples[:, None]
        low, high = interval(value, samples, level, kind, [self.influence])
        return float(low[0]), float(high[0])

    def delong(self, level: float) -> tuple[float, float, float] | None:
        """Standard error by DeLong's closed form, lower and upper limit of the normal interval; None without one."""
        if self.deviation is None or np.isnan(self.value):
            return None
        se = float(np.sqrt(np.sum(self.deviation.astype(np.float64) ** 2)))
        half = float(ndtri((1 + level) / 2)) * se
        return se, self.value - half, self.value + half


@dataclass(frozen=True)
class Differences:
    """Overall metric of model i minus that of model j, at [i, j].

    Attributes:
        value: (models, models).
        low: lower limits.
        high: upper limits.
        p: two-sided bootstrap p-values: twice the smaller share of replicates on one side of 0, ties half, never below
            2 / (replicates + 1). NaN where no replicate defines the difference, 1 on the diagonal.
        delong_se: standard errors by DeLong's closed form, covariance between the models included; None unless all
            models have one.
        delong_p: two-sided p-values by it and the normal distribution; NaN for a difference without variance.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    delong_se: NDArray[np.float64] | None = None
    delong_p: NDArray[np.float64] | None = None


def mean(models: Sequence[Replicated]) -> Replicated:
    """The mean of models, such as the seeds of one cell, on the same resamples.

    Its interval holds the uncertainty from the choice of test records, not that from the seed.
    """
    return Replicated(
        float(np.mean([model.value for model in models])),
        np.mean([model.samples for model in models], axis=0),
        _mean_of_known([model.influence for model in models]),
        _mean_of_known([model.deviation for model in models]),
    )


def _mean_of_known(arrays: Sequence[NDArray | None]) -> NDArray[np.float64] | None:
    known = [array for array in arrays if array is not None]
    return np.mean(known, axis=0, dtype=np.float64) if len(known) == len(arrays) else None


def differences(models: Sequence[Replicated], level: float, kind: Kind) -> Differences:
    """All pairs of models, whose resamples must be the same.

    Args:
        models: in the order of the matrices.
        level: nominal coverage.
        kind: of the intervals.
    """
    count = len(models)
    first, second = np.triu_indices(count, 1)
    square = {name: np.zeros((count, count)) for name in ("value", "low", "high")}
    p = np.ones((count, count))
    if len(first):
        values, samples = np.array([m.value for m in models]), np.stack([m.samples for m in models], axis=1)
        value, replicates = values[first] - values[second], samples[:, first] - samples[:, second]
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        shares = [_minus(models[i], models[j]) for i, j in pairs] if kind == "bca" else []
        low, high = interval(value, replicates, level, kind, shares)
        for name, upper, lower in (("value", value, -value), ("low", low, -high), ("high", high, -low)):
            square[name][first, second], square[name][second, first] = upper, lower
        p[first, second] = p[second, first] = _two_sided(replicates)
    delong_se, delong_p = _by_delong(models)
    return Differences(**square, p=p, delong_se=delong_se, delong_p=delong_p)


def _by_delong(models: Sequence[Replicated]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    deviations = [model.deviation for model in models if model.deviation is not None]
    if len(deviations) < len(models):
        return None, None
    # Of the differences themselves: the models' variances and covariances would cancel to rounding errors.
    rows = np.array(deviations, np.float64)
    se = np.sqrt([np.sum((rows - row) ** 2, axis=1) for row in rows])
    value = np.array([model.value for model in models])
    difference = np.abs(value[:, None] - value)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(se > 0, 2 * ndtr(-difference / se), np.where(difference == 0, 1.0, np.nan))
    return se, p


def _minus(a: Replicated, b: Replicated) -> NDArray[np.float64] | None:
    return None if a.influence is None or b.influence is None else a.influence - b.influence


def _two_sided(replicates: NDArray) -> NDArray[np.float64]:
    defined = np.count_nonzero(~np.isnan(replicates), axis=0)
    ties = np.count_nonzero(replicates == 0, axis=0) / 2
    below = np.count_nonzero(replicates < 0, axis=0) + ties
    smaller = np.minimum(below, defined - below)
    # (k + 1) / (n + 1): a p-value of 0 would claim more than the replicates can show (Davison & Hinkley 1997, 4.11).
    p = np.minimum(1.0, 2 * (smaller + 1) / (defined + 1))
    return np.where(defined > 0, p, np.nan)
