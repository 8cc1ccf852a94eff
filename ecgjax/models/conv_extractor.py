"""Strided convolutions from a waveform to tokens, as in wav2vec 2.0: the first with a norm per channel over time."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ecgjax.models.layers import Conv, gelu, kaiming_normal

Array = jax.Array


class ChannelNorm(nn.Module):
    """Each channel to mean 0 and variance 1 over time (group norm with a group per channel), scale and bias.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        dtype, x = x.dtype, x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = x - jnp.mean(x, 1, keepdims=True)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), 1, keepdims=True) + self.epsilon)
        return (x * scale[None, None] + bias[None, None]).astype(dtype)


class ConvExtractor(nn.Module):
    """Convolutions without bias and padding, GELU after each, `ChannelNorm` before the first GELU.

    Attributes:
        width: channels.
        layers: (taps, stride) of each.
    """

    width: int
    layers: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, dict[str, Array]]:
        taps = {}
        for i, (width, stride) in enumerate(self.layers):
            init = kaiming_normal(width * x.shape[-1])
            x = Conv(self.width, width, stride, use_bias=False, kernel_init=init, name=f"conv_{i}")(x)
            if i == 0:
                x = ChannelNorm(name="norm")(x)
            x = taps[f"conv_{i}"] = gelu(x)
        return x, taps


def least_samples(layers: Sequence[tuple[int, int]]) -> int:
    """Samples that make one token."""
    samples = 1
    for width, stride in reversed(layers):
        samples = (samples - 1) * stride + width
    return samples
