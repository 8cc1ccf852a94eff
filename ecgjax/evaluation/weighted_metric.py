"""Bootstrap of any metric that is a function of weighted records."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ecgjax.errors import UserError

WeightedMetric = Callable[[Array, Array, Array], Array]
"""`metric(targets, scores, weights)`: (records, classes), (records, classes) and (records,) to a scalar or (values,).

Written in jax.numpy, so that it can be compiled; NaN where it is not defined; unchanged if all weights are scaled. A
record of weight 2 must count as two records and one of weight 0 as none. Targets may hold NaN.
"""

_CELLS_AT_ONCE = 2**22


def replicates(
    metric: WeightedMetric, targets: NDArray, scores: NDArray, counts: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values on the data and on every resample, in float64.

    Args:
        metric: see `WeightedMetric`.
        targets: (records, classes).
        scores: (records, classes).
        counts: (replicates, records) how often a replicate holds a record.

    Returns:
        (values,) and (replicates, values).

    Raises:
        UserError: the metric cannot be compiled or returns something else than numbers.
    """
    at_once = max(1, min(len(counts), _CELLS_AT_ONCE // max(targets.size, 1)))
    with jax.enable_x64(True):
        known, predicted = jnp.asarray(targets, jnp.float64), jnp.asarray(scores, jnp.float64)
        weighted = partial(_flat, metric, known, predicted)
        try:
            value = np.asarray(jax.jit(weighted)(jnp.ones(len(targets))))
            every = jax.jit(partial(jax.lax.map, lambda w: weighted(w.astype(jnp.float64)), batch_size=at_once))
            samples = np.asarray(every(jnp.asarray(counts)))
        except (TypeError, ValueError) as error:
            raise UserError(f"metric {name_of(metric)}: {' '.join(str(error).split())[:300]}") from error
    return value, samples


def influences(metric: WeightedMetric, targets: NDArray, scores: NDArray) -> NDArray[np.float64]:
    """(values, records) derivatives by each record's weight: the infinitesimal jackknife (Efron 1982, chapter 6)."""
    with jax.enable_x64(True):
        weighted = partial(_flat, metric, jnp.asarray(targets, jnp.float64), jnp.asarray(scores, jnp.float64))
        return np.asarray(jax.jit(jax.jacrev(weighted))(jnp.ones(len(targets))))


def name_of(metric: WeightedMetric) -> str:
    """What results call it."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def _flat(metric: WeightedMetric, targets: Array, scores: Array, weights: Array) -> Array:
    values = jnp.asarray(metric(targets, scores, weights))
    if values.ndim > 1 or not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"it returned {values.dtype} of shape {values.shape}; expected a float scalar or (values,)")
    return values.reshape(-1)
