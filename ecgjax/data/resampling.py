"""Change of sampling rate as one linear operator: resampy's "kaiser_best", exactly, as (banded) matrix products.

The benchmark resamples every crop with resampy 0.4.3. That is band-limited interpolation (J. O. Smith, "Digital Audio
Resampling Home Page") with a tabulated Kaiser-windowed sinc: output sample m is a fixed weighted sum of the input
samples around time m * rate_in / rate_out, samples outside the input counting as zero. The weights depend on the length
and the rates only, so they are computed once, on the host, in float64, and crops are resampled where they are used, on
the device. A block of 128 output samples needs only the input samples under its kernels: `resample` multiplies block by
block, which takes a CPU up to 8 times less time than the dense matrix and still gives a TPU full tiles.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.errors import UserError

# The filter that resampy calls "kaiser_best": 50 zero crossings, each sampled at 8192 points.
_ZERO_CROSSINGS = 50
_POINTS = 8192
_ROLLOFF = 0.9173473712608761
_BETA = 12.984585247040012

_BLOCK = 128  # output samples per product: a TPU's tile, and the fastest or nearly so of 64 ... 512 on a CPU
_SHORT = 64 * _BLOCK  # output samples up to which a product per block makes a program of a decent size

_EXACT = jax.lax.Precision.HIGHEST  # otherwise TPUs multiply in bfloat16 and GPUs in TF32

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
        for begin in range(0, n_out, _BLOCK):
            end = min(begin + _BLOCK, n_out)
            low, weights = _band(begin, end, n_in, rate_in, rate_out)
            matrix[begin:end, low : low + weights.shape[1]] = weights
    matrix.flags.writeable = False
    return matrix


def resample(x: jax.Array | np.ndarray, rate_in: float, rate_out: float, *, nan: NanRule = "zero") -> jax.Array:
    """Resamples signals on the device; jit-able with the rates static, differentiable.

    Args:
        x: (..., n_in, leads), at `rate_in`.
        rate_in: Hz.
        rate_out: Hz.
        nan: "zero": a missing sample counts as zero, so that it costs nothing but itself. "spread": it makes every
            output sample under its kernel NaN, as resampy does (a single one blanks up to 0.4 s at 500 -> 240 Hz).

    Returns:
        (..., n_out, leads) float32; `x` itself, up to the NaN rule, if the rates are equal.

    Raises:
        UserError: as `output_samples`.
    """
    x = jnp.asarray(x, jnp.float32)
    _check_rule(nan)
    if x.ndim < 2:
        raise UserError(f"resample: a signal of shape {x.shape}; expected (..., samples, leads)")
    n_in, leads = x.shape[-2:]
    n_out = output_samples(n_in, rate_in, rate_out)
    if rate_in == rate_out:
        return x if nan == "spread" else jnp.where(jnp.isnan(x), jnp.zeros_like(x), x)
    missing = jnp.isnan(x)
    x_BTL = jnp.where(missing, jnp.zeros_like(x), x).reshape(-1, n_in, leads)
    product = _short_product if n_out <= _SHORT else _long_product
    y_BTL = product(x_BTL, float(rate_in), float(rate_out))
    y = y_BTL.reshape(*x.shape[:-2], n_out, leads)
    if nan == "spread":
        begins, ends = _support(n_in, rate_in, rate_out)
        count = jnp.cumsum(missing, axis=-2, dtype=jnp.int32)
        count = jnp.concatenate([jnp.zeros_like(count[..., :1, :]), count], axis=-2)
        y = jnp.where(count[..., ends, :] > count[..., begins, :], jnp.nan, y)
    return y


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
    _check_rule(nan)
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
    for begin, end, low, weights in _cached_bands(n_in, n_out, rate_in, rate_out):
        np.matmul(weights, x[low : low + weights.shape[1]], out=y[begin:end])
    if any_missing and nan == "spread":
        begins, ends = _support(n_in, rate_in, rate_out)
        count = np.concatenate([np.zeros((1, signal.shape[1]), np.int64), np.cumsum(missing, axis=0)])
        y[count[ends] > count[begins]] = np.nan
    return y


def _check_rule(nan: str) -> None:
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


def _band(begin: int, end: int, n_in: int, rate_in: float, rate_out: float) -> tuple[int, np.ndarray]:
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
def _bands(n_in: int, rate_in: float, rate_out: float) -> tuple[tuple[int, np.ndarray], ...]:
    n_out = output_samples(n_in, rate_in, rate_out)
    return tuple(_band(b, min(b + _BLOCK, n_out), n_in, rate_in, rate_out) for b in range(0, n_out, _BLOCK))


def _short_product(x_BTL: jax.Array, rate_in: float, rate_out: float) -> jax.Array:
    """One product per block."""
    blocks = [
        jnp.einsum("oi,bil->bol", weights, x_BTL[:, low : low + weights.shape[1]], precision=_EXACT)
        for low, weights in _bands(x_BTL.shape[1], rate_in, rate_out)
    ]
    return jnp.concatenate(blocks, axis=1)


def _long_product(x_BTL: jax.Array, rate_in: float, rate_out: float) -> jax.Array:
    """One product for all blocks that share their weights."""
    n_in = x_BTL.shape[1]
    n_out = output_samples(n_in, rate_in, rate_out)
    groups: dict[int, tuple[np.ndarray, list[int], list[int]]] = {}
    for number, (_, _, low, weights) in enumerate(_cached_bands(n_in, n_out, rate_in, rate_out)):
        _, numbers, lows = groups.setdefault(id(weights), (weights, [], []))
        numbers.append(number)
        lows.append(low)
    block = _period(rate_in, rate_out)
    products, order = [], []
    for weights, numbers, lows in groups.values():
        windows = x_BTL[:, np.array(lows)[:, None] + np.arange(weights.shape[1])]
        full = np.pad(weights, ((0, block - len(weights)), (0, 0)))  # only the last block has fewer rows
        products.append(jnp.einsum("oi,bnil->bnol", full, windows, precision=_EXACT))
        order.extend(numbers)
    y_BTL = jnp.concatenate(products, axis=1)[:, np.argsort(order)]
    return y_BTL.reshape(y_BTL.shape[0], -1, x_BTL.shape[2])[:, :n_out]


def _cached_bands(n_in: int, n_out: int, rate_in: float, rate_out: float) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(begin, end, first column, weights) of all blocks; those with the same weights up to 1e-7 samples share them."""
    block = _period(rate_in, rate_out)
    cache: dict[bytes, tuple[int, np.ndarray]] = {}
    for begin in range(0, n_out, block):
        end = min(begin + block, n_out)
        before, fraction, step = _times(begin, end, rate_in, rate_out)
        reach = len(_filter()[0]) // step + 1
        if before[0] < reach or before[-1] + reach >= n_in:  # cut by an end of the signal: weights of its own
            yield begin, end, *_band(begin, end, n_in, rate_in, rate_out)
            continue
        key = (before - before[0]).tobytes() + np.round(fraction, 7).tobytes()
        if key not in cache:
            low, weights = _band(begin, end, n_in, rate_in, rate_out)
            if len(cache) < 16:
                cache[key] = (low - int(before[0]), weights)
            yield begin, end, low, weights
        else:
            shift, weights = cache[key]
            yield begin, end, int(before[0]) + shift, weights


def _period(rate_in: float, rate_out: float) -> int:
    """A block length after which the weights repeat, if there is a practical one."""
    for samples in range(1, 1025):
        inputs = samples * rate_in / rate_out
        if abs(inputs - round(inputs)) < 1e-9:
            return samples * -(-256 // samples)
    return 256


def _support(n_in: int, rate_in: float, rate_out: float) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last input sample that resampy visits for each output sample."""
    before, fraction, step = _times(0, output_samples(n_in, rate_in, rate_out), rate_in, rate_out)
    scale = min(1.0, float(rate_out) / rate_in)
    points = _ZERO_CROSSINGS * _POINTS + 1
    left = (points - (fraction * _POINTS).astype(np.int64)) // step
    right = (points - ((scale - fraction) * _POINTS).astype(np.int64)) // step
    return np.maximum(before + 1 - left, 0), np.minimum(before + 1 + right, n_in)
