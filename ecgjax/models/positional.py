"""Where a token stands: sine-cosine tables, and the grouped convolution over tokens of wav2vec 2.0 and its kin."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ecgjax.models.convolution import convolution
from ecgjax.models.layers import Initialiser, gelu, normal, torch_uniform

Array = jax.Array


def sine_cosine(positions: Sequence[int] | np.ndarray, channels: int) -> np.ndarray:
    """Sines, then cosines, of the positions at channels / 2 frequencies from 1 down to nearly 1e-4, in float64.

    Returns:
        (positions, channels).
    """
    half = channels // 2
    angle = np.asarray(positions)[:, None] * 10000.0 ** (-np.arange(half) / half)
    return np.concatenate([np.sin(angle), np.cos(angle)], 1)


class PositionalConv(nn.Module):
    """Grouped convolution over tokens with a weight-normalised kernel, and GELU; the caller adds the tokens.

    Each tap of the kernel has a direction and a norm of its own: w = gain v / |v|.

    Attributes:
        width: taps, even: one token more is seen before than after.
        groups: independent parts of the channels.
        kernel_init: of v; None: torch's default. The gain starts at |v|, the bias at 0.
    """

    width: int = 128
    groups: int = 16
    kernel_init: Initialiser | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        inside = channels // self.groups
        init = self.kernel_init or torch_uniform(inside * self.width)
        direction = self.param("direction", init, (self.width, inside, channels))
        gain = self.param("gain", lambda key, shape: _norm(direction).reshape(shape), (self.width,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        kernel = direction * (gain[:, None, None] / _norm(direction))
        half = self.width // 2
        y = convolution(x, kernel.astype(x.dtype), padding=(half, half - 1), groups=self.groups)
        return gelu(y + bias.astype(x.dtype)[None, None])


def _norm(v: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(v), (1, 2), keepdims=True))


def scaled_normal(width: int, channels: int) -> Initialiser:
    """wav2vec 2.0's initialisation of the positional kernel: normal with variance 4 / (width channels)."""
    return normal(math.sqrt(4 / (width * channels)))
