"""ECG-FM: wav2vec 2.0 with contrastive multi-segment coding, on twelve leads.

McKeen et al. 2024, arXiv:2408.05178; network after Baevski et al. 2020, arXiv:2006.11477. Weights:
huggingface.co/wanglab/ecg-fm; licence: see there.

Input contracts, 500 Hz, 5 s (other lengths work):

    benchmark   mV as they are
    authors     each lead to mean 0 and standard deviation 1

Differences from the authors' code: the standardisation is over the window, not over the whole recording; the mask
vector and the quantiser, which nothing reads outside pretraining, are not created; see also
`ContextNetwork.layerdrop`. In the benchmark's fine-tuning the convolutional extractor runs without gradient; so here,
unless `train_extractor`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.conv_extractor import ConvExtractor, least_samples
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.layers import Dense, LayerNorm
from ecgjax.models.positional import scaled_normal
from ecgjax.models.tokens import Edit, Tokens, replace, scale_gradient
from ecgjax.models.wav2vec import ContextNetwork, check_rates, rate_groups

Array = jax.Array

RATE = 500.0
EXTRACTOR = ((2, 2), (2, 2), (2, 2), (2, 2))
EXTRACTOR_WIDTH = 256
WIDTH = 768
LAYERS = 12
HEADS = 12
POSITION_TAPS = 128
# Contract -> steps.
CONTRACTS: dict[str, tuple[str, ...]] = {"benchmark": (), "authors": ("standardise each lead",)}


class EcgFm(nn.Module):
    """Extractor, projection and context network; arguments as in `create`."""

    train_extractor: bool
    dropout: float
    attention_dropout: float
    activation_dropout: float
    layerdrop: float
    width: int = WIDTH
    layers: int = LAYERS
    heads: int = HEADS

    @nn.compact
    def __call__(self, x: Array, train: bool, edit: Edit | None = None) -> Features:
        if x.shape[1] < least_samples(EXTRACTOR):
            raise UserError(f"model ecg_fm: {x.shape[1]} samples; expected at least {least_samples(EXTRACTOR)}")
        x, taps = ConvExtractor(EXTRACTOR_WIDTH, EXTRACTOR, name="extractor")(x)
        if train and not self.train_extractor:
            x = lax.stop_gradient(x)
        x = features = scale_gradient(x, edit)
        x = extracted = LayerNorm(name="extractor_norm")(x)
        x = taps["projection"] = Dense(self.width, name="projection")(x)
        if edit is not None:
            taps |= {"features": features, "extracted": extracted, "tokens": x}
        context = ContextNetwork(
            self.layers,
            self.heads,
            self.dropout,
            self.attention_dropout,
            self.activation_dropout,
            self.layerdrop,
            scaled_normal(POSITION_TAPS, self.width),
            name="context",
        )
        x, layer_taps = context(replace(x, edit), train)
        return Features(x, jnp.mean(x, 1), {**taps, **layer_taps})


def create(
    contract: str = "benchmark",
    seconds: float = 5.0,
    train_extractor: bool = False,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    activation_dropout: float = 0.1,
    layerdrop: float = 0.0,
    dtype: str = "float32",
    width: int = WIDTH,
    layers: int = LAYERS,
    heads: int = HEADS,
) -> Encoder:
    """ECG-FM's encoder.

    Args:
        contract: "benchmark" or "authors".
        seconds: window at 500 Hz.
        train_extractor: in training, give the convolutional extractor a gradient; it then is in the early rate group.
        dropout: rate after the embedding, after attention and after the MLP.
        attention_dropout: rate on the attention's weights.
        activation_dropout: rate inside the MLP.
        layerdrop: rate at which a layer is left out for a batch.
        dtype: of the computation, "float32" or "bfloat16".
        width: channels, a multiple of 16; the published weights have 768.
        layers: blocks, from 2.
        heads: of the attention.

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("ecg_fm", "contract", contract, tuple(CONTRACTS))
    check.one_of("ecg_fm", "train_extractor", train_extractor, (True, False))
    check.one_of("ecg_fm", "dtype", dtype, check.DTYPES)
    check.window("ecg_fm", seconds, RATE)
    check.transformer("ecg_fm", width, layers, heads, least_layers=2, multiple=16)
    rates = check_rates(
        "ecg_fm",
        dropout=dropout,
        attention_dropout=attention_dropout,
        activation_dropout=activation_dropout,
        layerdrop=layerdrop,
    )
    groups = rate_groups(layers, (), ("encoder/(extractor_norm|projection)/",))
    if train_extractor:
        *others, (early, patterns) = groups
        groups = (*others, (early, (*patterns, "encoder/extractor/")))
    else:
        groups = (*groups, ("frozen", ("encoder/extractor/",)))
    spec = ModelSpec(
        name="ecg_fm",
        sampling_rate=RATE,
        seconds=seconds,
        channels=width,
        family="transformer",
        reference="McKeen et al. 2024, arXiv:2408.05178",
        licence="see huggingface.co/wanglab/ecg-fm",
        lr_groups=groups,
        contract=contract,
        steps=CONTRACTS[contract],
    )
    arguments = {
        "contract": contract,
        "seconds": seconds,
        "train_extractor": train_extractor,
        **rates,
        "dtype": dtype,
        "width": width,
        "layers": layers,
        "heads": heads,
    }
    module = EcgFm(train_extractor, **rates, width=width, layers=layers, heads=heads)
    tokens = Tokens(stride=16, window=least_samples(EXTRACTOR), extractor=True)
    return Encoder(spec, module, arguments, tokens=tokens)
