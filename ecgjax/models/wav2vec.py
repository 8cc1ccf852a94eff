"""What HuBERT-ECG and ECG-FM share, the context network of wav2vec 2.0: positional convolution and post-norm blocks.

Baevski et al. 2020, arXiv:2006.11477.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.models import arguments as check
from ecgjax.models.attention import Block
from ecgjax.models.dropout import Dropout
from ecgjax.models.encoder import Groups
from ecgjax.models.layers import Initialiser, LayerNorm, normal
from ecgjax.models.positional import PositionalConv
from ecgjax.models.rematerialisation import block

Array = jax.Array


class ContextNetwork(nn.Module):
    """(batch, tokens, channels) -> the same shape, and the output of every layer.

    Attributes:
        layers: number of blocks.
        heads: of each.
        dropout: rate after the first norm, after attention and after the MLP.
        attention_dropout: rate on the attention's weights.
        activation_dropout: rate inside the MLP.
        layerdrop: rate at which, in training, a block is left out: one draw per block and batch, the others are not
            scaled up. A block that is left out has gradients of 0 and is subject to weight decay; torch leaves its
            parameters alone in that step.
        positional_init: see `PositionalConv`.
    """

    layers: int
    heads: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    layerdrop: float = 0.0
    positional_init: Initialiser | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, dict[str, Array]]:
        x = x + PositionalConv(kernel_init=self.positional_init, name="position")(x)
        x = LayerNorm(name="norm")(x)
        x = Dropout(self.dropout)(x, train)
        taps = {"position": x}
        for i in range(self.layers):
            layer = block(Block)(
                self.heads,
                4 * x.shape[-1],
                norm_first=False,
                fused=False,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                activation_dropout=self.activation_dropout,
                kernel_init=normal(0.02),
                name=f"layer_{i}",
            )
            y = layer(x, train)
            if train and self.layerdrop:
                y = jnp.where(jax.random.bernoulli(self.make_rng("dropout"), self.layerdrop), x, y)
            x = taps[f"layer_{i}"] = y
        return x, taps


def rate_groups(layers: int, late: tuple[str, ...], early: tuple[str, ...]) -> Groups:
    """The rate groups of the benchmark: the upper half of the layers is late, the lower one early.

    Args:
        layers: number of blocks.
        late: patterns of what else is late.
        early: patterns of what else is early.
    """
    lower, upper = ("|".join(str(i) for i in part) for part in (range(layers // 2), range(layers // 2, layers)))
    path = "encoder/context/layer_({})/"
    return (
        ("head", ("head/",)),
        ("late", (path.format(upper), *late)),
        ("early", (path.format(lower), "encoder/context/(position|norm)/", *early)),
    )


def check_rates(model: str, **rates: Any) -> dict[str, Any]:
    """The dropout rates, if they are such.

    Raises:
        UserError: names the model and the argument.
    """
    for name, value in rates.items():
        check.rate(model, name, value)
    return rates
