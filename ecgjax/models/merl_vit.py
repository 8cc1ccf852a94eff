"""MERL ViT-tiny: the second ECG encoder of a contrastive ECG-text model.

Liu et al. 2024, ICML, arXiv:2403.06659. Code under the MIT licence; the weights' own is not stated in the repository:
see github.com/cheliu-computation/MERL-ICML2024.

Input contracts, both at 500 Hz, up to 10 s, a multiple of 50 samples:

    benchmark   10 s, mV as they are, canonical leads (the benchmark's code knows this encoder, its runs do not use it)
    authors     10 s; scaled to [0, 1] by the least and greatest value of the whole record; aVF before aVL, as in the
                MIMIC-IV-ECG records of its pretraining

Differences from the authors' code: windows shorter than 10 s take the first position vectors, where theirs fails; the
pretraining's rounding to 1/1000 and its local means in place of missing samples are left out (missing samples are 0).
In the benchmark's fine-tuning no parameter of this encoder is in a rate group, so that only the head is trained; here
the groups are those that it has for its other transformers, and the empty ones stand in `paper_lr_groups`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.data.leads import CANONICAL as CANONICAL_LEADS
from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.attention import Block
from ecgjax.models.contracts import MIMIC_LEADS
from ecgjax.models.encoder import HEAD_ONLY, Encoder, Features, ModelSpec
from ecgjax.models.layers import Conv, LayerNorm, normal
from ecgjax.models.rematerialisation import block
from ecgjax.models.tokens import Edit, Tokens, keep, replace

Array = jax.Array

RATE = 500.0
PATCH = 50
POSITIONS = 100
WIDTH = 192
BLOCKS = 12
HEADS = 3
# Contract -> leads, steps.
CONTRACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "benchmark": (CANONICAL_LEADS, ()),
    "authors": (MIMIC_LEADS, ("scale to [0, 1] over the record",)),
}


class VitTiny(nn.Module):
    """Patches of all leads, learned positions and pre-norm blocks; `sequence` is before the last norm."""

    width: int = WIDTH
    layers: int = BLOCKS
    heads: int = HEADS
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool, edit: Edit | None = None) -> Features:
        if x.shape[1] % PATCH or not 0 < x.shape[1] <= PATCH * POSITIONS:
            raise UserError(
                f"model merl_vit: {x.shape[1]} samples; expected a multiple of {PATCH} up to {PATCH * POSITIONS}"
            )
        tokens = Conv(self.width, PATCH, PATCH, use_bias=False, name="patches")(x)
        position = self.param("position", normal(1.0), (POSITIONS, self.width))
        x = replace(tokens, edit) + position[None, : tokens.shape[1]].astype(tokens.dtype)
        x = keep(x[:, None], edit)[:, 0] if edit is not None else x
        taps = {"patches": x}
        for i in range(self.layers):
            kind = block(Block)
            encoder_block = kind(self.heads, 4 * self.width, norm_first=True, causal=self.causal, name=f"block_{i}")
            x = taps[f"block_{i}"] = encoder_block(x, train)
        norm = LayerNorm(name="norm")
        pooled = norm(jnp.mean(x, 1))
        if edit is not None:
            taps |= {"tokens": tokens, "context": norm(x)}
        return Features(x, pooled, taps)


def create(
    contract: str = "benchmark",
    seconds: float = 10.0,
    dtype: str = "float32",
    width: int = WIDTH,
    layers: int = BLOCKS,
    heads: int = HEADS,
    causal: bool = False,
) -> Encoder:
    """MERL's ViT-tiny.

    Args:
        contract: "benchmark" or "authors".
        seconds: window at 500 Hz, a multiple of 0.1 up to 10.
        dtype: of the computation, "float32" or "bfloat16".
        width: channels; the published weights have 192.
        layers: blocks, up to 12.
        heads: of the attention.
        causal: tokens attend to earlier ones only, as contrastive predictive coding needs; the published do to all.

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("merl_vit", "contract", contract, tuple(CONTRACTS))
    check.one_of("merl_vit", "dtype", dtype, check.DTYPES)
    check.patches("merl_vit", seconds, RATE, PATCH, POSITIONS)
    check.transformer("merl_vit", width, layers, heads, BLOCKS)
    check.one_of("merl_vit", "causal", causal, (True, False))
    leads, steps = CONTRACTS[contract]
    spec = ModelSpec(
        name="merl_vit",
        sampling_rate=RATE,
        seconds=seconds,
        channels=width,
        family="transformer",
        reference="Liu et al. 2024, ICML, arXiv:2403.06659",
        licence="not known here; see github.com/cheliu-computation/MERL-ICML2024",
        lr_groups=(
            ("head", ("head/",)),
            ("late", ("encoder/block_([3-9]|1[01])/", "encoder/norm/")),
            ("early", ("encoder/(patches|position)", "encoder/block_[0-2]/")),
        ),
        paper_lr_groups=HEAD_ONLY,
        leads=leads,
        contract=contract,
        steps=steps,
    )
    sizes: dict[str, Any] = {"width": width, "layers": layers, "heads": heads, "causal": causal}
    arguments = {"contract": contract, "seconds": seconds, "dtype": dtype, **sizes}
    tokens = Tokens(PATCH, PATCH, causal=causal, drops="each")
    return Encoder(spec, VitTiny(**sizes), arguments, tokens=tokens)
