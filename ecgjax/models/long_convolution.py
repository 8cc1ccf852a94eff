"""Convolution over time with kernels as long as the signal: one function, two forms, the same result."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def long_convolution(u: Array, past: Array, future: Array | None = None, form: str = "auto") -> Array:
    """Linear convolution of every channel with its own kernel.

    y_t = sum_{s <= t} past_{t-s} u_s + sum_{s > t} future_{s-t-1} u_s

    Args:
        u: (batch, L, channels).
        past: (channels, L), the causal kernel.
        future: (channels, L), the kernel of the strict future, or None.
        form: "fft", "matmul" (the Fourier transform as matrix products: on a TPU a fifth of the memory traffic of its
            FFT), or "auto": the one that suits the platform the program is compiled for.

    Returns:
        (batch, L, channels).
    """
    # Circular of length 2L: the future kernel sits at the end, where negative lags wrap to.
    k = past if future is None else jnp.concatenate([past, future[:, ::-1]], -1)
    if form == "fft":
        return _by_fft(u, k)
    if form == "matmul":
        return _by_matmul(u, k)
    if form != "auto":
        raise ValueError(f"form is {form!r}; expected 'fft', 'matmul' or 'auto'")
    return jax.lax.platform_dependent(u, k, tpu=_by_matmul, default=_by_fft)


@jax.custom_vjp
def _by_fft(u: Array, k: Array) -> Array:
    return _forward(u, k)[0]


def _forward(u: Array, k: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    n = 2 * u.shape[1]
    u_BHF = jnp.fft.rfft(u.swapaxes(1, 2), n)
    k_HF = jnp.fft.rfft(k, n)
    y = jnp.fft.irfft(u_BHF * k_HF[None], n)[..., : u.shape[1]]
    return y.swapaxes(1, 2), (u_BHF, k_HF, jnp.zeros(k.shape[-1]))


def _backward(residuals: tuple[Array, Array, Array], g: Array) -> tuple[Array, Array]:
    # The gradient of a convolution is a correlation. Written out because JAX transposes a real FFT into a complex one.
    u_BHF, k_HF, taps = residuals
    n = 2 * g.shape[1]
    g_BHF = jnp.fft.rfft(g.swapaxes(1, 2), n)
    du = jnp.fft.irfft(g_BHF * k_HF.conj()[None], n)[..., : g.shape[1]]
    dk = jnp.fft.irfft(jnp.sum(g_BHF * u_BHF.conj(), 0), n)[..., : taps.shape[0]]
    return du.swapaxes(1, 2), dk


_by_fft.defvjp(_forward, _backward)


def _by_matmul(u: Array, k: Array) -> Array:
    length, taps = u.shape[1], k.shape[1]
    forward, back = _fourier(2 * length)
    dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    u_real, u_imag = jnp.split(dot("ft,bth->bfh", forward[:, :length], u), 2, axis=1)
    k_real, k_imag = jnp.split(dot("ft,ht->fh", forward[:, :taps], k)[None], 2, axis=1)
    product = jnp.concatenate([u_real * k_real - u_imag * k_imag, u_real * k_imag + u_imag * k_real], 1)
    return dot("tf,bfh->bth", back[:length], product)


def _fourier(n: int) -> tuple[Array, Array]:
    """Real matrices of the real Fourier transform, (2F, n), and of its inverse, (n, 2F), F = n // 2 + 1; n even."""
    # j k mod n first: the angle is then exact in float64 however long the signal.
    angle = 2 * np.pi * (np.outer(np.arange(n // 2 + 1), np.arange(n)) % n) / n
    weight = np.full((n // 2 + 1, 1), 2.0 / n)
    weight[[0, -1]] = 1.0 / n
    forward = np.concatenate([np.cos(angle), -np.sin(angle)])
    back = np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)]).T
    return jnp.asarray(forward, jnp.float32), jnp.asarray(back, jnp.float32)
