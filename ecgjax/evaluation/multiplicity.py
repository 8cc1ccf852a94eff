"""Adjustment of p-values for the number of comparisons."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment (1979): controls the chance of any false finding, whatever the dependence.

    Args:
        p: p-values of one family of comparisons, any shape; NaN counts as no comparison.

    Returns:
        Adjusted p-values of the same shape.

    Raises:
        UserError: a value outside [0, 1].
    """
    values = np.asarray(p, np.float64)
    flat = values.ravel()
    known = ~np.isnan(flat)
    if ((flat[known] < 0) | (flat[known] > 1)).any():
        raise UserError("p-values outside [0, 1]; expected probabilities")
    order = np.flatnonzero(known)[np.argsort(flat[known], kind="stable")]
    adjusted = np.full(len(flat), np.nan)
    steps = flat[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.reshape(values.shape)


def holm_pairs(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """`holm` over the pairs of a symmetric matrix; the diagonal stays."""
    first, second = np.triu_indices(len(p), 1)
    adjusted = p.copy()
    adjusted[first, second] = adjusted[second, first] = holm(p[first, second])
    return adjusted
