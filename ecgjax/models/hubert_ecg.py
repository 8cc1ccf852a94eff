"""HuBERT-ECG: HuBERT on the twelve leads laid end to end as one waveform.

Coppola et al. 2024, medRxiv 2024.11.14.24317328; network after Hsu et al. 2021, arXiv:2106.07447. Weights:
huggingface.co/Edoardo-BS, hubert-ecg-small, -base and -large; licence: see there.

Input contracts, 5 s (other lengths work), both to 100 samples per second and lead, each lead scaled to [-1, 1]:

    benchmark   100 Hz; FIR band-pass of 31 taps, zero-phase (0.05 to 47 Hz; so short a filter hardly touches baseline
                wander)
    authors     500 Hz; FIR band-pass of 151 taps, scaling, and the joined leads decimated by 5, which rings from one
                lead into the next

Differences from the authors' code: filters run in float32 on the window (theirs in float64 on the whole recording);
missing samples are 0, not the lead's mean; the mask vector, which nothing reads outside pretraining, and the
pretraining's codebooks are not created; see also `ContextNetwork.layerdrop`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.conv_extractor import ConvExtractor, least_samples
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.layers import Dense, LayerNorm, normal
from ecgjax.models.tokens import Edit, Tokens, replace, scale_gradient
from ecgjax.models.wav2vec import ContextNetwork, check_rates, rate_groups

Array = jax.Array

EXTRACTOR = ((10, 4), (3, 2), (3, 2), (2, 2), (2, 2))
EXTRACTOR_WIDTH = 512
# Size -> width, layers, heads, layerdrop.
SIZES = {"small": (512, 8, 8, 0.1), "base": (768, 12, 12, 0.1), "large": (960, 16, 12, 0.0)}
# Contract -> sampling rate, steps.
CONTRACTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "benchmark": (100.0, ("FIR band-pass 0.05-47 Hz of 0.3 s", "scale each lead to [-1, 1]")),
    "authors": (
        500.0,
        ("FIR band-pass 0.05-47 Hz of 0.3 s", "scale each lead to [-1, 1]", "decimate the joined leads by 5"),
    ),
}


class HubertEcg(nn.Module):
    """Joins the leads, and runs extractor, projection and context network; arguments as in `create`."""

    width: int
    layers: int
    heads: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    layerdrop: float

    @nn.compact
    def __call__(self, x: Array, train: bool, edit: Edit | None = None) -> Features:
        batch, samples, leads = x.shape
        if samples * leads < least_samples(EXTRACTOR):
            raise UserError(
                f"model hubert_ecg: {samples} samples of {leads} leads; expected at least {least_samples(EXTRACTOR)} "
                "in all"
            )
        x = x.swapaxes(1, 2).reshape(batch, -1, 1)
        x, taps = ConvExtractor(EXTRACTOR_WIDTH, EXTRACTOR, name="extractor")(x)
        x = features = scale_gradient(x, edit)
        x = extracted = LayerNorm(name="extractor_norm")(x)
        x = taps["projection"] = Dense(self.width, kernel_init=normal(0.02), name="projection")(x)
        if edit is not None:
            taps |= {"features": features, "extracted": extracted, "tokens": x}
        context = ContextNetwork(
            self.layers,
            self.heads,
            self.dropout,
            self.attention_dropout,
            self.activation_dropout,
            self.layerdrop,
            name="context",
        )
        x, layer_taps = context(replace(x, edit), train)
        return Features(x, jnp.mean(x, 1), {**taps, **layer_taps})


def create(
    size: str = "base",
    contract: str = "benchmark",
    seconds: float = 5.0,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    activation_dropout: float = 0.1,
    layerdrop: float | None = None,
    dtype: str = "float32",
) -> Encoder:
    """HuBERT-ECG.

    Args:
        size: "small", "base" or "large".
        contract: "benchmark" or "authors".
        seconds: window.
        dropout: rate after the embedding, after attention and after the MLP.
        attention_dropout: rate on the attention's weights.
        activation_dropout: rate inside the MLP.
        layerdrop: rate at which a layer is left out for a batch; None: the size's.
        dtype: of the computation, "float32" or "bfloat16".

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("hubert_ecg", "size", size, tuple(SIZES))
    check.one_of("hubert_ecg", "contract", contract, tuple(CONTRACTS))
    check.one_of("hubert_ecg", "dtype", dtype, check.DTYPES)
    check.window("hubert_ecg", seconds, CONTRACTS[contract][0])
    width, layers, heads, usual_layerdrop = SIZES[size]
    rates = check_rates(
        "hubert_ecg",
        dropout=dropout,
        attention_dropout=attention_dropout,
        activation_dropout=activation_dropout,
        layerdrop=usual_layerdrop if layerdrop is None else layerdrop,
    )
    sampling_rate, steps = CONTRACTS[contract]
    spec = ModelSpec(
        name="hubert_ecg",
        sampling_rate=sampling_rate,
        seconds=seconds,
        channels=width,
        family="transformer",
        reference="Coppola et al. 2024, medRxiv 2024.11.14.24317328",
        licence="see huggingface.co/Edoardo-BS",
        lr_groups=rate_groups(layers, (), ("encoder/(extractor|extractor_norm|projection)/",)),
        contract=contract,
        steps=steps,
    )
    module = HubertEcg(width, layers, heads, **rates)
    arguments = {"size": size, "contract": contract, "seconds": seconds, **rates, "dtype": dtype}
    tokens = Tokens(stride=64, window=least_samples(EXTRACTOR), layout="joined", extractor=True)
    return Encoder(spec, module, arguments, tokens=tokens)
