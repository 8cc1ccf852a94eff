"""The segments form of `ecgjax.evaluation.weighted_auroc` on CPUs, by sums of sparse rows.

A class cuts the larger side, sorted by score, into segments between the records of the smaller side. Their weights in
all replicates are one product of a sparse matrix of ones with the weights, (segments, records) x (records, replicates):
a single pass over whole rows of small integers, several times faster than XLA's scattered sums on CPUs, and nothing to
compile. Every number is an integer and exact.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_CELLS_PER_BLOCK = 2**22  # (records x replicates): blocks that stay near the caches
_RECORDS_AT_ONCE = 2**14  # of all classes in one sparse matrix: enough to be worth making it, few enough for the caches


class OneClass(NamedTuple):
    """What one class is made of.

    Attributes:
        score: (records,).
        rare: records of the smaller side, at least one.
        common: records of the larger side.
    """

    score: NDArray
    rare: NDArray[np.intp]
    common: NDArray[np.intp]


class Sums(NamedTuple):
    """Of each replicate.

    Attributes:
        pairs_below: twice the weight of pairs in which the larger side's record has the lower score; ties count half.
        smaller: weight of the smaller side.
        larger: weight of the larger side.
    """

    pairs_below: NDArray[np.integer]
    smaller: NDArray[np.integer]
    larger: NDArray[np.integer]


class _Sorted(NamedTuple):
    """A class in the order of its scores.

    Attributes:
        rare: records of the smaller side.
        common: records of the larger side.
        breaks: where in `common` a segment ends, ascending; the last one ends with `common`.
        low: (rare,) segment up to which all lies strictly below each.
        high: (rare,) the same for what is not above; the very same array if no scores are equal.
    """

    rare: NDArray[np.intp]
    common: NDArray[np.intp]
    breaks: NDArray[np.intp]
    low: NDArray[np.intp]
    high: NDArray[np.intp]


def fits(counts: NDArray) -> bool:
    """Whether 16 bits hold every sum of a replicate's weights; twice a number of pairs then takes 32.

    Args:
        counts: (replicates, records) how often a replicate holds a record.
    """
    return bool(counts.sum(axis=1, dtype=np.int64).max(initial=0) < 2**16)


def weight_blocks(counts: NDArray) -> list[NDArray[np.uint16]]:
    """Weights that `fits` as (records, replicates) blocks."""
    replicates, records = counts.shape
    width = max(16, min(1024, _CELLS_PER_BLOCK // records))
    return [np.ascontiguousarray(counts[i : i + width].T, np.uint16) for i in range(0, replicates, width)]


def classes_at_once(records: int) -> int:
    """How many classes `weighted_sums` is best given together."""
    return max(1, _RECORDS_AT_ONCE // records)


def weighted_sums(classes: Sequence[OneClass], blocks: Sequence[NDArray[np.uint16]]) -> Iterator[Sums]:
    """What the AUROC of each class is made of, for every replicate.

    Args:
        classes: of the same records.
        blocks: from `weight_blocks`.
    """
    every = [_sort(*one) for one in classes]
    starts = np.cumsum([0, *(len(one.common) for one in every)])
    ends = [start + np.append(one.breaks, len(one.common)) for start, one in zip(starts, every, strict=False)]
    rows = np.cumsum([0, *map(len, ends)])
    columns = np.concatenate([one.common for one in every]).astype(np.int32)
    pointers = np.concatenate([[0], *ends]).astype(np.int32)
    segments = csr_array((np.ones(len(columns), np.uint16), columns, pointers), shape=(rows[-1], len(blocks[0])))
    parts: list[list[Sums]] = [[] for _ in every]
    for weights in blocks:
        sums = segments @ weights
        for one, first, last, found in zip(every, rows[:-1], rows[1:], parts, strict=True):
            below = _cumulate(sums[first:last])
            smaller = weights[one.rare]
            pairs = _weighted(smaller, below[one.low])
            pairs += pairs if one.high is one.low else _weighted(smaller, below[one.high])
            found.append(Sums(pairs, smaller.sum(axis=0, dtype=np.uint16), below[-1].copy()))
    return (Sums(*map(np.concatenate, zip(*part, strict=True))) for part in parts)


def _sort(score: NDArray, rare: NDArray[np.intp], common: NDArray[np.intp]) -> _Sorted:
    of_rare, of_common = score[rare], score[common]
    by_rare, by_common = np.argsort(of_rare), np.argsort(of_common)
    rare, of_rare, common, of_common = rare[by_rare], of_rare[by_rare], common[by_common], of_common[by_common]
    low = np.searchsorted(of_common, of_rare, "left")
    if not (of_common[np.minimum(low, len(common) - 1)] == of_rare).any():
        new = np.append(True, low[1:] != low[:-1])
        segment = np.cumsum(new) - 1
        return _Sorted(rare, common, low[new], segment, segment)
    high = np.searchsorted(of_common, of_rare, "right")
    breaks = np.unique(np.concatenate([low, high]))
    return _Sorted(rare, common, breaks, np.searchsorted(breaks, low), np.searchsorted(breaks, high))


def _weighted(weights: NDArray, values: NDArray) -> NDArray[np.uint32]:
    return np.einsum("ij,ij->j", weights, values, dtype=np.uint32, casting="safe")


def _cumulate(rows: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Cumulative sum over the first axis, in place.

    First within groups of rows, all groups at once, then from group to group: few calls that add long rows, where
    numpy's own cumulative sum walks down one column after the other.
    """
    count, width = rows.shape
    step = max(1, math.isqrt(count))
    whole = count // step * step
    groups = rows[:whole].reshape(-1, step, width)
    for i in range(1, step):
        groups[:, i] += groups[:, i - 1]
    for i in range(1, len(groups)):
        groups[i] += groups[i - 1, -1]
    for i in range(max(whole, 1), count):
        rows[i] += rows[i - 1]
    return rows
