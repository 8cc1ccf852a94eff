"""Change of sampling rate as one linear operator: resampy's "kaiser_best", exactly, as (banded) matrix products.

The benchmark resamples every crop with resampy 0.4.3. That is band-limited interpolation (J. O. Smith, "Digital Audio
Resampling Home Page") with a tabulated Kaiser-windowed sinc: output sample m is a fixed weighted sum of the input
samples around time m * rate_in / rate_out, samples outside the input counting as zero. The weights depend on the length
and the rates only, so they are computed once, on the host, in float64, and crops are resampled where they are used, on
the device. A block of 128 output samples needs only the input samples under its kernels: `resample` multiplies block by
block, which takes a CPU up to 8 times less time than the dense matrix and still gives a TPU full tiles.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.data.resampling_host import (
    SHORT,
    NanRule,
    bands,
    cached_bands,
    check_rule,
    output_samples,
    period,
    resample_signal,
    resampling_matrix,
    support,
)
from ecgjax.errors import UserError

__all__ = ["NanRule", "output_samples", "resample", "resample_signal", "resampling_matrix"]

_EXACT = jax.lax.Precision.HIGHEST  # otherwise TPUs multiply in bfloat16 and GPUs in TF32


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
    check_rule(nan)
    if x.ndim < 2:
        raise UserError(f"resample: a signal of shape {x.shape}; expected (..., samples, leads)")
    n_in, leads = x.shape[-2:]
    n_out = output_samples(n_in, rate_in, rate_out)
    if rate_in == rate_out:
        return x if nan == "spread" else jnp.where(jnp.isnan(x), jnp.zeros_like(x), x)
    missing = jnp.isnan(x)
    x_BTL = jnp.where(missing, jnp.zeros_like(x), x).reshape(-1, n_in, leads)
    product = _short_product if n_out <= SHORT else _long_product
    y_BTL = product(x_BTL, float(rate_in), float(rate_out))
    y = y_BTL.reshape(*x.shape[:-2], n_out, leads)
    if nan == "spread":
        begins, ends = support(n_in, rate_in, rate_out)
        count = jnp.cumsum(missing, axis=-2, dtype=jnp.int32)
        count = jnp.concatenate([jnp.zeros_like(count[..., :1, :]), count], axis=-2)
        y = jnp.where(count[..., ends, :] > count[..., begins, :], jnp.nan, y)
    return y


def _short_product(x_BTL: jax.Array, rate_in: float, rate_out: float) -> jax.Array:
    """One product per block."""
    blocks = [
        jnp.einsum("oi,bil->bol", weights, x_BTL[:, low : low + weights.shape[1]], precision=_EXACT)
        for low, weights in bands(x_BTL.shape[1], rate_in, rate_out)
    ]
    return jnp.concatenate(blocks, axis=1)


def _long_product(x_BTL: jax.Array, rate_in: float, rate_out: float) -> jax.Array:
    """One product for all blocks that share their weights."""
    n_in = x_BTL.shape[1]
    n_out = output_samples(n_in, rate_in, rate_out)
    groups: dict[int, tuple[np.ndarray, list[int], list[int]]] = {}
    for number, (_, _, low, weights) in enumerate(cached_bands(n_in, n_out, rate_in, rate_out)):
        _, numbers, lows = groups.setdefault(id(weights), (weights, [], []))
        numbers.append(number)
        lows.append(low)
    block = period(rate_in, rate_out)
    products, order = [], []
    for weights, numbers, lows in groups.values():
        windows = x_BTL[:, np.array(lows)[:, None] + np.arange(weights.shape[1])]
        full = np.pad(weights, ((0, block - len(weights)), (0, 0)))  # only the last block has fewer rows
        products.append(jnp.einsum("oi,bnil->bnol", full, windows, precision=_EXACT))
        order.extend(numbers)
    y_BTL = jnp.concatenate(products, axis=1)[:, np.argsort(order)]
    return y_BTL.reshape(y_BTL.shape[0], -1, x_BTL.shape[2])[:, :n_out]
