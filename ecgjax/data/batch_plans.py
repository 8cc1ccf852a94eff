"""Plans of batches: which recordings, which windows, in which order.

A plan says for every step which records and starts make the batch, as a pure function of (seed, step): nothing is
kept between steps, so a run resumes from a step number, and every process works out its own share of the same batch.
One item of a plan is one whole batch, so that Grain's cost per item is paid once per step.
"""

from functools import lru_cache
from typing import Any, Literal
from typing import Protocol as Structure

import numpy as np

from ecgjax.data.crops import draw_starts, evaluation_windows, split_short
from ecgjax.data.cutter import Item
from ecgjax.errors import UserError

_ORDER, _STARTS, _FIXED = 0, 1, 2  # streams of random numbers under one seed

Crops = Literal["random", "fixed"]
"""Training windows: drawn anew in every epoch, or once for all."""


class Plan(Structure):
    """A Grain source of batches: "record" and "start" of each, for records in `rows`."""

    rows: np.ndarray

    def __len__(self) -> int:
        """Number of batches."""

    def __getitem__(self, step: int) -> Item:
        """One batch."""


class BatchPlan:
    """Training batches; a Grain random-access source whose item i is global batch i, or this process's share of it.

    Every epoch is a fresh permutation of the records with a fresh random window of each, or with "fixed" crops the same
    window in every epoch, whichever records are trained on beside it. What does not fill a batch at
    its end is dropped.

    Args:
        rows: row numbers of the records.
        lengths: (records,) samples of all records of the store.
        window: samples; shorter records are left out (`dropped`).
        batch_size: of the global batch.
        seed: of order and windows.
        epochs: how often each record is seen.
        last_start: see `ecgjax.data.crops.draw_starts`.
        crops: "random" or "fixed".
        process_index: this process.
        process_count: processes that share each batch.

    Attributes:
        rows: records that are drawn from.
        dropped: records shorter than the window.
        steps_per_epoch: batches in an epoch.

    Raises:
        UserError: fewer records than a batch, a negative seed, unknown crops, or processes that cannot share a batch
            evenly.
    """

    def __init__(
        self,
        rows: np.ndarray,
        lengths: np.ndarray,
        *,
        window: int,
        batch_size: int,
        seed: int,
        epochs: int,
        last_start: bool = True,
        crops: Crops = "random",
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if seed < 0:
            raise UserError(f"seed={seed}; expected 0 or more")
        if crops not in ("random", "fixed"):
            raise UserError(f"crops={crops!r}; expected 'random' or 'fixed'")
        self.rows, self.dropped = split_short(rows, lengths, window)
        if not 1 <= batch_size <= len(self.rows):
            raise UserError(
                f"batch_size={batch_size}; expected 1 to {len(self.rows)}, the number of records"
                f" of at least {window} samples"
            )
        self.steps_per_epoch = len(self.rows) // batch_size
        self._lengths = np.asarray(lengths)[self.rows]
        self._window, self._batch_size, self._seed, self._last_start = window, batch_size, seed, last_start
        self._epochs = epochs
        self._fixed = None
        if crops == "fixed":  # drawn for all records, so that a record's does not depend on which others are trained on
            rng = np.random.default_rng((seed, _FIXED))
            starts = draw_starts(rng, np.maximum(lengths, window), window, last_start=last_start)
            self._fixed = starts[self.rows]
        self._share = _share(batch_size, process_index, process_count)
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def __len__(self) -> int:
        return self._epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> Item:
        """{"record", "start"}: int32 (batch_size / process_count,) each."""
        step = int(step)
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = self._permutation(epoch)[batch * self._batch_size : (batch + 1) * self._batch_size]
        rng = np.random.default_rng((self._seed, _STARTS, step))
        if self._fixed is not None:
            start = self._fixed[order]
        else:
            start = draw_starts(rng, self._lengths[order], self._window, last_start=self._last_start)
        return {
            "record": self.rows[order][self._share].astype(np.int32),
            "start": start[self._share].astype(np.int32),
        }

    def windows(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Record and start of every window, (records,) each, where they are the same in all epochs; None: they are not.

        They are the same if crops are fixed, and if there is but one window to draw of each record.
        """
        if self._fixed is not None:
            return self.rows, self._fixed
        if (self._lengths - self._window + int(self._last_start) > 1).any():
            return None
        return self.rows, np.zeros(len(self.rows), np.int64)

    def __repr__(self) -> str:
        return f"BatchPlan({len(self.rows)} records, batch {self._batch_size}, seed {self._seed}, {len(self)} steps)"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_permutation"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def _permute(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, _ORDER, epoch)).permutation(len(self.rows)).astype(np.int32)


class EvaluationPlan:
    """All evaluation windows of some records, in batches of one size; like `BatchPlan`, a Grain source.

    Args:
        rows: row numbers of the records.
        lengths: (records,) samples of all records of the store.
        window: samples; shorter records are left out (`dropped`).
        batch_size: of the global batch; the last one is padded with windows that are not "valid".
        process_index: this process.
        process_count: processes that share each batch.

    Attributes:
        rows: records that are evaluated.
        dropped: records shorter than the window.
        windows: number of windows.

    Raises:
        UserError: no record holds a window, or processes that cannot share a batch evenly.
    """

    def __init__(
        self,
        rows: np.ndarray,
        lengths: np.ndarray,
        *,
        window: int,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        self.rows, self.dropped = split_short(rows, lengths, window)
        if not len(self.rows):
            raise UserError(f"no record of at least {window} samples among {len(self.dropped)}; expected one")
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}; expected 1 or more")
        index, start = evaluation_windows(np.asarray(lengths)[self.rows], window)
        self.windows = len(index)
        self._record, self._start = self.rows[index].astype(np.int32), start.astype(np.int32)
        self._batch_size = batch_size
        self._share = _share(batch_size, process_index, process_count)

    def __len__(self) -> int:
        return -(-self.windows // self._batch_size)

    def __getitem__(self, step: int) -> Item:
        """{"record", "start", "valid"}: int32, int32, bool (batch_size / process_count,) each."""
        window = int(step) * self._batch_size + np.arange(self._batch_size)[self._share]
        valid = window < self.windows
        window = np.where(valid, window, 0)
        return {"record": self._record[window], "start": self._start[window], "valid": valid}

    def __repr__(self) -> str:
        return f"EvaluationPlan({len(self.rows)} records, {self.windows} windows, batch {self._batch_size})"


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        raise UserError(f"batch_size={batch_size}; expected a multiple of the {process_count} processes")
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)
