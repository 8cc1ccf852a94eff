"""A model's overall metric on the data and on every resample, its interval, and differences between such models.

Whatever was computed on the same resamples of the same records can be compared, also if it was computed elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgjax.evaluation.limits import Kind, interval


@dataclass(frozen=True)
class Replicated:
    """Overall metric of one model: the macro average or the pooled error.

    Attributes:
        value: on the data.
        samples: (replicates,) on the resamples, NaN where one does not define it.
        influence: (units,) influences of the resampled units on it; None unless the intervals are to be BCa, or where
            the value is not defined.
    """

    value: float
    samples: NDArray[np.float64]
    influence: NDArray[np.float64] | None = None

    def limits(self, level: float, kind: Kind) -> tuple[float, float]:
        """Lower and upper limit of the interval."""
        value, samples = np.array([self.value]), self.samples[:, None]
        low, high = interval(value, samples, level, kind, [self.influence])
        return float(low[0]), float(high[0])


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


def mean(models: Sequence[Replicated]) -> Replicated:
    """The mean of models, such as the seeds of one cell, on the same resamples.

    Its interval holds the uncertainty from the choice of test records, not that from the seed.
    """
    influences = [model.influence for model in models]
    known = [influence for influence in influences if influence is not None]
    return Replicated(
        float(np.mean([model.value for model in models])),
        np.mean([model.samples for model in models], axis=0),
        np.mean(known, axis=0) if len(known) == len(models) else None,
    )


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
    return Differences(**square, p=p)


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
