"""The weights of resampy's "kaiser_best", and resampling on the host with them.

This file needs NumPy only, so that processes that prepare data do not load JAX; `ecgjax.data.resampling` applies the
same weights on the device.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np

from ecgjax.errors import UserError

# The filter that resampy calls "kaiser_best": 50 zero crossings, each sampled at 8192 points.
_ZERO_CROSSINGS = 50
_POINTS = 8192
_ROLLOFF = 0.9173473712608761
_BETA = 12.984585247040012

BLOCK = 128  # output samples per product: a TPU's tile, and the fastest or nearly so of 64 ... 512 on a CPU
SHORT = 64 * BLOCK  # output samples up to which a product per block makes a program of a decent size

NanRule = Literal["zero", "spread"]


def output_samples(n_in: int, rate_in: float, rate_out: float) -> int:
    """Samples that `n_in` samples become.

    Raises:
        UserError: a rate is not positive, or nothing would be left.
    """
    if not (0 < rate_in < np.inf and 0 < rate_out < np.inf):
        raise UserError(f"sampling rates {rate_in} -> {rate_out} Hz: expected positive numbers")
    if rate_in == rate_out:
        return n_in
    if rate_out * _POINTS < rate_in:
        raise UserError(f"sampling rates {rate_in} -> {rate_out} Hz: expected a factor of at most {_POINTS}")
    n_out = int(n_in * float(rate_out) / float(rate_in))
    if n_out < 1:
        raise UserError(f"a signal of {n_in} samples is too short to be resampled from {rate_in} to {rate_out} Hz")
    return n_out


@lru_cache(maxsize=32)
def resampling_matrix(n_in: int, rate_in: float, rate_out: float) -> np.ndarray:
    """The whole operator: `resampling_matrix(...) @ x` is `resampy.resample(x, rate_in, rate_out, axis=0)`.

    Args:
        n_in: input samples.
        rate_in: sampling rate of the input, Hz.
        rate_out: sampling rate wanted, Hz.

    Returns:
        (n_out, n_in) float32, read-only, shared between calls. `resample` never builds it; filters that follow the
        resampling can be multiplied into it.

    Raises:
        UserError: as `output_samples`.
    """
    n_out = output_samples(n_in, rate_in, rate_out)
    if rate_in == rate_out:
        matrix = np.eye(n_in, dtype=np.float32)
    else:
        matrix = np.zeros((n_out, n_in), np.float32)
        for begin in range(0, n_out, BLOCK):
            end = min(begin + BLOCK, n_out)
            low, weights = band(begin, end, n_in, rate_in, rate_out)
            matrix[begin:end, low : low + weights.shape[1]] = weights
    matrix.flags.writeable = False
    return matrix


def resample_signal(signal: np.ndarray, rate_in: float, rate_out: float, *, nan: NanRule = "zero") -> np.ndarray:
    """Resamples one recording of any length on the host, in memory proportional to the recording.

    Args:
        signal: (samples, leads).
        rate_in: Hz.
        rate_out: Hz.
        nan: as in `resample`.

    Returns:
        (n_out, leads) float32.

    Raises:
        UserError: as `output_samples`.
    """
    signal = np.asarray(signal, np.float32)
    check_rule(nan)
    if signal.ndim != 2:
        raise UserError(f"resample_signal: a signal of shape {signal.shape}; expected (samples, leads)")
    n_in = len(signal)
    n_out = output_samples(n_in, rate_in, rate_out)
    missing = np.isnan(signal)
    any_missing = bool(missing.any())
    x = np.where(missing, np.float32(0), signal) if any_missing else signal
    if rate_in == rate_out:
        return signal.copy() if nan == "spread" else x.copy()
    y = np.empty((n_out, signal.shape[1]), np.float32)
    # Recordings of one length follow each other; weights take ten times longer to compute than to apply.
    blocks = _kept_bands if n_out <= SHORT else cached_bands
    for begin, end, low, weights in blocks(n_in, n_out, rate_in, rate_out):
        np.matmul(weights, x[low : low + weights.shape[1]], out=y[begin:end])
    if any_missing and nan == "spread":
        begins, ends = support(n_in, rate_in, rate_out)
        count = np.concatenate([np.zeros((1, signal.shape[1]), np.int64), np.cumsum(missing, axis=0)])
        y[count[ends] > count[begins]] = np.nan
    return y


def check_rule(nan: str) -> None:
    """Raises a `UserError` unless `nan` is a `NanRule`."""
    if nan not in ("zero", "spread"):
        raise UserError(f"nan={nan!r}; expected 'zero' or 'spread'")


@lru_cache(maxsize=1)
def _filter() -> tuple[np.ndarray, np.ndarray]:
    """Right half of the windowed sinc and the differences between its points, float64."""
    n = _ZERO_CROSSINGS * _POINTS
    sinc = _ROLLOFF * np.sinc(_ROLLOFF * np.linspace(0, _ZERO_CROSSINGS, n + 1))
    half = sinc * np.kaiser(2 * n + 1, _BETA)[n:]
    return half, np.diff(half, append=half[-1])


def _times(begin: int, end: int, rate_in: float, rate_out: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Last input sample at or before each output sample, the rest of the way in table points, table points per sample.

    Rounded step by step as resampy does: where an output sample should fall onto an input sample, which side of it the
    rounding lands on shows in the sixth digit of the weights, because the step through the table is cut to an integer.
    """
    ratio = float(rate_out) / rate_in
    scale = min(1.0, ratio)
    time = np.arange(begin, end) * (1.0 / ratio)
    before = time.astype(np.int64)
    return before, scale * (time - before), int(scale * _POINTS)


def _wing(point: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (rows, taps) read from the table at point, point + step, ..., and how many of them each row has."""
    half, slope = _filter()
    offset = point.astype(np.int64)
    taps = (len(half) - offset) // step
    index = offset[:, None] + step * np.arange(taps.max())
    inside = np.arange(taps.max()) < taps[:, None]
    index[~inside] = 0
    return np.where(inside, half[index] + (point - offset)[:, None] * slope[index], 0.0), taps


def band(begin: int, end: int, n_in: int, rate_in: float, rate_out: float) -> tuple[int, np.ndarray]:
    """Rows [begin, end) of the operator without their zero columns: (first column, (end - begin, width) float32)."""
    before, fraction, step = _times(begin, end, rate_in, rate_out)
    ratio = float(rate_out) / rate_in
    left, _ = _wing(fraction * _POINTS, step)
    right, _ = _wing((min(1.0, ratio) - fraction) * _POINTS, step)
    weights = min(1.0, ratio) * np.concatenate([left[:, ::-1], right], axis=1)
    column = (before - left.shape[1] + 1)[:, None] + np.arange(weights.shape[1])
    first, last = column[0, 0], column[-1, -1] + 1
    band = np.zeros((end - begin, last - first), np.float32)
    np.put_along_axis(band, column - first, weights.astype(np.float32), axis=1)
    low, high = max(first, 0), min(last, n_in)
    return int(low), np.ascontiguousarray(band[:, low - first : high - first])


@lru_cache(maxsize=32)
def bands(n_in: int, rate_in: float, rate_out: float) -> tuple[tuple[int, np.ndarray], ...]:
    """(first column, weights) of every block of `BLOCK` rows of the operator, shared between calls."""
    n_out = output_samples(n_in, rate_in, rate_out)
    return tuple(band(b, min(b + BLOCK, n_out), n_in, rate_in, rate_out) for b in range(0, n_out, BLOCK))


def cached_bands(n_in: int, n_out: int, rate_in: float, rate_out: float) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(begin, end, first column, weights) of all blocks; those with the same weights up to 1e-7 samples share them."""
    block = period(rate_in, rate_out)
    cache: dict[bytes, tuple[int, np.ndarray]] = {}
    for begin in range(0, n_out, block):
        end = min(begin + block, n_out)
        before, fraction, step = _times(begin, end, rate_in, rate_out)
        reach = len(_filter()[0]) // step + 1
        if before[0] < reach or before[-1] + reach >= n_in:  # cut by an end of the signal: weights of its own
            yield begin, end, *band(begin, end, n_in, rate_in, rate_out)
            continue
        key = (before - before[0]).tobytes() + np.round(fraction, 7).tobytes()
        if key not in cache:
            low, weights = band(begin, end, n_in, rate_in, rate_out)
            if len(cache) < 16:
                cache[key] = (low - int(before[0]), weights)
            yield begin, end, low, weights
        else:
            shift, weights = cache[key]
            yield begin, end, int(before[0]) + shift, weights


@lru_cache(maxsize=4)
def _kept_bands(n_in: int, n_out: int, rate_in: float, rate_out: float) -> tuple[tuple[int, int, int, np.ndarray], ...]:
    return tuple(cached_bands(n_in, n_out, rate_in, rate_out))


def period(rate_in: float, rate_out: float) -> int:
    """A block length after which the weights repeat, if there is a practical one."""
    for samples in range(1, 1025):
        inputs = samples * rate_in / rate_out
        if abs(inputs - round(inputs)) < 1e-9:
            return samples * -(-256 // samples)
    return 256


def support(n_in: int, rate_in: float, rate_out: float) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last input sample that resampy visits for each output sample."""
    before, fraction, step = _times(0, output_samples(n_in, rate_in, rate_out), rate_in, rate_out)
    scale = min(1.0, float(rate_out) / rate_in)
    points = _ZERO_CROSSINGS * _POINTS + 1
    left = (points - (fraction * _POINTS).astype(np.int64)) // step
    right = (points - ((scale - fraction) * _POINTS).astype(np.int64)) // step
    return np.maximum(before + 1 - left, 0), np.minimum(before + 1 + right, n_in)
