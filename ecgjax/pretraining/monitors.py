"""Whether features collapse: their spread and how many dimensions they use, over as many batches as wanted.

The covariance is summed up on the device, batch by batch (Chan, Golub and LeVeque 1983), and looked at when a line is
logged. Effective rank: Roy and Vetterli 2007, as RankMe (Garrido et al. 2023, arXiv:2210.02885) but of centred
features, in which a constant offset does not count as a dimension.

Shapes: B records, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Moments(NamedTuple):
    """Sums over records, part of a jitted program's state.

    Attributes:
        records: how many.
        mean: (D,).
        scatter: (D, D), sum of outer products of centred features.
    """

    records: jax.Array
    mean: jax.Array
    scatter: jax.Array


class Spread(NamedTuple):
    """What is logged; scalars. NaN with fewer than two records. Constant features have rank and ratio 0.

    Attributes:
        std_mean: mean over features of the standard deviation (divisor n).
        std_least: the least of them; 0: a dead feature.
        effective_rank: exp of the entropy of the singular values of the centred features, normalised to sum 1: from 1
            to D. Values below sqrt(D x 1.2e-7) of the largest (1 % at 768 features) are float32 noise and left out.
        participation_ratio: (trace C)^2 / trace(C^2) of the covariance C, from 1 to D; large directions dominate it.
    """

    std_mean: jax.Array
    std_least: jax.Array
    effective_rank: jax.Array
    participation_ratio: jax.Array


def empty(features: int) -> Moments:
    """Nothing seen yet."""
    return Moments(jnp.zeros(()), jnp.zeros(features), jnp.zeros((features, features)))


def add(moments: Moments, x_BD: jax.Array, valid_B: jax.Array | None = None) -> Moments:
    """With a further batch.

    Args:
        moments: of what came before.
        x_BD: pooled features; no gradient reaches them.
        valid_B: records that count; None: all.
    """
    x = jax.lax.stop_gradient(x_BD).astype(jnp.float32)
    weight = jnp.ones(len(x)) if valid_B is None else jnp.asarray(valid_B, jnp.float32)
    x = jnp.where(weight[:, None] > 0, x, 0.0)
    count = jnp.sum(weight)
    mean = jnp.zeros(x.shape[1])
    for _ in range(2):  # the second time takes off what the first sum was rounded by
        centred = weight[:, None] * (x - mean[None])
        mean = mean + jnp.sum(centred, 0) / jnp.maximum(count, 1)
    centred = weight[:, None] * (x - mean[None])
    return merge(moments, Moments(count, mean, jnp.dot(centred.T, centred, precision=jax.lax.Precision.HIGHEST)))


def merge(first: Moments, second: Moments) -> Moments:
    """The moments of both, e.g. of two hosts."""
    count = first.records + second.records
    share, between = second.records / jnp.maximum(count, 1), second.mean - first.mean
    scatter = first.scatter + second.scatter + first.records * share * jnp.outer(between, between)
    return Moments(count, first.mean + share * between, scatter)


@jax.jit
def spread(moments: Moments) -> Spread:
    """The figures of all records so far; an eigendecomposition of D x D numbers, so not for every step."""
    known = moments.records >= 2
    covariance = moments.scatter / jnp.maximum(moments.records, 1)
    std = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    eigenvalues = jnp.linalg.eigvalsh(covariance)
    # Rounding of sums about the mean makes directions of its own, relative to the largest one and to the mean.
    epsilon = jnp.finfo(covariance.dtype).eps
    rounding = jnp.square(2 * epsilon * jnp.max(jnp.abs(moments.mean)))
    kept = eigenvalues > len(std) * jnp.maximum(epsilon * eigenvalues[-1], rounding)
    eigenvalues = jnp.where(kept, eigenvalues, 0)
    total, some = jnp.sum(eigenvalues), jnp.any(kept)
    participation = total**2 / jnp.where(some, jnp.sum(eigenvalues**2), 1)
    singular = jnp.sqrt(eigenvalues)
    probability = singular / jnp.where(some, jnp.sum(singular), 1)
    entropy = -jnp.sum(jax.scipy.special.xlogy(probability, probability))
    values = (jnp.mean(std), jnp.min(std), jnp.where(some, jnp.exp(entropy), 0.0), participation)
    return Spread(*(jnp.where(known, value, jnp.nan) for value in values))
