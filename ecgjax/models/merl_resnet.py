"""MERL ResNet18: the ECG encoder of a contrastive ECG-text model.

Liu et al. 2024, ICML, arXiv:2403.06659. Code under the MIT licence; the weights' own is not stated in the repository:
see github.com/cheliu-computation/MERL-ICML2024.

Input contracts, both at 500 Hz, any length:

    benchmark   2.5 s, mV as they are, canonical leads
    authors     10 s; scaled to [0, 1] by the least and greatest value of the whole record; aVF before aVL, as in the
                MIMIC-IV-ECG records of its pretraining

Differences from the authors' code: its unused classification layer is not created; the pretraining's rounding to
1/1000 and its local means in place of missing samples are left out (missing samples are 0).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.models import arguments as check
from ecgjax.models.batch_norm import BatchNorm
from ecgjax.models.contracts import MIMIC_LEADS, Contract, choose
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.fusion import stored
from ecgjax.models.layers import Conv
from ecgjax.models.rematerialisation import block

Array = jax.Array

WIDTHS = (64, 128, 256, 512)
BLOCKS = 2
CONTRACTS = {
    "benchmark": Contract(500.0, 2.5),
    "authors": Contract(500.0, 10.0, MIMIC_LEADS, ("scale to [0, 1] over the record",)),
}


class BasicBlock(nn.Module):
    """Two convolutions of three taps with batch norm, added to a shortcut.

    Attributes:
        width: output channels.
        stride: of the first convolution and of the shortcut.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shortcut = x
        x = Conv(self.width, 3, self.stride, (1, 1), use_bias=False, name="conv_1")(x)
        x = nn.relu(BatchNorm(name="norm_1")(x, train))
        x = Conv(self.width, 3, 1, (1, 1), use_bias=False, name="conv_2")(x)
        x = BatchNorm(name="norm_2")(x, train)
        if self.stride != 1 or shortcut.shape[-1] != self.width:
            shortcut = Conv(self.width, 1, self.stride, use_bias=False, name="shortcut_conv")(shortcut)
            shortcut = BatchNorm(name="shortcut_norm")(shortcut, train)
        return stored(nn.relu(x + shortcut))


class ResNet18(nn.Module):
    """Stem without max-pool, then four layers of two blocks; `sequence` has a sixteenth of the samples."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Features:
        x = Conv(WIDTHS[0], 7, 2, (3, 3), use_bias=False, name="stem_conv")(x)
        x = nn.relu(BatchNorm(name="stem_norm")(x, train))
        taps = {"stem": x}
        for i, width in enumerate(WIDTHS, 1):
            for b in range(BLOCKS):
                basic_block = block(BasicBlock)(width, 2 if i > 1 and b == 0 else 1, name=f"layer_{i}_block_{b}")
                x = taps[f"layer_{i}_block_{b}"] = basic_block(x, train)
        return Features(x, jnp.mean(x, 1), taps)


def create(contract: str = "benchmark", seconds: float | None = None, dtype: str = "float32") -> Encoder:
    """MERL's ResNet18.

    Args:
        contract: "benchmark" or "authors".
        seconds: window at 500 Hz; None: the contract's.
        dtype: of the computation, "float32" or "bfloat16".

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("merl_resnet", "dtype", dtype, check.DTYPES)
    chosen = choose("merl_resnet", CONTRACTS, contract, seconds)
    spec = ModelSpec(
        name="merl_resnet",
        sampling_rate=chosen.sampling_rate,
        seconds=chosen.seconds,
        channels=WIDTHS[-1],
        family="convolutional",
        reference="Liu et al. 2024, ICML, arXiv:2403.06659",
        licence="not known here; see github.com/cheliu-computation/MERL-ICML2024",
        lr_groups=(
            ("head", ("head/",)),
            ("late", ("encoder/layer_[34]_",)),
            ("early", ("encoder/stem_", "encoder/layer_[12]_")),
        ),
        leads=chosen.leads,
        contract=contract,
        steps=chosen.steps,
    )
    return Encoder(spec, ResNet18(), {"contract": contract, "seconds": seconds, "dtype": dtype})
