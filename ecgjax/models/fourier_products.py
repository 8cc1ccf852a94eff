"""Circular convolution over time through the Fourier transform as matrix products, in one stage or in two.

A TPU has no FFT worth the name at these lengths: XLA makes matrix products of a length that is no power of two, and
moves several times the memory. Written as products with constant matrices, real numbers only, it is what the chip is
built for. One stage needs O(n^2) arithmetic; two stages (Cooley and Tukey's step, n = n1 n2) need O(n (n1 + n2)), and
one more pass over the spectrum.

Shape suffixes: B batch, L time, H channels, F frequencies.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Float32 means float32: a TPU's default would round the factors to bfloat16.
_dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def one_stage(u: Array, k: Array) -> Array:
    """First L samples of the circular convolution of length 2 L.

    Args:
        u: (batch, L, channels).
        k: (channels, taps), up to 2 L taps.
    """
    length, taps = u.shape[1], k.shape[1]
    forward, back = real_fourier(2 * length)
    u_real, u_imag = jnp.split(_dot("ft,bth->bfh", forward[:, :length], u), 2, axis=1)
    k_real, k_imag = jnp.split(_dot("ft,ht->fh", forward[:, :taps], k)[None], 2, axis=1)
    product = jnp.concatenate([u_real * k_real - u_imag * k_imag, u_real * k_imag + u_imag * k_real], 1)
    return _dot("tf,bfh->bth", back[:length], product)


def two_stages(u: Array, k: Array) -> Array:
    """As `one_stage`, with times t = n2 r + s and frequencies f = p + n1 q.

    The sum over r is a real product for p up to n1 / 2 (the rest is conjugate); the twiddle factors and the sum over s
    are one complex product for each p, written as a real one of twice the size.
    """
    batch, length, channels = u.shape
    n2 = _divisor(2 * length)
    n1 = 2 * length // n2
    first, second, inverse_second, inverse_first = _stages(n1, n2)

    def spectrum(x: Array) -> Array:
        rows = -(-x.shape[1] // n2)
        x = jnp.pad(x, ((0, 0), (0, rows * n2 - x.shape[1]), (0, 0)))
        x = _dot("cpr,brsh->bpcsh", first[:, :, :rows], x.reshape(x.shape[0], rows, n2, channels))
        return _dot("pdqcs,bpcsh->bpdqh", second, x)

    U, K = spectrum(u), spectrum(k.T[None])
    real, imag = U[:, :, 0] * K[:, :, 0] - U[:, :, 1] * K[:, :, 1], U[:, :, 0] * K[:, :, 1] + U[:, :, 1] * K[:, :, 0]
    product = jnp.stack([real, imag], 2)
    rows = -(-length // n2)
    x = _dot("pcsdq,bpdqh->bpcsh", inverse_second, product)
    y = _dot("rpc,bpcsh->brsh", inverse_first[:rows], x)
    return y.reshape(batch, rows * n2, channels)[:, :length]


def inverse(spectrum: Array, n: int, length: int) -> Array:
    """Inverse real Fourier transform over the last axis as one matrix product.

    Args:
        spectrum: (..., n // 2 + 1) complex.
        n: length of the transform.
        length: first samples of it that are wanted.

    Returns:
        (..., length).
    """
    _, back = real_fourier(n)
    return _dot("...f,tf->...t", jnp.concatenate([spectrum.real, spectrum.imag], -1), back[:length])


def _divisor(n: int) -> int:
    """The largest divisor of n up to its square root: the second stage is a product of four times its square."""
    return max(d for d in range(1, int(n**0.5) + 1) if n % d == 0)


@cache
def _fourier_host(n: int) -> tuple[np.ndarray, np.ndarray]:
    # j k mod n first: the angle is then exact in float64 however long the signal.
    angle = 2 * np.pi * (np.outer(np.arange(n // 2 + 1), np.arange(n)) % n) / n
    weight = np.full((n // 2 + 1, 1), 2.0 / n)
    weight[[0, -1] if n % 2 == 0 else 0] = 1.0 / n
    forward = np.concatenate([np.cos(angle), -np.sin(angle)])
    back = np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)]).T
    return forward.astype(np.float32), back.astype(np.float32)


def real_fourier(n: int) -> tuple[Array, Array]:
    """Real matrices of the real Fourier transform, (2F, n), and of its inverse, (n, 2F), F = n // 2 + 1."""
    forward, back = _fourier_host(n)
    return jnp.asarray(forward), jnp.asarray(back)


@cache
def _stages_host(n1: int, n2: int) -> tuple[np.ndarray, ...]:
    n, half = n1 * n2, n1 // 2 + 1
    p, r, q, s = np.arange(half), np.arange(n1), np.arange(n2), np.arange(n2)
    angle = 2 * np.pi * (np.outer(p, r) % n1) / n1
    first = np.stack([np.cos(angle), -np.sin(angle)])  # (2, p, r)
    # exp(-2 pi i s (p + n1 q) / n): twiddle factors and the second transform in one.
    angle = 2 * np.pi * (s[None, None] * (p[:, None, None] + n1 * q[None, :, None]) % n) / n  # (p, q, s)
    c, d = np.cos(angle), np.sin(angle)
    second = np.empty((half, 2, n2, 2, n2))  # (p, out part, q, in part, s)
    second[:, 0, :, 0], second[:, 0, :, 1] = c, d
    second[:, 1, :, 0], second[:, 1, :, 1] = -d, c
    inverse_second = second.transpose(0, 3, 4, 1, 2)  # the conjugate transpose
    # Rows p and n1 - p are conjugate: both are counted at once, but those that are their own.
    weight = np.full(half, 2.0 / n)
    weight[0] = 1.0 / n
    if n1 % 2 == 0:
        weight[-1] = 1.0 / n
    inverse_first = (first * weight[None, :, None]).transpose(2, 1, 0)  # (r, p, part)
    return tuple(x.astype(np.float32) for x in (first, second, inverse_second, inverse_first))


def _stages(n1: int, n2: int) -> tuple[Array, ...]:
    return tuple(jnp.asarray(x) for x in _stages_host(n1, n2))
