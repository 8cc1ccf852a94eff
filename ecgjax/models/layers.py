"""Layers that two or more models share, with the behaviour and the initialisation of their torch namesakes.

Parameters and statistics are float32; computation is in the type of the input, in norms always in float32.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ecgjax.models.convolution import Padding, convolution, linear

Array = jax.Array


Initialiser = Callable[[Array, Sequence[int]], Array]


def uniform(bound: float) -> Initialiser:
    """Uniform on +-bound."""
    return lambda key, shape: _shaped(_uniform(key, bound, _size(shape)), tuple(shape))


def normal(deviation: float) -> Initialiser:
    """Normal with mean 0."""
    return lambda key, shape: _shaped(_normal(key, deviation, _size(shape)), tuple(shape))


def torch_uniform(fan_in: int) -> Initialiser:
    """Torch's default for weights and biases of linear layers and convolutions: uniform on +-1/sqrt(fan_in)."""
    return uniform(1.0 / math.sqrt(fan_in))


def kaiming_normal(fan_in: int) -> Initialiser:
    """Normal with variance 2 / fan_in (He et al. 2015, arXiv:1502.01852)."""
    return normal(math.sqrt(2 / fan_in))


def xavier_uniform(key: Array, shape: Sequence[int]) -> Array:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010), of a linear layer's kernel."""
    return uniform(math.sqrt(6 / sum(shape)))(key, shape)


# A random number generator takes a third of a second to compile for every size, and a network has sixty shapes: so
# vectors of a few sizes are drawn, and cut.


def _size(shape: Sequence[int]) -> int:
    return max(1 << 14, 1 << (math.prod(shape) - 1).bit_length())


@partial(jax.jit, static_argnums=2)
def _uniform(key: Array, bound: float, size: int) -> Array:
    return jax.random.uniform(key, (size,), jnp.float32, -bound, bound)


@partial(jax.jit, static_argnums=2)
def _normal(key: Array, deviation: float, size: int) -> Array:
    return deviation * jax.random.normal(key, (size,), jnp.float32)


@partial(jax.jit, static_argnums=1)
def _shaped(values: Array, shape: tuple[int, ...]) -> Array:
    return values[: math.prod(shape)].reshape(shape)


def gelu(x: Array) -> Array:
    """Exact GELU by `erf`; `jax.nn.gelu` goes through `erfc`, which costs more and rounds differently."""
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))


class Dense(nn.Module):
    """Position-wise linear layer.

    Attributes:
        features: output channels.
        use_bias: add a bias.
        kernel_init: initialiser of the kernel, beside a bias of 0; None: torch's default for both.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initialiser | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        fan_in = x.shape[-1]
        default = torch_uniform(fan_in)
        kernel = self.param("kernel", self.kernel_init or default, (fan_in, self.features))
        x = linear(x, kernel.astype(x.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros if self.kernel_init else default, (self.features,))
            x = x + row(bias.astype(x.dtype), x)
        return x


class Conv(nn.Module):
    """Convolution over time (cross-correlation) of (batch, time, channels).

    Attributes:
        features: output channels.
        width: taps of the kernel.
        stride: step.
        padding: zeros before and after, or "same" (TensorFlow's: ceil(time / stride) outputs).
        use_bias: add a bias.
        groups: independent parts of the channels.
        kernel_init: initialiser of the kernel; None: torch's default.
    """

    features: int
    width: int
    stride: int = 1
    padding: Padding = (0, 0)
    use_bias: bool = True
    groups: int = 1
    kernel_init: Initialiser | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inside = x.shape[-1] // self.groups
        default = torch_uniform(inside * self.width)
        kernel = self.param("kernel", self.kernel_init or default, (self.width, inside, self.features))
        x = convolution(x, kernel.astype(x.dtype), self.stride, self.padding, self.groups)
        if self.use_bias:
            x = x + row(self.param("bias", default, (self.features,)).astype(x.dtype), x)
        return x


class LayerNorm(nn.Module):
    """torch's layer norm over the last axis (two-pass variance).

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        dtype, x = x.dtype, at_least_float32(x)
        x = x - jnp.mean(x, -1, keepdims=True)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + self.epsilon)
        return (x * row(scale, x) + row(bias, x)).astype(dtype)


def row(v: Array, x: Array) -> Array:
    """A vector over channels, shaped to combine with `x`; rank promotion is never left to chance."""
    return v.reshape((1,) * (x.ndim - 1) + (-1,))


def at_least_float32(x: Array) -> Array:
    """In the type of statistics: float32, or float64 as it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
