"""Dropout whose masks cost little: four elements are drawn from one block of Threefry.

`jax.random.bernoulli` computes a block of 64 bits for each element, and on a CPU runs its rounds as a loop over
arrays: batch 8 x 156 x 3,072 takes one core 43 ms, 57 with gradients, and 8 and 13 here. For a TPU v5e a quarter of the
operations (521 -> 136 million), at 31 -> 38 MB moved. `python -m benchmarks.formulations --only=dropout` makes these
figures. An element takes 16 bits, so that rates are rounded to 1/65,536.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

Array = jax.Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def threefry(key: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        key: two words, uint32.
        first: first words of counters, uint32, any shape.
        second: second words, the same shape.

    Returns:
        The two words of each block.
    """
    words = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    first, second = first + words[0], second + words[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first = first + second
            second = ((second << np.uint32(rotation)) | (second >> np.uint32(32 - rotation))) ^ first
        first = first + words[(group + 1) % 3]
        second = second + words[(group + 2) % 3] + np.uint32(group + 1)
    return first, second


def kept(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """Where dropout keeps an element.

    Counters are places in the array: devices that share it draw their own parts of the same mask.

    Args:
        key: PRNG key.
        rate: probability to drop, below 1.
        shape: of the mask, at least one axis.

    Returns:
        Boolean, of that shape.
    """
    *others, last = shape
    words = (*others, -(-last // 4))
    row = jnp.zeros(words, jnp.uint32)
    for axis, size in enumerate(others):
        row = row * np.uint32(size) + lax.broadcasted_iota(jnp.uint32, words, axis)
    column = lax.broadcasted_iota(jnp.uint32, words, len(others))
    low, limit = np.uint32(0xFFFF), np.uint32(round(rate * 65536))
    halves = [half for word in threefry(jax.random.key_data(key), row, column) for half in (word & low, word >> 16)]
    return jnp.concatenate([half >= limit for half in halves], -1)[..., :last]


def drop(x: Array, rate: float, key: Array, tied: tuple[int, ...] = ()) -> Array:
    """Zeros with probability `rate`, the others scaled up to the same mean.

    Args:
        x: any shape.
        rate: probability to drop, below 1.
        key: PRNG key.
        tied: axes along which all elements share one draw.
    """
    shape = tuple(1 if axis in tied else size for axis, size in enumerate(x.shape))
    mask = jnp.broadcast_to(kept(key, rate, shape), x.shape)
    return jnp.where(mask, x / (1.0 - rate), jnp.zeros_like(x))


class Dropout(nn.Module):
    """Dropout of the RNG stream "dropout", in training only.

    Attributes:
        rate: probability to drop, below 1.
        tied: axes along which all elements share one draw: (1,) drops whole channels of (batch, time, channels).
    """

    rate: float
    tied: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if not train or not self.rate:
            return x
        return drop(x, self.rate, self.make_rng("dropout"), self.tied)
