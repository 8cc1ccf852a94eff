"""k-means of many features on the device: seeding, Lloyd's iterations, mini-batches, assignment.

Targets of masked prediction are cluster numbers (Hsu et al. 2021, arXiv:2106.07447). Greedy k-means++ after Arthur and
Vassilvitskii 2007, mini-batches after Sculley 2010; convergence, empty clusters and reassignment are scikit-learn's, so
that both give the same clusters from the same start. HuBERT-ECG's features are rows of length 1, for the fit and (other
than in its code, where it is forgotten) for the assignment: `cosine.unit` first.

Memory beyond the features is a few numbers per row and `block` x clusters: features are neither copied nor padded. They
lie on one device.

Shapes: N rows, D features, K clusters. float32 at least.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError

BLOCK = 4096


class Clusters(NamedTuple):
    """What `fit` and `lloyd` return.

    Attributes:
        centres: (K, D).
        inertia: sum over rows of the squared distance to the nearest centre.
        iterations: made, int32.
    """

    centres: jax.Array
    inertia: jax.Array
    iterations: jax.Array


def fit(
    key: jax.Array, x_ND: jax.Array, clusters: int, iterations: int = 300, tolerance: float = 1e-4, block: int = BLOCK
) -> Clusters:
    """Seeds and iterates; arguments as for `seed` and `lloyd`."""
    return lloyd(x_ND, seed(key, x_ND, clusters), iterations, tolerance, block)


@partial(jax.jit, static_argnames=("clusters", "trials"))
def seed(key: jax.Array, x_ND: jax.Array, clusters: int, trials: int | None = None) -> jax.Array:
    """Greedy k-means++: rows as first centres.

    The first is any row. Each further one is the best of `trials` rows that are drawn with probabilities proportional
    to the squared distance to the nearest centre so far: the one that leaves the least sum of these.

    Args:
        key: PRNG key.
        x_ND: features.
        clusters: K.
        trials: None: 2 + int(log K) as scikit-learn.

    Returns:
        (K, D); with fewer distinct rows than clusters some are equal.

    Raises:
        UserError: fewer rows than clusters.
    """
    x, rows = _wide(x_ND), len(x_ND)
    _check(clusters, rows)
    trials = 2 + int(math.log(clusters)) if trials is None else trials
    first_key, key = jax.random.split(key)
    first = x[jax.random.randint(first_key, (), 0, rows)]

    def add(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centres, nearest = state
        cumulative = jnp.cumsum(nearest)
        drawn = jax.random.uniform(jax.random.fold_in(key, i), (trials,)) * cumulative[-1]
        candidates = x[jnp.minimum(jnp.searchsorted(cumulative, drawn, side="right"), rows - 1)]
        left = jax.lax.map(lambda c: jnp.sum(jnp.minimum(nearest, _squared(x, c))), candidates)
        chosen = candidates[jnp.argmin(left)]
        return centres.at[i].set(chosen), jnp.minimum(nearest, _squared(x, chosen))

    centres = jnp.zeros((clusters, x.shape[1]), x.dtype).at[0].set(first)
    return jax.lax.fori_loop(1, clusters, add, (centres, _squared(x, first)))[0]


@partial(jax.jit, static_argnames="block")
def lloyd(
    x_ND: jax.Array, centres_KD: jax.Array, iterations: int = 300, tolerance: float = 1e-4, block: int = BLOCK
) -> Clusters:
    """Moves each centre to the mean of its rows until they stay.

    Args:
        x_ND: features.
        centres_KD: where to start, e.g. from `seed`.
        iterations: at most.
        tolerance: ends when the squared moves of all centres sum up to this share of the features' mean variance.
        block: rows whose distances are in memory at a time.

    A cluster without rows is given one: the row farthest from its centre, the second farthest for the second such
    cluster, and so on, which leave their own clusters. If all rows lie on centres, it stays where it was.

    Raises:
        UserError: fewer rows than clusters.
    """
    x, centres = _wide(x_ND), _wide(centres_KD)
    _check(len(centres), len(x))
    limit = tolerance * jnp.mean(jnp.var(x, 0))

    def going(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, moved, made = state
        return (made < iterations) & (moved > limit)

    def move(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        centres, _, made = state
        labels, distances, sums, counts = _pass(x, centres, block)
        new = _means(centres, *_fill_empty(x, centres, labels, distances, sums, counts))
        return new, jnp.sum(jnp.square(new - centres)), made + 1

    state = (centres, jnp.array(jnp.inf, x.dtype), jnp.int32(0))
    centres, _, made = jax.lax.while_loop(going, move, state)
    return Clusters(centres, jnp.sum(_pass(x, centres, block)[1]), made)


@partial(jax.jit, static_argnames="block")
def assign(x_ND: jax.Array, centres_KD: jax.Array, block: int = BLOCK) -> tuple[jax.Array, jax.Array]:
    """The nearest centre of each row (the first of several), (N,) int32, and the squared distance to it, (N,)."""
    labels, distances, _, _ = _pass(_wide(x_ND), _wide(centres_KD), block)
    return labels, distances


class MiniBatch(NamedTuple):
    """The state of mini-batch k-means.

    Attributes:
        centres: (K, D), each the mean of all rows it was ever given.
        counts: (K,) int32, how many these are.
    """

    centres: jax.Array
    counts: jax.Array


def start(centres_KD: jax.Array) -> MiniBatch:
    """The state before the first batch, from centres such as `seed` finds in that batch."""
    return MiniBatch(_wide(centres_KD), jnp.zeros(len(centres_KD), jnp.int32))


@partial(jax.jit, static_argnames="block")
def update(state: MiniBatch, x_ND: jax.Array, block: int = BLOCK) -> MiniBatch:
    """The state after a further batch: each centre becomes the mean of its former rows and its rows of the batch."""
    _, _, sums, counts = _pass(_wide(x_ND), state.centres, block)
    total = state.counts + counts.astype(jnp.int32)
    share = (counts / jnp.maximum(total, 1))[:, None]
    return MiniBatch(state.centres + share * (_means(state.centres, sums, counts) - state.centres), total)


@jax.jit
def reassign(key: jax.Array, state: MiniBatch, x_ND: jax.Array, ratio: float = 0.01) -> MiniBatch:
    """Moves centres with few rows to random rows of a batch; for now and then between updates.

    Args:
        key: PRNG key.
        state: the state.
        x_ND: the batch; at most half of its rows become centres, for the clusters with the lowest counts.
        ratio: a cluster has few rows if it has less than this share of the largest one's.

    Returns:
        The state, in which a moved centre counts as many rows as the smallest cluster that was not moved.
    """
    centres, counts = state
    rows = len(x_ND)
    rank = jnp.argsort(jnp.argsort(counts))
    few = (counts < ratio * jnp.max(counts)) & (rank < rows // 2)
    drawn = _wide(x_ND)[jax.random.permutation(key, rows)[jnp.minimum(rank, rows - 1)]]
    least = jnp.min(jnp.where(few, jnp.max(counts), counts))
    return MiniBatch(jnp.where(few[:, None], drawn, centres), jnp.where(few, least, counts))


def _check(clusters: int, rows: int) -> None:
    if not 0 < clusters <= rows:
        raise UserError(f"{clusters} clusters of {rows} rows of features; expected at least as many rows as clusters")


def _wide(x: jax.Array) -> jax.Array:
    return jnp.asarray(x).astype(jnp.promote_types(x.dtype, jnp.float32))


def _squared(x: jax.Array, centre: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x - centre[None]), -1)


def _pass(x: jax.Array, centres: jax.Array, block: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Labels and squared distances (N,), sums about the origin (K, D) and counts (K,) of the rows of each centre."""
    rows, block, origin = len(x), min(block, len(x)), _origin(centres)
    moved = centres - origin
    half = jnp.sum(moved * moved, -1) / 2

    def one(i: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        labels, distances, sums, counts = state
        # The last block reaches back instead of beyond the end; rows that were seen before do not count again.
        first = jnp.minimum(i * block, rows - block)
        seen = first + jnp.arange(block) < i * block
        part = jax.lax.dynamic_slice_in_dim(x, first, block)
        near = jnp.argmin(half[None] - _dot(part - origin, moved.T), -1).astype(jnp.int32)
        member = jax.nn.one_hot(jnp.where(seen, -1, near), len(centres), dtype=x.dtype)
        distance = jnp.sum(jnp.square(part - centres[near]), -1)
        return (
            jax.lax.dynamic_update_slice_in_dim(labels, near, first, 0),
            jax.lax.dynamic_update_slice_in_dim(distances, distance, first, 0),
            sums + _dot(member.T, part - origin),
            counts + jnp.sum(member, 0),
        )

    state = (jnp.zeros(rows, jnp.int32), jnp.zeros(rows, x.dtype), jnp.zeros_like(centres), jnp.zeros_like(half))
    labels, distances, sums, counts = jax.lax.fori_loop(0, -(-rows // block), one, state)
    return labels, distances, sums, counts


def _fill_empty(
    x: jax.Array, centres: jax.Array, labels: jax.Array, distances: jax.Array, sums: jax.Array, counts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sums and counts after each empty cluster was given the farthest row that none before it got."""
    empty = counts == 0
    far = jax.lax.top_k(distances, len(centres))[1][jnp.maximum(jnp.cumsum(empty) - 1, 0)]
    given = (empty & (distances[far] > 0)).astype(x.dtype)
    moved = given[:, None] * (x[far] - _origin(centres))
    sums = (sums + moved).at[labels[far]].add(-moved)
    return sums, (counts + given).at[labels[far]].add(-given)


def _means(centres: jax.Array, sums: jax.Array, counts: jax.Array) -> jax.Array:
    return jnp.where(counts[:, None] > 0, _origin(centres) + sums / jnp.maximum(counts, 1)[:, None], centres)


def _origin(centres: jax.Array) -> jax.Array:
    """(1, D), what products and sums are taken about: those of large means would lose digits."""
    return jnp.mean(centres, 0, keepdims=True)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
