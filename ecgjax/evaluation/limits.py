"""From bootstrap replicates to interval limits."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Kind = Literal["percentile", "basic", "bca"]


def interval(
    value: NDArray[np.float64],
    replicates: NDArray[np.float64],
    level: float,
    kind: Kind,
    influences: Iterable[NDArray[np.float64] | None] = (),
) -> NDArray[np.float64]:
    """Limits of the kind that is asked for.

    Args:
        value: (values,) the metric on the data itself.
        replicates: as for `percentile`.
        level: as for `percentile`.
        kind: of the interval.
        influences: as for `bca`, which alone reads them.

    Returns:
        As `percentile`.
    """
    if kind == "percentile":
        return percentile(replicates, level)
    if kind == "basic":
        return basic(value, replicates, level)
    return bca(value, replicates, level, influences)


def percentile(replicates: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Percentile interval (what the paper reports under the name of the empirical bootstrap).

    Args:
        replicates: (replicates, values), NaN where a replicate does not define a value.
        level: nominal coverage, e.g. 0.95.

    Returns:
        (2, values): lower and upper limits; NaN where no replicate is defined.
    """
    result = np.full((2, replicates.shape[1]), np.nan)
    defined = ~np.isnan(replicates).all(axis=0)
    tail = 50 * (1 - level)
    result[:, defined] = _quantiles(replicates[:, defined], [tail, 100 - tail])
    return result


def basic(value: NDArray[np.float64], replicates: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Basic interval: the percentile interval mirrored at the value. Args and Returns as for `percentile`."""
    return 2 * value - percentile(replicates, level)[::-1]


def bca(
    value: NDArray[np.float64],
    replicates: NDArray[np.float64],
    level: float,
    influences: Iterable[NDArray[np.float64] | None],
) -> NDArray[np.float64]:
    """Bias-corrected and accelerated interval (Efron 1987). Args and Returns as for `percentile`.

    Args:
        value: (values,) the metric on the data itself.
        replicates: as for `percentile`.
        level: as for `percentile`.
        influences: for each value the influences of the resampled units on it, or None where it is undefined.
    """
    result = np.full((2, replicates.shape[1]), np.nan)
    tail = (1 - level) / 2
    for i, influence in enumerate(influences):
        sample = replicates[~np.isnan(replicates[:, i]), i]
        if influence is None or not len(sample):
            continue
        # Ties count half, as a discrete statistic needs; the clip keeps the correction finite at the edge of the range.
        share = np.mean(sample < value[i]) + np.mean(sample == value[i]) / 2
        bias = ndtri(np.clip(share, 0.5 / len(sample), 1 - 0.5 / len(sample)))
        spread = np.sum(influence**2)
        acceleration = np.sum(influence**3) / (6 * spread**1.5) if spread > 0 else 0.0
        z = bias + ndtri(np.array([tail, 1 - tail]))
        result[:, i] = np.percentile(sample, 100 * ndtr(bias + z / (1 - acceleration * z)))
    return result


def _quantiles(replicates: NDArray[np.float64], percents: list[float]) -> NDArray[np.float64]:
    # numpy's nanpercentile loops over columns in Python as soon as it meets a NaN; most columns have none.
    whole = ~np.isnan(replicates).any(axis=0)
    result = np.empty((2, replicates.shape[1]))
    result[:, whole] = np.percentile(replicates[:, whole], percents, axis=0)
    result[:, ~whole] = np.nanpercentile(replicates[:, ~whole], percents, axis=0)
    return result
