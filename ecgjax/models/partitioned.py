"""Convolution over time in parts, each by the Fourier transform as one matrix product (Stockham 1966; Gardner 1995).

Signal and kernel are cut into parts, each part is transformed once, and a part of the output is the sum over the parts
of the signal of products of spectra. The transforms need O(L n) arithmetic for parts of n samples rather than O(L^2),
and no spectrum is moved more often than with one transform of the whole.

Shape suffixes: B batch, M parts, T samples of a part, F frequencies, H channels, D distances between parts, C the real
and the imaginary part.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ecgjax.models.fourier_products import real_fourier

Array = jax.Array

_dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def partitioned(u: Array, past: Array, future: Array | None, part: int) -> Array:
    """`ecgjax.models.long_convolution.long_convolution` in parts.

    Args:
        u: (batch, L, channels).
        past: (channels, L).
        future: (channels, L) or None.
        part: samples.
    """
    batch, length, channels = u.shape
    parts = -(-length // part)
    padded = parts * part
    forward, back = real_fourier(2 * part)
    forward_CFT = forward.reshape(2, part + 1, 2 * part)
    back_TCF = back.reshape(2 * part, 2, part + 1)
    u_BMTH = jnp.pad(u, ((0, 0), (0, padded - length), (0, 0))).reshape(batch, parts, part, channels)
    U_CBMFH = _dot("cft,bmth->cbmfh", forward_CFT[..., :part], u_BMTH)

    # Taps of all lags from -first to `padded`, zero outside of the kernel.
    least = 0 if future is None else 1 - parts
    before = jnp.zeros((channels, 0)) if future is None else future[:, ::-1]
    first = (1 - least) * part
    taps = jnp.pad(jnp.concatenate([before, past], 1), ((0, 0), (first - before.shape[1], padded - length)))
    # Parts at distance d meet in the lags from (d - 1) part to (d + 1) part; negative ones wrap to the end.
    starts = [first + d * part for d in range(parts - 1, least - 1, -1)]
    windows_HDT = jnp.stack([jnp.roll(taps[:, s - part : s + part], part, 1) for s in starts], 1)
    K_CDFH = _dot("cft,hdt->cdfh", forward_CFT, windows_HDT)
    K_CDFH = jnp.pad(K_CDFH, ((0, 0), (0, 2 * parts - 1 - len(starts)), (0, 0), (0, 0)))
    # One sum for each part of the output, over all parts of the signal.
    K_CMMFH = jnp.stack([K_CDFH[:, parts - 1 - i : 2 * parts - 1 - i] for i in range(parts)], 1)

    def times(a: int, b: int) -> Array:
        return jnp.sum(U_CBMFH[a][:, None] * K_CMMFH[b][None], 2)

    Y_CBMFH = jnp.stack([times(0, 0) - times(1, 1), times(0, 1) + times(1, 0)])
    y_BMTH = _dot("tcf,cbmfh->bmth", back_TCF[:part], Y_CBMFH)
    return y_BMTH.reshape(batch, padded, channels)[:, :length]
