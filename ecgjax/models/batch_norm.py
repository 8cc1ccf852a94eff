"""torch's batch norm, with a gradient of its own.

Through the two passes of the statistics, differentiation sums over the batch once for the variance and then, with that,
for the mean. The gradient in closed form (Ioffe and Szegedy 2015, arXiv:1502.03167) needs two sums that do not wait for
each other: chips that share a batch exchange three times in place of four. With gradients it takes a CPU 0.62 of the
time and moves 84 in place of 89 MB on a TPU v5e (`python -m benchmarks.formulations --only=norm`).
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ecgjax.models.layers import at_least_float32, row

Array = jax.Array
Saved = tuple[Array, Array, Array, Array]


class BatchNorm(nn.Module):
    """torch's batch norm over all axes but the last.

    In training it normalises with the biased batch variance and updates the running one with the unbiased
    (n / (n - 1)), which Linen's own batch norm does not.

    Attributes:
        momentum: weight of the new batch in the running statistics.
        epsilon: added to the variance.
        scale_init: initial scale.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    scale_init: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.constant(self.scale_init), (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train:
            inverse = lax.rsqrt(running_var.value + self.epsilon)
            return _affine(x, running_mean.value, inverse, scale, bias)
        y, mean, var = normalise(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            keep, new, n = 1.0 - self.momentum, self.momentum, x.size // channels
            running_mean.value = keep * running_mean.value + new * mean
            running_var.value = keep * running_var.value + new * var * (n / max(n - 1, 1))
        return y


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Normalises with the statistics of the batch.

    Args:
        x: (..., channels).
        scale: (channels,).
        bias: (channels,).
        epsilon: added to the variance.

    Returns:
        As `x`; and mean and biased variance, (channels,), which are constants to differentiation.
    """
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[tuple[Array, Array, Array], Saved]:
    wide, axes = at_least_float32(x), tuple(range(x.ndim - 1))
    mean = jnp.mean(wide, axes)
    var = jnp.mean(jnp.square(wide - row(mean, x)), axes)
    inverse = lax.rsqrt(var + epsilon)
    return (_affine(x, mean, inverse, scale, bias), mean, var), (x, mean, inverse, scale)


def _affine(x: Array, mean: Array, inverse: Array, scale: Array, bias: Array) -> Array:
    y = (at_least_float32(x) - row(mean, x)) * row(scale * inverse, x) + row(bias, x)
    return y.astype(x.dtype)


def _backward(epsilon: float, saved: Saved, cotangents: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    axes, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    g, centred = at_least_float32(cotangents[0]), at_least_float32(x) - row(mean, x)
    of_bias = jnp.sum(g, axes)
    of_scale = jnp.sum(g * centred, axes) * inverse
    through = g - row(of_bias / n, x) - centred * row(inverse * of_scale / n, x)
    return (through * row(scale * inverse, x)).astype(x.dtype), of_scale, of_bias


normalise.defvjp(_forward, _backward)
