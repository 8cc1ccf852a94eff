"""Linear probes: logistic regression on fixed features, fitted to the optimum, penalty chosen on validation records."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ecgjax.evaluation.metrics import macro_auroc

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for the L2 penalty on standardised features, per record."""

_STEPS = 200
_ENOUGH = 1e-5  # gradient norm


def probe(
    train: tuple[ArrayLike, ArrayLike],
    validation: tuple[ArrayLike, ArrayLike],
    test: ArrayLike,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[NDArray[np.float32], float]:
    """Fits one probe per penalty on the training records and keeps the one with the best validation macro AUROC.

    Args:
        train: (records, channels) features and (records, classes) targets of 0, 1 or NaN.
        validation: the same of other records.
        test: (records, channels) features.
        penalties: to choose from.

    Returns:
        (records, classes) logits of the test records, and the chosen penalty.
    """
    features = np.asarray(train[0], np.float32)
    mean, sd = features.mean(axis=0), features.std(axis=0)
    scale = 1 / np.where(sd > 0, sd, 1)

    def standard(x: ArrayLike) -> Array:
        return jnp.asarray((np.asarray(x, np.float32) - mean) * scale)

    x, y = standard(features), jnp.asarray(train[1], jnp.float32)
    fitted = [fit(x, y, penalty) for penalty in penalties]
    held_out, targets = standard(validation[0]), np.asarray(validation[1])
    scores = [macro_auroc(targets, np.asarray(_logits(weights, held_out))) for weights in fitted]
    best = int(np.nanargmax(scores)) if not np.isnan(scores).all() else len(penalties) - 1
    return np.asarray(_logits(fitted[best], standard(test))), penalties[best]


@jax.jit
def fit(x: Array, y: Array, penalty: float) -> tuple[Array, Array]:
    """Weights (channels, classes) and biases (classes,) of least mean cross-entropy plus penalty/2 |weights|^2.

    L-BFGS from zero; the problem is convex, so there is one answer. Unknown targets (NaN) are left out.

    Args:
        x: (records, channels), standardised.
        y: (records, classes).
        penalty: of the squared weights.
    """
    known = ~jnp.isnan(y)
    target, count = jnp.nan_to_num(y), jnp.maximum(known.sum(axis=0), 1)

    def loss(weights: tuple[Array, Array]) -> Array:
        entropy = optax.sigmoid_binary_cross_entropy(_logits(weights, x), target)
        return (jnp.where(known, entropy, 0).sum(axis=0) / count).sum() + penalty / 2 * (weights[0] ** 2).sum()

    optimiser = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple) -> tuple:
        weights, state, n, _ = carry
        value, gradient = value_and_grad(weights, state=state)
        updates, state = optimiser.update(gradient, state, weights, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(weights, updates), state, n + 1, optax.tree.norm(gradient)

    start = (jnp.zeros((x.shape[1], y.shape[1])), jnp.zeros(y.shape[1]))
    go_on = partial(_unfinished, most=_STEPS)
    return jax.lax.while_loop(go_on, step, (start, optimiser.init(start), 0, jnp.inf))[0]


def _unfinished(carry: tuple, most: int) -> Array:
    return (carry[2] < most) & (carry[3] > _ENOUGH)


def _logits(weights: tuple[Array, Array], x: Array) -> Array:
    return jnp.dot(x, weights[0], precision=jax.lax.Precision.HIGHEST) + weights[1][None]
