"""Convolutions and pooling over time of (batch, time, channels).

Grouped convolutions have one meaning and five forms. What is fastest differs: GPUs want the plain operation, and so do
TPUs but for few channels, where a dense convolution moves less. On a CPU XLA's weight gradient of it takes up to ten
times as long as the rest. There its place is taken by a dense convolution per group, by one matrix product per group
whose matrix holds the kernel once for every output of a block, or, for long kernels and short signals, by one matrix
product per group and frequency.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ecgjax.models.fourier_products import real_fourier

Array = jax.Array
Padding = tuple[int, int] | Literal["same"]


def same_padding(length: int, width: int, stride: int) -> tuple[int, int]:
    """Zeros before and after that make ceil(length / stride) outputs; of an odd number one more goes after."""
    outputs = -(-length // stride)
    total = max(0, (outputs - 1) * stride + width - length)
    return total // 2, total - total // 2


def convolution(
    x: Array, kernel: Array, stride: int = 1, padding: Padding = (0, 0), groups: int = 1, form: str = "auto"
) -> Array:
    """Cross-correlation over time.

    Args:
        x: (batch, time, channels).
        kernel: (width, channels / groups, features).
        stride: step.
        padding: zeros before and after, or "same" (see `same_padding`).
        groups: independent parts of the channels.
        form: of a grouped convolution: "plain", "dense", "split", "blocks of N", "fourier", or "auto", what
            suits the platform the program is compiled for and the shape.

    Returns:
        (batch, outputs, features).
    """
    width = kernel.shape[0]
    pads = same_padding(x.shape[1], width, stride) if padding == "same" else padding
    if width == groups == 1 and pads == (0, 0):
        return linear(x[:, ::stride], kernel[0])
    if groups == 1:
        return _plain(x, kernel, stride, pads, 1)
    if form == "auto":
        outputs = (x.shape[1] + sum(pads) - width) // stride + 1
        on_cpu = _bind(cpu_form(groups, outputs, width, stride), stride, pads, groups)
        on_tpu = _bind(tpu_form(max(x.shape[2], kernel.shape[2])), stride, pads, groups)
        plain = _bind("plain", stride, pads, groups)
        return lax.platform_dependent(x, kernel, cpu=on_cpu, tpu=on_tpu, default=plain)
    return _bind(form, stride, pads, groups)(x, kernel)


def linear(x: Array, kernel: Array) -> Array:
    """Matrix product over the last axis: (..., channels) with (channels, features).

    On a CPU the other axes are made one first: the kernel's gradient then is a plain matrix product, which takes three
    quarters of the time of the contraction over several axes. On a TPU that reshape can cost a copy.
    """

    def flat(x: Array, kernel: Array) -> Array:
        *others, channels = x.shape
        return (x.reshape(math.prod(others), channels) @ kernel).reshape(*others, kernel.shape[1])

    return lax.platform_dependent(x, kernel, cpu=flat, default=jnp.matmul)


def cpu_form(groups: int, outputs: int, width: int = 16, stride: int = 1) -> str:
    """The form for a CPU, by measurement (`benchmarks/convolutions.py`).

    Measured with 16 taps and 16 channels per group, and with 128 taps and 48 channels per group: there "fourier" takes
    a quarter of the time of "plain" forward (batch 32) and a twentieth of it with gradients. "split" is a fifth faster
    than "blocks of 4" for 25 groups too, but each of its parts takes a tenth of a second to compile.
    """
    if width >= 64 and stride == 1:
        return "fourier"
    if groups <= 10:
        return "split"
    if outputs <= 5:
        return "blocks of 5"
    return "fourier" if outputs * stride**2 <= 80 else "blocks of 4"


def tpu_form(channels: int) -> str:
    """The form for a TPU, by the compiler's bytes for a v5e (`benchmarks/formulations.py`).

    16 taps, 16 channels per group, batch 32 x 313 samples, float32; MB moved forward / with gradients: 64 channels
    plain 48 / 132, dense 28 / 76; 128 channels plain 95 / 255, dense 33 / 72. "dense" has up to eight times the FLOPs
    of "plain", but a group of 16 takes up a 128 x 128 tile of the matrix unit like 128 channels do.
    """
    return "dense" if channels <= 128 else "plain"


def _bind(form: str, stride: int, padding: tuple[int, int], groups: int) -> Callable[[Array, Array], Array]:
    """The form as a function of arrays alone, which is what `lax.platform_dependent` chooses between."""
    name, _, size = form.partition(" of ")
    if name == "blocks":
        return lambda x, kernel: _blocks(x, kernel, stride, padding, groups, int(size))
    function = {"plain": _plain, "dense": _dense, "split": _split, "fourier": _fourier}[name]
    return lambda x, kernel: function(x, kernel, stride, padding, groups)


def _plain(x: Array, kernel: Array, stride: int, padding: tuple[int, int], groups: int) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride,), (padding,), dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
    )


def _dense(x: Array, kernel: Array, stride: int, padding: tuple[int, int], groups: int) -> Array:
    """One convolution of all channels, whose kernel is zero between the groups."""
    width, inside, features = kernel.shape
    own = jnp.asarray(np.repeat(np.eye(groups, dtype=bool), features // groups, 1), kernel.dtype)
    kernel = (kernel[:, None] * own[None, :, None]).reshape(width, groups * inside, features)
    return _plain(x, kernel, stride, padding, 1)


def _split(x: Array, kernel: Array, stride: int, padding: tuple[int, int], groups: int) -> Array:
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([_plain(a, b, stride, padding, 1) for a, b in parts], -1)


def _blocks(
    x: Array, kernel: Array, stride: int, padding: tuple[int, int], groups: int, outputs_per_block: int
) -> Array:
    """One matrix product per group: windows that make a block of outputs, times the matrix of that convolution."""
    batch, length = x.shape[:2]
    width, inside, features = kernel.shape
    outputs = (length + sum(padding) - width) // stride + 1
    block = min(outputs_per_block, outputs)
    blocks = -(-outputs // block)
    if blocks == 1:
        # The matrix has no rows for the zeros around the signal.
        first, window = -padding[0], length
        x = x[:, None]
    else:
        first, window, step = 0, (block - 1) * stride + width, block * stride
        reach = -(-window // step)
        after = (blocks + reach - 1) * step - padding[0] - length
        x = jnp.pad(x[:, : length + min(after, 0)], ((0, 0), (padding[0], max(after, 0)), (0, 0)))
        steps = x.reshape(batch, blocks + reach - 1, step, -1)
        x = jnp.concatenate([steps[:, k : k + blocks] for k in range(reach)], 2)[:, :, :window]
    # Column by column: the kernel, shifted by a stride for every output of the block.
    reach = (block - 1) * stride
    taps = kernel.reshape(width, inside, groups, -1).transpose(2, 0, 1, 3)
    taps = jnp.pad(taps, ((0, 0), (max(first + reach, 0), max(window - first - width, 0)), (0, 0), (0, 0)))
    starts = [max(first + reach, 0) - first - o * stride for o in range(block)]
    matrix = jnp.stack([taps[:, start : start + window] for start in starts], 3)
    x_GBI = x.reshape(batch, blocks, window, groups, inside).transpose(3, 0, 1, 2, 4)
    x_GBI = x_GBI.reshape(groups, batch * blocks, window * inside)
    y_GBO = jnp.einsum("gbi,gio->gbo", x_GBI, matrix.reshape(groups, window * inside, -1))
    y = y_GBO.reshape(groups, batch, blocks * block, -1).transpose(1, 2, 0, 3)
    return y.reshape(batch, blocks * block, features)[:, :outputs]


def _fourier(x: Array, kernel: Array, stride: int, padding: tuple[int, int], groups: int) -> Array:
    """One matrix product per group and frequency; the Fourier transforms are matrix products as well.

    Shape suffixes: F frequencies (real and imaginary parts where P stands before), T time, W taps, B batch, G groups,
    I and O channels of a group.
    """
    batch, length, channels = x.shape
    width, inside, features = kernel.shape
    outputs = (length + sum(padding) - width) // stride + 1
    n = max(length + max(padding), width)  # what wraps around meets no output
    forward, back = real_fourier(n)
    x_PFBGI = _exact("ft,btc->fbc", forward[:, :length], x.astype(jnp.float32))
    x_PFBGI = x_PFBGI.reshape(2, -1, batch, groups, channels // groups)
    k_WGIO = kernel.astype(jnp.float32).reshape(width, inside, groups, -1).swapaxes(1, 2)
    k_PFGIO = _exact("fw,wgio->fgio", forward[:, :width], k_WGIO).reshape(2, -1, *k_WGIO.shape[1:])
    # A correlation: the kernel's spectrum is conjugate.
    y_FBGO = _exact("fbgi,fgio->fbgo", lax.complex(*x_PFBGI), lax.complex(k_PFGIO[0], -k_PFGIO[1]))
    y_PFB = jnp.concatenate([y_FBGO.real, y_FBGO.imag]).reshape(-1, batch, features)
    wanted = (stride * np.arange(outputs) - padding[0]) % n
    return _exact("tf,fbc->btc", back[wanted], y_PFB).astype(x.dtype)


# Float32 means float32: a TPU's default would round the factors to bfloat16.
_exact = partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def max_pool(x: Array, width: int, stride: int, padding: tuple[int, int] = (0, 0), fill: float = -np.inf) -> Array:
    """Maximum over windows of `width` samples; `fill` stands beyond the ends.

    Of equal samples the first gets the gradient, as in torch. Written as comparisons of strided slices, whose gradient
    is cheap everywhere; that of `lax.reduce_window` is a scatter.
    """
    x = jnp.pad(x, ((0, 0), padding, (0, 0)), constant_values=fill)
    first, *others = _windows(x, width, stride)
    for other in others:
        first = jnp.where(first >= other, first, other)
    return first


def average_pool(x: Array, width: int, stride: int) -> Array:
    """Mean over windows, a last incomplete one too: over the samples it has (torch's `ceil_mode`)."""
    length = x.shape[1]
    outputs = -(-(length - width) // stride) + 1
    missing = max(0, (outputs - 1) * stride + width - length)
    x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
    count = np.minimum(width, length - stride * np.arange(outputs))
    return sum(_windows(x, width, stride)) / jnp.asarray(count, x.dtype)[None, :, None]


def _windows(x: Array, width: int, stride: int) -> list[Array]:
    """The k-th sample of every window, for each k."""
    outputs = (x.shape[1] - width) // stride + 1
    return [x[:, k : k + (outputs - 1) * stride + 1 : stride] for k in range(width)]
