"""Exact areas under the ROC curve of many reweighted copies of one (targets, scores) table, as one jitted program.

A bootstrap replicate is a vector of integer weights over the records, so a class is sorted once and every replicate is
sums of integers: the smaller side's records (positives or negatives) cut the sorted other side into segments, the
segments' weights are summed and accumulated, and each record of the smaller side looks up how much weight lies below it
and how much not above it. Numerator and denominator are integers; the only rounding is the final float64 division.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ecgjax.errors import UserError

MAX_RECORDS = 2**19
"""Above this, a sum of `_LOW_BITS` remainders could leave int32."""

_LOW_BITS = 12
_CELLS_PER_BLOCK = 2**20  # (records x replicates) of one call: temporaries that stay near the caches
_PADDING_STEP = 4  # classes whose smaller sides are within this factor share one compiled program


class _SortedClass(NamedTuple):
    """One class, padded to a common length by records of weight 0."""

    order: NDArray[np.int32]  # (common,) records of the larger side by ascending score
    segment: NDArray[np.int32]  # (common,) segment of each, ascending
    rare: NDArray[np.int32]  # (rare,) records of the smaller side
    low: NDArray[np.int32]  # (rare,) accumulated segment that holds the weight strictly below each
    high: NDArray[np.int32]  # (rare,) the same for the weight not above


def replicate_aurocs(targets: NDArray, scores: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """AUROC of each class under each row of weights; ties count half, unknown targets nothing.

    Args:
        targets: (records, classes) of 0, 1 or NaN.
        scores: (records, classes), no NaN.
        counts: (replicates, records) non-negative integers: how often a replicate holds a record.

    Returns:
        (replicates, classes) float64; NaN where a replicate has no positive or no negative of a class.

    Raises:
        UserError: more than `MAX_RECORDS` records.
    """
    records, n_classes = targets.shape
    if records > MAX_RECORDS:
        raise UserError(f"bootstrap of {records} records; expected at most {MAX_RECORDS}")
    blocks = _weight_blocks(counts)

    def one_class(c: int) -> NDArray[np.float64]:
        target, score = targets[:, c], scores[:, c]
        positive, negative = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
        if not (len(positive) and len(negative)):
            return np.full(len(counts), np.nan)
        swapped = len(negative) < len(positive)
        rare, common = (negative, positive) if swapped else (positive, negative)
        table = jax.device_put(_sort(score, rare, common, records))
        sums = np.concatenate([np.asarray(_sums(weights, table)) for weights in blocks], axis=1)[:, : len(counts)]
        numerator = (sums[0].astype(np.int64) << _LOW_BITS) + sums[1]
        twice_pairs = 2.0 * sums[2] * sums[3]
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a class that a replicate does not define
            return (twice_pairs - numerator if swapped else numerator) / twice_pairs

    # Sorting and XLA both release the interpreter lock; more threads would only hold more temporaries.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return np.stack(list(pool.map(one_class, range(n_classes))), axis=1)


def _weight_blocks(counts: NDArray) -> list[Array]:
    """The weights on the device as (records + 1, replicates) blocks of one shape; the last record is the padding."""
    replicates, records = counts.shape
    width = min(replicates, max(16, min(128, _CELLS_PER_BLOCK // records // 16 * 16)))
    small = counts.max(initial=0) < 2**8  # always so for resamples of single records: an eighth of the memory traffic
    blocks = []
    for start in range(0, replicates, width):
        rows = counts[start : start + width]
        weights = np.zeros((records + 1, width), np.uint8 if small else np.int32)
        weights[:-1, : len(rows)] = rows.T
        blocks.append(jax.device_put(weights))
    return blocks


def _sort(score: NDArray, rare: NDArray, common: NDArray, records: int) -> _SortedClass:
    common = common[np.argsort(score[common])]
    low = np.searchsorted(score[common], score[rare], "left")
    high = np.searchsorted(score[common], score[rare], "right")
    breaks = np.unique(np.concatenate([low, high]))
    n_rare = 1
    while n_rare < len(rare):
        n_rare *= _PADDING_STEP
    n_rare = min(n_rare, records)
    return _SortedClass(
        _pad(common, records, records),
        _pad(np.searchsorted(breaks, np.arange(len(common)), "right"), records, len(breaks)),
        _pad(rare, n_rare, records),
        _pad(np.searchsorted(breaks, low), n_rare, 0),
        _pad(np.searchsorted(breaks, high), n_rare, 0),
    )


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


def _cumulate(rows: Array) -> Array:
    """Cumulative sum over the first axis."""
    if jax.default_backend() != "cpu":
        return jnp.cumsum(rows, axis=0)
    # XLA's cumulative sum for CPUs makes several passes; one row after the other is ten times faster there.

    def add(total: Array, row: Array) -> tuple[Array, Array]:
        return total + row, total + row

    return jax.lax.scan(add, jnp.zeros_like(rows[0]), rows)[1]
