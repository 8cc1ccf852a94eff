"""The narrow transformer that predicts what is masked from what the encoder says of the rest; thrown away afterwards.

The decoder of masked autoencoders (He et al. 2022, arXiv:2111.06377; lead by lead in ST-MEM, arXiv:2402.09450) and the
predictor of joint embedding (ECG-JEPA, arXiv:2410.08559) are the same thing: a linear layer, mask vectors in the gaps,
positions, pre-norm blocks, a norm and a linear layer. Each row of patches is decoded by itself.

Difference from the authors' code: the separators of ST-MEM's encoder do not enter its decoder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ecgjax.errors import UserError
from ecgjax.models.attention import Block
from ecgjax.models.layers import Dense, LayerNorm, normal, xavier_uniform
from ecgjax.models.positional import sine_cosine

Array = jax.Array


class Decoder(NamedTuple):
    """Pure functions.

    Attributes:
        init: (PRNG key, width of the inputs) -> parameters.
        apply: (parameters, inputs (batch, patches, width), masked (batch, patches) bool) -> (batch, patches, outputs);
            inputs at masked patches are not read.
    """

    init: Callable[[Array, int], Any]
    apply: Callable[[Any, Array, Array], Array]


class _Network(nn.Module):
    width: int
    layers: int
    heads: int
    outputs: int
    every_block: bool

    @nn.compact
    def __call__(self, x: Array, masked: Array) -> Array:
        vector = self.param("mask_vector", normal(0.02), (self.width,))
        init = xavier_uniform
        x = Dense(self.width, kernel_init=init, name="input")(x)
        x = jnp.where(masked[..., None], vector[None, None], x)
        positions = jnp.asarray(sine_cosine(np.arange(x.shape[1]), self.width), jnp.float32)[None]
        x = x if self.every_block else x + positions
        for i in range(self.layers):
            block = Block(self.heads, 4 * self.width, norm_first=True, kernel_init=init, name=f"block_{i}")
            x = block(x + positions if self.every_block else x, False)
        return Dense(self.outputs, kernel_init=init, name="output")(LayerNorm(1e-6, name="norm")(x))


def create(width: int, layers: int, heads: int, outputs: int, every_block: bool = False) -> Decoder:
    """Builds a decoder.

    Args:
        width: channels, even and a multiple of `heads`.
        layers: blocks.
        heads: of the attention.
        outputs: values for each patch.
        every_block: positions are added before every block, not once.

    Raises:
        UserError: sizes that it cannot have.
    """
    if min(width, layers, heads) < 1 or width % heads or width % 2:
        raise UserError(
            f"decoder of width {width}, {layers} layers and {heads} heads; expected positive numbers and an even width "
            "that is a multiple of the heads"
        )
    network = _Network(width, layers, heads, outputs, every_block)

    def init(key: Array, inputs: int) -> Any:
        shapes = jax.ShapeDtypeStruct((1, 2, inputs), jnp.float32), jax.ShapeDtypeStruct((1, 2), bool)
        return network.lazy_init({"params": key}, *shapes)["params"]

    def apply(params: Any, x: Array, masked: Array) -> Array:
        return network.apply({"params": params}, x, masked)  # type: ignore[return-value]

    return Decoder(init, apply)
