"""Borders that XLA's CPU fusion does not cross. Elsewhere they are the identity, and nothing is left of them.

The CPU compiler fuses elementwise operations into every one of their users. A stream of residual sums is then
recomputed from its start in each block, forwards and backwards (in 33 blocks of ecgfm_ked: 40 % of the forward pass).
It does not fuse across a branch, while `lax.optimization_barrier` is gone before it fuses.
"""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def stored(x: Array) -> Array:
    """The same array, computed once and kept; its gradient too. For the sums of a residual stream."""
    return lax.platform_dependent(x, cpu=_branch, default=lambda x: x)


def _branch(x: Array) -> Array:
    bits = lax.bitcast_convert_type(x.ravel()[0], f"uint{8 * x.dtype.itemsize}")
    # Always true, which the compiler does not find out.
    return lax.cond((bits & 1) < 2, lambda x: x, jnp.zeros_like, x)
