"""ECGFM-KED: the ECG encoder, an xresnet1d101, of a knowledge-enhanced ECG-text model.

Tian et al. 2024, Cell Reports Medicine 5(12); network after He et al. 2019, "Bag of Tricks", arXiv:1812.01187, and
Strodthoff et al. 2021, arXiv:2004.13701. Weights: zenodo.org/records/14881564; licence not known here, see there.

Input contracts, both 10 s (any length works), mV as they are:

    benchmark   500 Hz, canonical leads: five times finer in time than the pretraining
    authors     100 Hz; aVF before aVL, as in the MIMIC-IV-ECG records of its pretraining

Differences from the authors' code: no classification head; they resample by Fourier transform, the pipeline with
resampy's filter (on an ECG of 1 mV the two differ by up to 0.04 mV, in QRS complexes). The benchmark's loader finds
none of the tensors of the released file and says nothing, so its network is the random initialisation; here the weights
are loaded or refused (`convert_weights`).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.models import arguments as check
from ecgjax.models.batch_norm import BatchNorm
from ecgjax.models.contracts import MIMIC_LEADS, Contract, choose
from ecgjax.models.convolution import average_pool, max_pool
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.fusion import stored
from ecgjax.models.layers import Conv, kaiming_normal
from ecgjax.models.rematerialisation import block

Array = jax.Array

TAPS = 5
STEM = (32, 32, 64)
WIDTHS = (64, 128, 128, 192)
BLOCKS = (3, 4, 23, 3)
EXPANSION = 4
CONTRACTS = {
    "benchmark": Contract(500.0, 10.0),
    "authors": Contract(100.0, 10.0, MIMIC_LEADS),
}


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm; symmetric padding.

    Attributes:
        features: output channels.
        width: taps, odd.
        stride: step.
        scale_init: initial scale of the norm.
    """

    features: int
    width: int
    stride: int = 1
    scale_init: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        pad, init = self.width // 2, kaiming_normal(x.shape[-1] * self.width)
        conv = Conv(self.features, self.width, self.stride, (pad, pad), use_bias=False, kernel_init=init, name="conv")
        return BatchNorm(scale_init=self.scale_init, name="norm")(conv(x), train)


class Bottleneck(nn.Module):
    """1-5-1 bottleneck whose last norm starts at 0, added to an identity path that pools before it projects.

    Attributes:
        width: of the bottleneck; the output has four times as many channels.
        stride: of the middle convolution.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        identity = x
        x = nn.relu(ConvNorm(self.width, 1, name="conv_0")(x, train))
        x = nn.relu(ConvNorm(self.width, TAPS, self.stride, name="conv_1")(x, train))
        x = ConvNorm(EXPANSION * self.width, 1, scale_init=0.0, name="conv_2")(x, train)
        if self.stride == 2:
            identity = average_pool(identity, 2, 2)
        if identity.shape[-1] != x.shape[-1]:
            identity = ConvNorm(EXPANSION * self.width, 1, name="identity")(identity, train)
        return stored(nn.relu(x + identity))


class XResNet101(nn.Module):
    """Stem of three convolutions and a max-pool, then four stages; `sequence` has 1/32 of the samples."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Features:
        taps = {}
        for i, width in enumerate(STEM):
            x = nn.relu(ConvNorm(width, TAPS, 2 if i == 0 else 1, name=f"stem_{i}")(x, train))
            taps[f"stem_{i}"] = x
        x = max_pool(x, 3, 2, (1, 1))
        for s, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            for b in range(blocks):
                bottleneck = block(Bottleneck)(width, 2 if s > 0 and b == 0 else 1, name=f"stage_{s}_block_{b}")
                x = taps[f"stage_{s}_block_{b}"] = bottleneck(x, train)
        return Features(x, jnp.mean(x, 1), taps)


def create(contract: str = "benchmark", seconds: float | None = None, dtype: str = "float32") -> Encoder:
    """ECGFM-KED's xresnet1d101.

    Args:
        contract: "benchmark" or "authors".
        seconds: window; None: the contract's.
        dtype: of the computation, "float32" or "bfloat16".

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("ecgfm_ked", "dtype", dtype, check.DTYPES)
    chosen = choose("ecgfm_ked", CONTRACTS, contract, seconds)
    spec = ModelSpec(
        name="ecgfm_ked",
        sampling_rate=chosen.sampling_rate,
        seconds=chosen.seconds,
        channels=EXPANSION * WIDTHS[-1],
        family="convolutional",
        reference="Tian et al. 2024, Cell Reports Medicine 5(12)",
        licence="not known here; see zenodo.org/records/14881564",
        lr_groups=(
            ("head", ("head/",)),
            ("late", ("encoder/stage_",)),
            ("early", ("encoder/stem_",)),
        ),
        leads=chosen.leads,
        contract=contract,
    )
    return Encoder(spec, XResNet101(), {"contract": contract, "seconds": seconds, "dtype": dtype})
