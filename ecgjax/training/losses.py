"""Losses over batches with unknown (NaN) targets.

Difference from the benchmark's reference code: a batch without any known target gives a loss of 0 and zero gradients,
where the reference raises on an empty stack.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ecgjax.errors import UserError


def bce(logits: Array, targets: Array) -> Array:
    """Binary cross-entropy with logits, one mean over all known entries (single-dataset tasks, protocol 3.3).

    Args:
        logits: (batch, classes); see `finite` for NaN and infinite ones.
        targets: (batch, classes) of 0, 1 or NaN (not counted).

    Returns:
        Scalar float32.
    """
    _check(logits, targets)
    values, known = _cross_entropies(finite(logits), targets)
    return values.sum() / jnp.maximum(known.sum(), 1)


def multitask(logits: Array, targets: Array, n_regression: int) -> Array:
    """Joint classification and regression loss (protocol 3.3), equal weights.

    Mean over the classification columns with a label in the batch of their mean cross-entropies, plus the mean over the
    regression columns with a label of their mean absolute errors.

    Args:
        logits: (batch, columns); see `finite` for NaN and infinite ones.
        targets: (batch, columns), NaN where unknown; classification columns first.
        n_regression: how many of the last columns are regression targets.

    Returns:
        Scalar float32. The gradient of an absolute error of exactly 0 is 0.

    Raises:
        UserError: shapes differ, or `n_regression` is not within the columns.
    """
    _check(logits, targets)
    columns = logits.shape[1]
    if not 0 <= n_regression <= columns:
        raise UserError(f"n_regression is {n_regression}; expected 0 to {columns}, the number of columns")
    split = columns - n_regression
    logits = finite(logits)
    classification = _cross_entropies(logits[:, :split], targets[:, :split])
    regression = _absolute_errors(logits[:, split:], targets[:, split:])
    return _mean_of_columns(*classification) + _mean_of_columns(*regression)


def finite(logits: Array) -> Array:
    """A model's output as the benchmark reads it: float32, NaN -> 0, infinities -> the largest finite number."""
    return jnp.nan_to_num(logits.astype(jnp.float32))


def _cross_entropies(logits: Array, targets: Array) -> tuple[Array, Array]:
    known = ~jnp.isnan(targets)
    # Unknown targets are replaced before the arithmetic: masking afterwards would leave NaN in the gradient.
    targets = jnp.where(known, targets, 0).astype(jnp.float32)
    return jnp.where(known, jax.nn.softplus(logits) - logits * targets, 0), known


def _absolute_errors(predictions: Array, targets: Array) -> tuple[Array, Array]:
    known = ~jnp.isnan(targets)
    errors = jnp.where(known, predictions - jnp.where(known, targets, 0).astype(jnp.float32), 0)
    # |error|, with the sign as its gradient: that of jnp.abs at 0 is 1, the benchmark's is 0.
    return errors * jax.lax.stop_gradient(jnp.sign(errors)), known


def _mean_of_columns(values: Array, known: Array) -> Array:
    counts = known.sum(axis=0)
    means = values.sum(axis=0) / jnp.maximum(counts, 1)
    return means.sum() / jnp.maximum((counts > 0).sum(), 1)


def _check(logits: Array, targets: Array) -> None:
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise UserError(
            f"logits have shape {logits.shape} and targets {targets.shape}; expected the same (batch, columns)"
        )
