"""ECG-JEPA: a transformer over patches of eight leads, pretrained to predict representations of masked patches.

Kim 2024, arXiv:2410.08559. Weights by the authors: multiblock_epoch100.pth (the benchmark's) and random_epoch100.pth;
licence not known here, see github.com/sehunfromdaegu/ECG_JEPA.

Input contracts, 8 of the 12 leads (I, II, V1 to V6), 10 s, mV as they are:

    benchmark   250 Hz
    authors     500 Hz, brought to 250 Hz by Fourier transform, as their pretraining did

A token is a patch of 50 samples of one lead, and attends to the tokens of its lead and those of its time: 57 of 400.

Differences from the authors' code: attention is computed on these pairs only, not on all with the others masked (the
same values); the position table is a constant, not a parameter without gradient; windows shorter than 10 s take the
first positions, where theirs fails.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.attention import Block
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.layers import Dense, Initialiser, LayerNorm, normal
from ecgjax.models.positional import sine_cosine
from ecgjax.models.rematerialisation import block
from ecgjax.models.tokens import Edit, Tokens, keep, replace

Array = jax.Array

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
RATE = 250.0
PATCH = 50
POSITIONS = 50
WIDTH = 768
BLOCKS = 12
HEADS = 16
# Contract -> sampling rate, steps.
CONTRACTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "benchmark": (RATE, ()),
    "authors": (2 * RATE, ("halve the rate by Fourier transform",)),
}


def position_table(width: int = WIDTH) -> np.ndarray:
    """(leads x positions, width): sines and cosines of the time in the first half, of the lead in the second."""
    time = np.tile(sine_cosine(np.arange(POSITIONS), width // 2), (len(LEADS), 1))
    lead = np.repeat(sine_cosine(np.arange(len(LEADS)), width // 2), POSITIONS, 0)
    return np.concatenate([time, lead], 1).astype(np.float32)


def depth_scaled(block: int) -> Initialiser:
    """Normal of std 0.02, less in deeper blocks, so that the residual stream does not grow; `block` counts from 0."""
    return normal(0.02 / math.sqrt(2 * (block + 1)))


class EcgJepa(nn.Module):
    """Pre-norm blocks; the position table is added before each.

    Attributes:
        leads: rows of the table that belong to the leads of the input.
        width: channels.
        layers: blocks.
        heads: of the attention.
    """

    leads: tuple[int, ...]
    width: int = WIDTH
    layers: int = BLOCKS
    heads: int = HEADS

    @nn.compact
    def __call__(self, x: Array, train: bool, edit: Edit | None = None) -> Features:
        batch, samples, leads = x.shape
        if samples % PATCH or not 0 < samples <= PATCH * POSITIONS:
            raise UserError(
                f"model ecg_jepa: {samples} samples at 250 Hz; expected a multiple of {PATCH} up to {PATCH * POSITIONS}"
            )
        table = self.variable("buffers", "position", lambda: jnp.asarray(position_table(self.width))).value
        table = table.reshape(len(LEADS), POSITIONS, self.width)[np.asarray(self.leads), : samples // PATCH]
        position = keep(table[None], edit).reshape(1, -1, self.width).astype(x.dtype)
        x = x.swapaxes(1, 2).reshape(batch, -1, PATCH)
        init = normal(0.02)
        x = Dense(self.width, kernel_init=init, name="patches")(x)
        taps = {"patches": x}
        if edit is not None:
            taps["tokens"] = x
            grid = (batch, leads, samples // PATCH, self.width)
            x = keep(replace(x, edit).reshape(grid), edit).reshape(batch, -1, self.width)
        for i in range(self.layers):
            encoder_block = block(Block)(
                self.heads,
                4 * self.width,
                norm_first=True,
                qkv_bias=False,
                rows=leads,
                kernel_init=init,
                output_init=depth_scaled(i),
                name=f"block_{i}",
            )
            x = taps[f"block_{i}"] = encoder_block(x + position, train)
        x = LayerNorm(name="norm")(x)
        return Features(x, jnp.mean(x, 1), taps)


def create(
    contract: str = "benchmark",
    leads: Sequence[str] = LEADS,
    seconds: float = 10.0,
    dtype: str = "float32",
    width: int = WIDTH,
    layers: int = BLOCKS,
    heads: int = HEADS,
) -> Encoder:
    """ECG-JEPA's encoder.

    Args:
        contract: "benchmark" or "authors".
        leads: some of the eight leads, in their order; the other leads' tokens are left out.
        seconds: window, a multiple of 0.2 up to 10.
        dtype: of the computation, "float32" or "bfloat16".
        width: channels; the published weights have 768.
        layers: blocks, up to 12.
        heads: of the attention.

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("ecg_jepa", "contract", contract, tuple(CONTRACTS))
    check.one_of("ecg_jepa", "dtype", dtype, check.DTYPES)
    check.patches("ecg_jepa", seconds, RATE, PATCH, POSITIONS)
    rows = check.some_leads("ecg_jepa", leads, LEADS)
    check.transformer("ecg_jepa", width, layers, heads, BLOCKS, multiple=4)
    sampling_rate, steps = CONTRACTS[contract]
    spec = ModelSpec(
        name="ecg_jepa",
        sampling_rate=sampling_rate,
        seconds=seconds,
        channels=width,
        family="transformer",
        reference="Kim 2024, arXiv:2410.08559",
        licence="not known here; see github.com/sehunfromdaegu/ECG_JEPA",
        lr_groups=(
            ("head", ("head/",)),
            ("late", ("encoder/block_([3-9]|1[01])/", "encoder/norm/")),
            ("early", ("encoder/patches/", "encoder/block_[0-2]/")),
        ),
        leads=tuple(leads),
        contract=contract,
        steps=steps,
    )
    sizes: dict[str, Any] = {"width": width, "layers": layers, "heads": heads}
    arguments = {"contract": contract, "leads": tuple(leads), "seconds": seconds, "dtype": dtype, **sizes}
    return Encoder(spec, EcgJepa(rows, **sizes), arguments, tokens=Tokens(PATCH, PATCH, "leads", drops="shared"))
