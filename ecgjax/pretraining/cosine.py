"""Vectors of length 1, whose products are cosine similarities."""

import jax
import jax.numpy as jnp


def unit(x: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """Each vector of the last axis divided by its length, in float32 at least.

    One not longer than `epsilon` becomes 0 and gets no gradient (in torch's `cosine_similarity` one of 1/epsilon).
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squared = jnp.sum(x * x, -1, keepdims=True)
    long = squared > epsilon**2
    return jnp.where(long, x * jax.lax.rsqrt(jnp.where(long, squared, 1.0)), 0.0)
