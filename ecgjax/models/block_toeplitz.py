"""Convolution over time as products with the blocks of a Toeplitz matrix.

Less arithmetic than a Fourier transform as products, but every channel has its own matrix, and those are what moves.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def block_toeplitz(u: Array, past: Array, future: Array | None, block: int) -> Array:
    """`ecgjax.models.long_convolution.long_convolution` with one matrix product per pair of blocks' distance.

    Args:
        u: (batch, L, channels).
        past: (channels, L).
        future: (channels, L) or None.
        block: samples of a block.
    """
    batch, length, channels = u.shape
    blocks = -(-length // block)
    rest = blocks * block - length
    # Taps by lag + `offset`; outside of the kernel zero.
    before = jnp.zeros((channels, length)) if future is None else future[:, ::-1]
    taps = jnp.pad(jnp.concatenate([before, past], 1), ((0, 0), (block + rest, block + rest)))
    offset = length + block + rest
    within = np.arange(block)[:, None] - np.arange(block)[None]
    x = jnp.pad(u, ((0, 0), (0, rest), (0, 0))).reshape(batch, blocks, block, channels)
    y = jnp.zeros_like(x)
    for distance in range(0 if future is None else 1 - blocks, blocks):
        matrix = taps[:, distance * block + within + offset]
        first, last = max(distance, 0), blocks + min(distance, 0)
        y = y.at[:, first:last].add(_dot("hij,bnjh->bnih", matrix, x[:, first - distance : last - distance]))
    return y.reshape(batch, blocks * block, channels)[:, :length]
