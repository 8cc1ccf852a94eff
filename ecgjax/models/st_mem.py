"""ST-MEM: a ViT-Base over patches of every lead, pretrained as a masked auto-encoder in space and time.

Na et al. 2024, ICLR, arXiv:2402.09450. Weights by the authors: st_mem_vit_base_full.pth and an encoder-only file;
licence: see github.com/bakqui/ST-MEM.

Input contracts, 250 Hz, up to 9 s, a multiple of 75 samples:

    benchmark   2.4 s, mV as they are
    authors     9 s; zero-phase Butterworth filters of order 5, high-pass 0.67 Hz and low-pass 40 Hz, then mean 0 and
                standard deviation 1 over the whole record

Tokens are lead by lead, patch by patch; a shorter window takes the first positions. `sequence` is without separators
and before the last norm, `pooled` after it.

Differences from the authors' code: no decoder; with fewer than twelve leads each keeps its own lead vector, where
theirs fails or takes one lead for twelve; the filters run on the window, not on the whole recording. In the benchmark's
fine-tuning no parameter of this encoder is in a rate group (it looks for a prefix that the names do not have), so that
only the head is trained; here the groups are the intended ones, and the empty ones stand in `paper_lr_groups`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ecgjax.data.leads import CANONICAL as CANONICAL_LEADS
from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.attention import Block
from ecgjax.models.encoder import HEAD_ONLY, Encoder, Features, ModelSpec
from ecgjax.models.layers import Dense, LayerNorm, normal, xavier_uniform
from ecgjax.models.positional import sine_cosine
from ecgjax.models.rematerialisation import block
from ecgjax.models.tokens import Edit, Tokens, keep, replace

Array = jax.Array

RATE = 250.0
PATCH = 75
POSITIONS = 30
WIDTH = 768
BLOCKS = 12
HEADS = 12
# Contract -> seconds, steps.
CONTRACTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "benchmark": (2.4, ()),
    "authors": (9.0, ("high-pass 0.67 Hz, order 5", "low-pass 40 Hz, order 5", "standardise over the record")),
}


def position_table(width: int = WIDTH) -> np.ndarray:
    """(1 + positions + 1, width): the positions between two rows of zeros for the separators."""
    return np.pad(sine_cosine(np.arange(POSITIONS), width), ((1, 1), (0, 0))).astype(np.float32)


class StMem(nn.Module):
    """Patch embedding, separators on both sides of each lead, pre-norm blocks.

    Attributes:
        leads: which of the twelve lead vectors belong to the leads of the input.
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
                f"model st_mem: {samples} samples; expected a multiple of {PATCH} up to {PATCH * POSITIONS}"
            )
        patches, width = samples // PATCH, self.width
        init, vector = xavier_uniform, normal(0.02)
        table = self.variable("buffers", "position", lambda: jnp.asarray(position_table(width))).value.astype(x.dtype)
        separator = self.param("separator", vector, (width,)).astype(x.dtype)
        all_leads = [self.param(f"lead_{i}", vector, (width,)) for i in range(len(CANONICAL_LEADS))]
        lead_vectors = jnp.stack([all_leads[i] for i in self.leads]).astype(x.dtype)

        x = x.swapaxes(1, 2).reshape(batch, leads, patches, PATCH)
        x = Dense(width, kernel_init=init, name="patches")(LayerNorm(name="patch_norm")(x))
        tokens = LayerNorm(name="embedding_norm")(x)
        if edit is not None:
            tokens = tokens.reshape(batch, leads * patches, width)
            taps = {"tokens": tokens}
            tokens = replace(tokens, edit).reshape(batch, leads, patches, width)
        x = keep(tokens + table[None, None, 1 : patches + 1], edit)
        patches = x.shape[2]
        left, right = (
            jnp.broadcast_to((separator + table[row])[None, None, None], (batch, leads, 1, width)) for row in (0, -1)
        )
        x = jnp.concatenate([left, x, right], 2) + lead_vectors[None, :, None]
        x = x.reshape(batch, leads * (patches + 2), width)
        taps = {"patches": x} if edit is None else {**taps, "patches": x}
        for i in range(self.layers):
            encoder_block = block(Block)(self.heads, 4 * width, norm_first=True, kernel_init=init, name=f"block_{i}")
            x = taps[f"block_{i}"] = encoder_block(x, train)
        x = x.reshape(batch, leads, patches + 2, width)[:, :, 1:-1].reshape(batch, leads * patches, width)
        norm = LayerNorm(name="norm")
        pooled = norm(jnp.mean(x, 1))
        if edit is not None:
            taps["context"] = norm(x)
        return Features(x, pooled, taps)


def create(
    contract: str = "benchmark",
    leads: Sequence[str] = CANONICAL_LEADS,
    seconds: float | None = None,
    dtype: str = "float32",
    width: int = WIDTH,
    layers: int = BLOCKS,
    heads: int = HEADS,
) -> Encoder:
    """ST-MEM's encoder.

    Args:
        contract: "benchmark" or "authors".
        leads: some of the twelve leads, in canonical order; the other leads' tokens are left out.
        seconds: window, a multiple of 0.3 up to 9; None: the contract's.
        dtype: of the computation, "float32" or "bfloat16".
        width: channels; the published weights have 768.
        layers: blocks, up to 12.
        heads: of the attention.

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("st_mem", "contract", contract, tuple(CONTRACTS))
    check.one_of("st_mem", "dtype", dtype, check.DTYPES)
    window, steps = CONTRACTS[contract]
    if seconds is not None:
        check.patches("st_mem", seconds, RATE, PATCH, POSITIONS)
    rows = check.some_leads("st_mem", leads, CANONICAL_LEADS)
    check.transformer("st_mem", width, layers, heads, BLOCKS, multiple=2)
    spec = ModelSpec(
        name="st_mem",
        sampling_rate=RATE,
        seconds=window if seconds is None else seconds,
        channels=width,
        family="transformer",
        reference="Na et al. 2024, ICLR, arXiv:2402.09450",
        licence="see github.com/bakqui/ST-MEM",
        lr_groups=(
            ("head", ("head/",)),
            ("late", ("encoder/block_([3-9]|1[01])/", "encoder/norm/")),
            ("early", ("encoder/(separator|lead_|patches|patch_norm|embedding_norm)", "encoder/block_[0-2]/")),
        ),
        paper_lr_groups=HEAD_ONLY,
        leads=tuple(leads),
        contract=contract,
        steps=steps,
    )
    sizes: dict[str, Any] = {"width": width, "layers": layers, "heads": heads}
    arguments = {"contract": contract, "leads": tuple(leads), "seconds": seconds, "dtype": dtype, **sizes}
    return Encoder(spec, StMem(rows, **sizes), arguments, tokens=Tokens(PATCH, PATCH, "leads", drops="each"))
