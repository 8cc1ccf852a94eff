"""Which records a bootstrap replicate holds, and how often: drawn once per (records, seed), shared by all models."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from ecgjax.errors import UserError
from ecgjax.evaluation.weighted_auroc import Weights, lay_out

_CELLS_PER_BLOCK = 2**22


@dataclass(frozen=True)
class Resamples:
    """Resamples of one test set, for any number of models.

    Attributes:
        counts: (replicates, records) how often a replicate holds a record.
    """

    counts: NDArray[np.integer]

    @cached_property
    def weights(self) -> Weights:
        """For AUROCs, laid out when first read. The data come first: the replicate that holds every record once."""
        return lay_out(np.insert(self.counts, 0, 1, axis=0))


def draw_counts(
    records: int,
    replicates: int = 1000,
    seed: int = 0,
    indices: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> NDArray[np.integer]:
    """Multinomial counts of a bootstrap: n units drawn out of n with replacement.

    Args:
        records: number of records.
        replicates: number of replicates; ignored if `indices` is given.
        seed: of the drawing, which happens on the host: the same on every device.
        indices: (replicates, draws) positions of the drawn units instead of a drawing of our own. Units are records, or
            with `groups` the sorted distinct groups.
        groups: (records,) labels, e.g. patients; whole groups are drawn then (cluster bootstrap).

    Returns:
        (replicates, records) unsigned counts.

    Raises:
        UserError: an index or group that does not fit the records, fewer than two replicates.
    """
    units, unit_of_record = records, None
    if groups is not None:
        unit_of_record = unit_indices(groups, records)
        units = int(unit_of_record.max()) + 1
    draws = _own_draws(units, replicates, seed) if indices is None else _given_draws(indices, units)
    counts = np.concatenate([_count(block, units) for block in draws])
    counts = counts.astype(np.min_scalar_type(counts.max()))
    return counts if unit_of_record is None else counts[:, unit_of_record]


def unit_indices(groups: ArrayLike, records: int) -> NDArray[np.intp]:
    """Position of each record's group among the sorted distinct groups."""
    labels = np.asarray(groups)
    if labels.shape != (records,):
        raise UserError(f"groups has shape {labels.shape}; expected ({records},), one label for each record")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise UserError(
            f"groups holds NaN at record {int(np.isnan(labels).argmax())}; expected a label for each record"
        )
    return np.unique(labels, return_inverse=True)[1]


def _own_draws(units: int, replicates: int, seed: int) -> Iterator[NDArray[np.integer]]:
    if replicates < 2:
        raise UserError(f"replicates is {replicates}; expected 2 or more")
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_PER_BLOCK // units)
    dtype = np.uint32  # one stream whatever the platform's default integer
    for i in range(0, replicates, rows):
        yield rng.integers(0, units, (min(rows, replicates - i), units), dtype)


def _given_draws(indices: ArrayLike, units: int) -> Iterator[NDArray[np.integer]]:
    array = np.asarray(indices)
    if array.ndim != 2 or array.dtype.kind not in "iu" or len(array) < 2:
        raise UserError(
            f"indices is {array.dtype} of shape {array.shape}; expected integers (replicates, draws), at least 2"
        )
    if array.size and not (array.min() >= 0 and array.max() < units):
        raise UserError(f"indices holds {array.min()} to {array.max()}; expected 0 to {units - 1}")
    rows = max(1, _CELLS_PER_BLOCK // units)
    for i in range(0, len(array), rows):
        yield array[i : i + rows]


def _count(draws: NDArray[np.integer], units: int) -> NDArray[np.integer]:
    rows, drawn = draws.shape
    columns, ends = draws.astype(np.int32).ravel(), np.arange(rows + 1, dtype=np.int64) * drawn
    for dtype in (np.uint8, np.uint32):
        # A sparse matrix adds up what is there twice, far faster than numpy's bincount.
        counts = csr_array((np.ones(draws.size, dtype), columns, ends), shape=(rows, units)).toarray()
        if counts.sum(dtype=np.int64) == draws.size:  # else some unit was drawn more than 255 times
            break
    return counts
