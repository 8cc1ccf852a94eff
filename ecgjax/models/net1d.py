"""Net1D, a one-dimensional RegNet with squeeze-excitation, and the supervised baseline of that name.

Hong et al. 2020, "HOLMES", KDD 2020, arXiv:2008.04063, for the network. The benchmark trains it from scratch, without
batch norm and dropout: there are no released weights. ECGFounder (`ecg_founder`) is the same network, pretrained.

Input: 12 leads, mV, 500 Hz, 2.5 s (any length works); no normalisation.

Differences from the authors' code: the batch norms that it creates but does not run with are not created; its
classification layer is the linear head. Kept: the shortcut's max-pool, which sees a zero beyond an odd end.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.convolution import max_pool
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.fusion import stored
from ecgjax.models.layers import Conv, Dense
from ecgjax.models.rematerialisation import block

Array = jax.Array

RATE = 500.0
STEM_WIDTH = 64
WIDTHS = (64, 160, 160, 400, 400, 1024, 1024)
BLOCKS = (2, 2, 2, 3, 3, 4, 4)
TAPS = 16
GROUP_WIDTH = 16


class Net1DBlock(nn.Module):
    """Bottleneck with a grouped convolution and squeeze-excitation, added to a shortcut.

    Attributes:
        width: output channels, a multiple of 16.
        stride: 1 or 2; halves the length.
        activate_input: swish before the first convolution.
    """

    width: int
    stride: int
    activate_input: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shortcut = x
        x = Conv(self.width, 1, name="conv_1")(nn.silu(x) if self.activate_input else x)
        groups = self.width // GROUP_WIDTH
        x = Conv(self.width, TAPS, self.stride, "same", groups=groups, name="conv_2")(nn.silu(x))
        x = Conv(self.width, 1, name="conv_3")(nn.silu(x))
        gate = Dense(self.width // 2, name="squeeze")(jnp.mean(x, 1))
        gate = Dense(self.width, name="excite")(nn.silu(gate))
        x = x * nn.sigmoid(gate)[:, None]
        if self.stride == 2:
            shortcut = max_pool(shortcut, 2, 2, (0, shortcut.shape[1] % 2), fill=0.0)
        extra = self.width - shortcut.shape[-1]
        return stored(x + jnp.pad(shortcut, ((0, 0), (0, 0), (extra // 2, extra - extra // 2))))


class Net1D(nn.Module):
    """Strided stem, then stages of blocks; each stage halves the length.

    Attributes:
        widths: channels of each stage.
        blocks: blocks of each stage.
    """

    widths: tuple[int, ...] = WIDTHS
    blocks: tuple[int, ...] = BLOCKS

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Features:
        x = nn.silu(Conv(STEM_WIDTH, TAPS, 2, "same", name="stem")(x))
        taps = {"stem": x}
        for s, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for b in range(blocks):
                net_block = block(Net1DBlock, has_train=False)(
                    width, 2 if b == 0 else 1, s + b > 0, name=f"stage_{s}_block_{b}"
                )
                x = taps[f"stage_{s}_block_{b}"] = net_block(x)
        return Features(x, jnp.mean(x, 1), taps)


def create(
    widths: Sequence[int] = WIDTHS,
    blocks: Sequence[int] = BLOCKS,
    seconds: float = 2.5,
    dtype: str = "float32",
) -> Encoder:
    """The supervised Net1D baseline.

    Args:
        widths: channels of each stage, multiples of 16 that do not fall.
        blocks: blocks of each stage.
        seconds: window.
        dtype: of the computation, "float32" or "bfloat16".

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.window("net1d", seconds, RATE)
    check.one_of("net1d", "dtype", dtype, check.DTYPES)
    widths, blocks = _stages(widths, blocks)
    spec = ModelSpec(
        name="net1d",
        sampling_rate=RATE,
        seconds=seconds,
        channels=widths[-1],
        family="convolutional",
        reference="Hong et al. 2020, KDD, arXiv:2008.04063",
        licence="no released weights: trained from scratch by the benchmark",
        lr_groups=(("all", ("encoder/", "head/")),),
        supervised=True,
    )
    arguments = {"widths": widths, "blocks": blocks, "seconds": seconds, "dtype": dtype}
    return Encoder(spec, Net1D(widths, blocks), arguments)


def _stages(widths: Any, blocks: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    for name, values in (("widths", widths), ("blocks", blocks)):
        whole = isinstance(values, Sequence) and all(isinstance(n, int) and n > 0 for n in values)
        if isinstance(values, str) or not whole or len(values) != len(widths) or not values:
            raise UserError(f"model net1d: {name} is {values!r}; expected one positive integer per stage")
    if any(w % GROUP_WIDTH for w in widths) or list(widths) != sorted(widths) or widths[0] < STEM_WIDTH:
        raise UserError(
            f"model net1d: widths is {tuple(widths)}; expected multiples of {GROUP_WIDTH} from {STEM_WIDTH} up that do "
            "not fall"
        )
    return tuple(widths), tuple(blocks)
