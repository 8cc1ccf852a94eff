"""Exact areas under the ROC curve of many reweighted copies of one (targets, scores) table, as jitted programs.

A bootstrap replicate is a vector of integer weights over the records. All forms give the same integers; the smaller
side is the positives or the negatives, whichever are fewer.

- By segments: a class is sorted once; the smaller side's records cut the sorted other side into segments, the segments'
  weights are summed and accumulated, and each record of the smaller side looks up how much weight lies below it and how
  much not above it. Work grows with records x replicates.
- By comparison: a matrix over (smaller side x records) holds 0, 1 or 2 where a record of the larger side lies above,
  level with or below; its product with the weights is how much weight lies below. Work also grows with the smaller
  side, but it is a matrix product: cheaper for rare classes, and on accelerators for most.

- On CPUs the sums by segments are scipy's, below 2^16 records: see `ecgjax.evaluation.host_auroc`.

Numerator and denominator are integers; the only rounding is the final float64 division. Replicates are spread over the
local devices.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import host_auroc
from ecgjax.evaluation.host_auroc import OneClass, Sums

Form = Literal["segments", "comparison", "host"]

MAX_RECORDS = 2**19
"""Above this, a sum of `_LOW_BITS` remainders could leave int32."""

_LOW_BITS = 12
_CELLS_PER_BLOCK = 2**20  # (records x replicates) of one call: temporaries that stay near the caches
_MOST_COMPARED = {"cpu": 16, "gpu": 4096, "tpu": 8192}
"""Size of the smaller side up to which comparing is cheaper. CPU: benchmarks/bootstrap.py; others: by operation counts
(a product of k x records x replicates against scattered sums), not measured."""

_COMPARED_AT_ONCE = 256
_PADDING_STEP = 4  # classes whose smaller sides are within this factor share one compiled program


class _SortedClass(NamedTuple):
    """One class, padded to a common length by records of weight 0."""

    order: NDArray[np.int32]  # (common,) records of the larger side by ascending score
    segment: NDArray[np.int32]  # (common,) segment of each, ascending
    rare: NDArray[np.int32]  # (rare,) records of the smaller side
    low: NDArray[np.int32]  # (rare,) accumulated segment that holds the weight strictly below each
    high: NDArray[np.int32]  # (rare,) the same for the weight not above


class _ComparedClass(NamedTuple):
    """One class by comparison; the smaller side is padded with records of weight 0."""

    level: NDArray[np.int32]  # (records + 1,) place of each record of the larger side; above all where of no part
    rare: NDArray[np.int32]  # (chunks, rare) records of the smaller side
    rare_level: NDArray[np.int32]  # (chunks, rare) their places


class Weights(NamedTuple):
    """Replicates as the programs read them, made once for all models.

    Attributes:
        replicates: number of them.
        records: of each.
        form: see `lay_out`.
        blocks: on the host or on devices.
    """

    replicates: int
    records: int
    form: Form | None
    blocks: list[Any]


def lay_out(counts: NDArray, form: Form | None = None) -> Weights:
    """Weights in the layout that the programs read.

    Args:
        counts: (replicates, records) non-negative integers: how often a replicate holds a record.
        form: which is used; None chooses, on accelerators for each class. All give the same numbers.

    Raises:
        UserError: more than `MAX_RECORDS` records.
    """
    replicates, records = counts.shape
    if records > MAX_RECORDS:
        raise UserError(f"bootstrap of {records} records; expected at most {MAX_RECORDS}")
    wanted = form == "host" or (form is None and jax.default_backend() == "cpu")
    if wanted and host_auroc.fits(counts):
        return Weights(replicates, records, "host", host_auroc.weight_blocks(counts))
    return Weights(replicates, records, None if form == "host" else form, _weight_blocks(counts))


def replicate_aurocs(targets: NDArray, scores: NDArray, weights: Weights) -> NDArray[np.float64]:
    """AUROC of each class under each replicate's weights; ties count half, unknown targets nothing.

    Args:
        targets: (records, classes) of 0, 1 or NaN.
        scores: (records, classes), no NaN.
        weights: from `lay_out`.

    Returns:
        (replicates, classes) float64; NaN where a replicate has no positive or no negative of a class.
    """
    result = np.full((weights.replicates, targets.shape[1]), np.nan)

    def fill(columns: range) -> None:
        classes, swapped = {}, {}
        for c in columns:
            target, score = targets[:, c].copy(), scores[:, c].copy()  # together in memory, as all that follows reads
            positive, negative = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
            if len(positive) and len(negative):
                swapped[c] = len(negative) < len(positive)
                rare, common = (negative, positive) if swapped[c] else (positive, negative)
                classes[c] = OneClass(score, rare, common)
        for c, sums in zip(classes, _all_sums(list(classes.values()), weights), strict=True):
            pairs_below, smaller, larger = (part[: weights.replicates] for part in sums)
            result[:, c] = _areas(pairs_below, smaller, larger, swapped[c])

    step = host_auroc.classes_at_once(weights.records) if weights.form == "host" else 1
    parts = [range(i, min(i + step, targets.shape[1])) for i in range(0, targets.shape[1], step)]
    # Sorting, sums and XLA all release the interpreter lock; more threads would only hold more temporaries.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, parts))
    return result


def _all_sums(classes: list[OneClass], weights: Weights) -> Iterable[Sums]:
    if weights.form == "host":
        return host_auroc.weighted_sums(classes, weights.blocks) if classes else ()
    return (_device_sums(one, weights) for one in classes)


def _device_sums(one: OneClass, weights: Weights) -> Sums:
    records = weights.records
    most = {"segments": 0, "comparison": records}.get(weights.form or "", _MOST_COMPARED.get(jax.default_backend(), 0))
    if len(one.rare) <= most:
        found = _on_all(_compare, weights.blocks, _level(*one, records))
    else:
        found = _on_all(_sums, weights.blocks, _sort(*one, records))
    return Sums((found[0].astype(np.int64) << _LOW_BITS) + found[1], found[2], found[3])


def _areas(numerator: NDArray, smaller: NDArray, larger: NDArray, swapped: bool) -> NDArray[np.float64]:
    twice_pairs = 2.0 * smaller * larger
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a class that a replicate does not define
        return (twice_pairs - numerator if swapped else numerator) / twice_pairs


def _on_all(program: Any, blocks: list[Array], table: Any) -> NDArray[np.int32]:
    """(4, replicates) of all blocks, each on the device that holds it."""
    tables = {device: jax.device_put(table, device) for device in {block.device for block in blocks}}
    # All are started before the first is waited for.
    started = [program(block, tables[block.device]) for block in blocks]
    return np.concatenate([np.asarray(sums) for sums in started], axis=1)


def _weight_blocks(counts: NDArray) -> list[Array]:
    """The weights on the device as (records + 1, replicates) blocks of one shape; the last record is the padding."""
    replicates, records = counts.shape
    width = min(replicates, max(16, min(128, _CELLS_PER_BLOCK // records // 16 * 16)))
    small = counts.max(initial=0) < 2**8  # always so for resamples of single records: an eighth of the memory traffic
    devices, blocks = jax.local_devices(), []
    for number, start in enumerate(range(0, replicates, width)):
        rows = counts[start : start + width]
        weights = np.zeros((records + 1, width), np.uint8 if small else np.int32)
        weights[:-1, : len(rows)] = rows.T
        blocks.append(jax.device_put(weights, devices[number % len(devices)]))
    return blocks


def _level(score: NDArray, rare: NDArray, common: NDArray, records: int) -> _ComparedClass:
    values = np.unique(score[common])
    # Twice the rank, so that a score between two of the larger side's has a place; those of no part lie above all.
    level = np.full(records + 1, 2 * len(values) + 2)
    level[common] = 2 * np.searchsorted(values, score[common])
    place = np.searchsorted(values, score[rare], "left")
    tied = np.searchsorted(values, score[rare], "right") > place
    level_of_rare = 2 * place - np.where(tied, 0, 1)
    chunk = min(_COMPARED_AT_ONCE, _padded(len(rare), records))
    chunks = -(-len(rare) // chunk)
    return _ComparedClass(
        level.astype(np.int32),
        _pad(rare, chunks * chunk, records).reshape(chunks, chunk),
        _pad(level_of_rare, chunks * chunk, -1).reshape(chunks, chunk),
    )


def _sort(score: NDArray, rare: NDArray, common: NDArray, records: int) -> _SortedClass:
    common = common[np.argsort(score[common])]
    low = np.searchsorted(score[common], score[rare], "left")
    high = np.searchsorted(score[common], score[rare], "right")
    breaks = np.unique(np.concatenate([low, high]))
    n_rare = _padded(len(rare), records)
    return _SortedClass(
        _pad(common, records, records),
        _pad(np.searchsorted(breaks, np.arange(len(common)), "right"), records, len(breaks)),
        _pad(rare, n_rare, records),
        _pad(np.searchsorted(breaks, low), n_rare, 0),
        _pad(np.searchsorted(breaks, high), n_rare, 0),
    )


def _padded(size: int, records: int) -> int:
    padded = 1
    while padded < size:
        padded *= _PADDING_STEP
    return min(padded, records)


def _pad(values: NDArray, length: int, fill: int) -> NDArray[np.int32]:
    return np.concatenate([values, np.full(length - len(values), fill)]).astype(np.int32)


@jax.jit
def _sums(weights: Array, c: _SortedClass) -> Array:
    """(4, replicates): numerator's high and low part, weight of the smaller side, weight of the larger side."""
    larger = weights[c.order].astype(jnp.int32)
    sums = jax.ops.segment_sum(larger, c.segment, min(2 * len(c.rare), len(c.order)) + 1, indices_are_sorted=True)
    below = _cumulate(sums)
    smaller = weights[c.rare].astype(jnp.int32)
    products = smaller * (below[c.low] + below[c.high])
    low_part = products & ((1 << _LOW_BITS) - 1)
    return jnp.stack([(products >> _LOW_BITS).sum(0), low_part.sum(0), smaller.sum(0), below[-1]])


@jax.jit
def _compare(weights: Array, c: _ComparedClass) -> Array:
    """As `_sums`."""
    # Every entry of both factors is exact in the product's precision (bfloat16 holds integers to 256, and 3 parts of it
    # hold float32), and every sum is an integer below 2^20: float32 accumulates without rounding.
    precision = jax.lax.Precision.DEFAULT if weights.dtype == jnp.uint8 else jax.lax.Precision.HIGHEST
    as_float = weights.astype(jnp.float32)
    taken = c.level < c.level[-1]

    def chunk(total: Array, part: Any) -> tuple[Array, None]:
        rare, level = part
        compared = (c.level[None] < level[:, None]).astype(jnp.float32) + (c.level[None] <= level[:, None]).astype(
            jnp.float32
        )
        below = jnp.dot(compared, as_float, precision=precision).astype(jnp.int32)
        smaller = weights[rare].astype(jnp.int32)
        products = smaller * below
        low_part = products & ((1 << _LOW_BITS) - 1)
        return total + jnp.stack([(products >> _LOW_BITS).sum(0), low_part.sum(0), smaller.sum(0)]), None

    total, _ = jax.lax.scan(chunk, jnp.zeros((3, weights.shape[1]), jnp.int32), (c.rare, c.rare_level))
    larger = jnp.dot(taken.astype(jnp.float32), as_float, precision=precision).astype(jnp.int32)
    return jnp.concatenate([total, larger[None]])


def _cumulate(rows: Array) -> Array:
    """Cumulative sum over the first axis."""
    if jax.default_backend() != "cpu":
        return jnp.cumsum(rows, axis=0)
    # XLA's cumulative sum for CPUs makes several passes; one row after the other is ten times faster there.

    def add(total: Array, row: Array) -> tuple[Array, Array]:
        return total + row, total + row

    return jax.lax.scan(add, jnp.zeros_like(rows[0]), rows)[1]
