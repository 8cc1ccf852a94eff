"""ECG-CPC: a convolutional encoder and a causal S4 predictor, pretrained by contrastive predictive coding.

Al-Masud, Lopez Alcaraz and Strodthoff 2025, arXiv:2509.25095; weights by the authors on figshare (30192604).

Input: 12 leads, mV, 240 Hz; no normalisation. The benchmark feeds 2.5 s, pretraining used 10 s. Differences from the
authors' code: see `s4_kernel`; the contrastive loss is not computed (and thrown away) in downstream forward passes.

`params` splits at the top into "encoder" and "predictor", taps of the same names hold what the loss needs: the
encoder's output after its last ReLU, and the predictor's.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.models import arguments as check
from ecgjax.models.batch_norm import BatchNorm
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.layers import Conv
from ecgjax.models.s4 import S4Stack, check_arguments
from ecgjax.models.tokens import Edit, Tokens, replace, scale_gradient

Array = jax.Array

RATE = 240.0
KERNEL_WIDTHS = (3, 1, 1, 1)
STRIDES = (2, 1, 1, 1)


class ConvEncoder(nn.Module):
    """Four times convolution without bias, batch norm, ReLU; halves the rate.

    Attributes:
        width: channels.
    """

    width: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, dict[str, Array]]:
        taps = {}
        for i, (taps_wide, stride) in enumerate(zip(KERNEL_WIDTHS, STRIDES, strict=True)):
            pad = taps_wide // 2
            x = Conv(self.width, taps_wide, stride, (pad, pad), use_bias=False, name=f"conv_{i}")(x)
            x = taps[f"conv_{i}"] = nn.relu(BatchNorm(name=f"norm_{i}")(x, train))
        return x, taps


class EcgCpc(nn.Module):
    """Encoder and predictor; arguments as in `create`."""

    width: int
    layers: int
    l_max: int
    state_size: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, train: bool, edit: Edit | None = None) -> Features:
        encoded, conv_taps = ConvEncoder(self.width, name="encoder")(x, train)
        encoded = scale_gradient(encoded, edit)
        stack = S4Stack(self.layers, self.l_max, self.state_size, False, self.dropout, name="predictor")
        predicted, layer_taps = stack(replace(encoded, edit), train)
        taps = {**conv_taps, "encoder": encoded, **layer_taps, "predictor": predicted}
        if edit is not None:
            taps |= dict.fromkeys(("tokens", "features", "extracted"), encoded)
        return Features(predicted, jnp.mean(predicted, 1, dtype=jnp.float32), taps)


def create(
    width: int = 512,
    layers: int = 4,
    state_size: int = 8,
    seconds: float = 2.5,
    l_max: int = 1200,
    dropout: float = 0.2,
    dtype: str = "float32",
) -> Encoder:
    """ECG-CPC.

    Args:
        width: channels.
        layers: S4 layers.
        state_size: of the real state per channel, even.
        seconds: window at 240 Hz.
        l_max: tokens the trained output vectors belong to; 1200 is the 10 s of pretraining. Any window may be fed.
        dropout: rate.
        dtype: of the computation, "float32" or "bfloat16"; the state space itself stays in float32.
    """
    check.window("ecg_cpc", seconds, RATE)
    check.one_of("ecg_cpc", "dtype", dtype, check.DTYPES)
    arguments = check_arguments(
        "ecg_cpc", width=width, layers=layers, state_size=state_size, seconds=seconds, l_max=l_max, dropout=dropout
    )
    spec = ModelSpec(
        name="ecg_cpc",
        sampling_rate=RATE,
        seconds=seconds,
        channels=width,
        family="state-space",
        reference="Al-Masud, Lopez Alcaraz and Strodthoff 2025, arXiv:2509.25095",
        licence="see figshare 30192604",
        lr_groups=(("head", ("head/",)), ("late", ("encoder/predictor/",)), ("early", ("encoder/encoder/",))),
    )
    tokens = Tokens(stride=2, window=1, causal=True, extractor=True)
    module = EcgCpc(width, layers, l_max, state_size, dropout)
    return Encoder(spec, module, {**arguments, "dtype": dtype}, tokens=tokens)
