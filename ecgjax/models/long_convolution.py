"""Convolution over time with kernels as long as the signal: one function, several forms, the same result."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from ecgjax.models.block_toeplitz import block_toeplitz
from ecgjax.models.fourier_products import one_stage, two_stages

Array = jax.Array
_Form = Callable[[Array, Array, Array | None], Array]

CHOICE: dict[str, tuple[tuple[float, str], ...]] = {
    "tpu": ((550, "matmul"), (float("inf"), "two_stages")),
    "cuda": ((float("inf"), "fft"),),
    "cpu": ((float("inf"), "fft"),),
}
"""Platform -> (length up to which, form).

By what XLA says of the programs compiled for a TPU v5e (32 x 512 channels, float32; forward / with gradients), and the
least time that FLOPs at 32.8 TFLOP/s and bytes at 819 GB/s leave:

    length             form         GFLOP          MB              at least ms
    300 causal         matmul       12.1 / 24.2    255 / 508       0.37 / 0.74
                       two_stages   2.6 / 5.2      577 / 1,270     0.70 / 1.55
                       fft          71.7 / 132     1,060 / 2,255   2.19 / 4.02    (default precision)
    1,000 both ways    two_stages   14.7 / 29.7    1,530 / 3,787   1.87 / 4.62
    1,200 causal       matmul       192 / 384      1,512 / 2,451   5.85 / 11.7
                       two_stages   20.3 / 40.8    1,812 / 4,505   2.21 / 5.50
                       fft          52.5           11,158          13.6           (9 minutes to compile)

The limit is where lines through the figures of "matmul" and "two_stages" meet. At 300 all spectra of "matmul" stay on
the chip, so its bytes are not those of the large memory. No bytes are known for GPUs; on a CPU `jnp.fft` wins by time.
`python -m benchmarks.long_convolution` makes these figures.
"""


def long_convolution(u: Array, past: Array, future: Array | None = None, form: str = "auto") -> Array:
    """Linear convolution of every channel with its own kernel.

    y_t = sum_{s <= t} past_{t-s} u_s + sum_{s > t} future_{s-t-1} u_s

    Args:
        u: (batch, L, channels).
        past: (channels, L), the causal kernel.
        future: (channels, L), the kernel of the strict future, or None.
        form: "fft" (of exactly 2 L), "matmul" (the Fourier transform as one matrix product), "two_stages" (as two),
            "blocks of N" (of a Toeplitz matrix), or "auto": the one that `CHOICE` gives the platform that the program
            is compiled for. All work in float32 throughout.

    Returns:
        (batch, L, channels).
    """
    if form != "auto":
        return _form(form)(u, past, future)
    forms = {platform: _form(_chosen(limits, u.shape[1])) for platform, limits in CHOICE.items()}
    return jax.lax.platform_dependent(u, past, future, tpu=forms["tpu"], cuda=forms["cuda"], default=forms["cpu"])


def _chosen(limits: tuple[tuple[float, str], ...], length: int) -> str:
    return next(form for most, form in limits if length <= most)


def _form(name: str) -> _Form:
    if name in _CIRCULAR:
        return lambda u, past, future: _CIRCULAR[name](u, _circular(past, future))
    kind, _, block = name.partition(" of ")
    if kind == "blocks" and block.isdecimal() and int(block):
        return partial(block_toeplitz, block=int(block))
    raise ValueError(f"form is {name!r}; expected {', '.join(map(repr, _CIRCULAR))}, 'blocks of N' or 'auto'")


def _circular(past: Array, future: Array | None) -> Array:
    """The kernel of the circular convolution of length 2L: the future sits at the end, where negative lags wrap to."""
    return past if future is None else jnp.concatenate([past, future[:, ::-1]], -1)


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

_CIRCULAR: dict[str, Callable[[Array, Array], Array]] = {
    "fft": _by_fft,
    "matmul": one_stage,
    "two_stages": two_stages,
}
