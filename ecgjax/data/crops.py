"""Which windows of a recording a model sees, and how their predictions become the recording's.

A window is `window_samples(seconds, rate)` samples at the data's rate; it is cut first and resampled after. Training
takes one random window of each recording and epoch; evaluation takes all windows that fit, one after the other, and
averages. A recording shorter than the window is in neither.
"""

import numpy as np

from ecgjax.errors import UserError


def window_samples(seconds: float, rate: float) -> int:
    """Samples in a window: `int(seconds * rate)`.

    Raises:
        UserError: that is not a single sample.
    """
    samples = int(seconds * rate) if np.isfinite(seconds * rate) else 0
    if samples < 1:
        raise UserError(f"a window of {seconds} s at {rate} Hz; expected at least one sample")
    return samples


def evaluation_windows(lengths: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """All non-overlapping windows from each recording's first sample on; the incomplete last piece is dropped.

    Args:
        lengths: (records,) samples.
        window: samples.

    Returns:
        Index of the recording and first sample of each window, int64, ordered by recording, then time.
    """
    counts = np.asarray(lengths, np.int64) // window
    record = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return record, (np.arange(len(record)) - first[record]) * window


def split_short(rows: np.ndarray, lengths: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose recording holds at least one window, and those that must be left out (and reported).

    Args:
        rows: row numbers of a selection of recordings.
        lengths: (records,) samples of all recordings.
        window: samples.
    """
    rows = np.asarray(rows, np.int64)
    long_enough = np.asarray(lengths)[rows] >= window
    return rows[long_enough], rows[~long_enough]


def draw_starts(rng: np.random.Generator, lengths: np.ndarray, window: int, *, last_start: bool = True) -> np.ndarray:
    """One random first sample for each recording, uniform over the windows that fit.

    Args:
        rng: source of the draws.
        lengths: (records,) samples.
        window: samples.
        last_start: whether the last window that fits can be drawn. The paper's code never draws it (False).

    Returns:
        (records,) int64 in 0 ... length - window.

    Raises:
        UserError: a recording is shorter than the window.
    """
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) and lengths.min() < window:
        raise UserError(f"a recording of {lengths.min()} samples; expected at least the window of {window}")
    return rng.integers(0, np.maximum(lengths - window + int(last_start), 1))


def mean_by_record(values: np.ndarray, record_index: np.ndarray, n_records: int) -> np.ndarray:
    """Mean over each recording's windows; average probabilities, not logits.

    Args:
        values: (windows, classes).
        record_index: (windows,) the recording of each window, in 0 ... n_records - 1, in any order.
        n_records: recordings.

    Returns:
        (n_records, classes), in the dtype of `values`; NaN where a recording has no window.
    """
    values, record_index = np.asarray(values), np.asarray(record_index)
    ordered = values[np.argsort(record_index, kind="stable")]
    present, first, counts = np.unique(np.sort(record_index), return_index=True, return_counts=True)
    means = np.full((n_records, *values.shape[1:]), np.nan, np.result_type(values.dtype, np.float32))
    # Recordings with the same number of windows together: few steps, and to the last digit numpy's mean of each.
    for count in np.unique(counts):
        same = counts == count
        means[present[same]] = ordered[first[same][:, None] + np.arange(count)].mean(axis=1)
    return means
