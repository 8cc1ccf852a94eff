"""The patches that objectives mask: runs of an encoder's tokens of about equal duration whatever the encoder.

A token lasts from 8 ms (ECG-CPC) to 0.6 s (HuBERT-ECG). Masking single short tokens asks for nothing but interpolation,
so patches are as many tokens as come nearest to a duration.

Shapes: B records, R rows (leads, or one), N tokens of a row, P patches of a row, G tokens of a patch, C channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.data.leads import CANONICAL
from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder
from ecgjax.models.tokens import Tokens

Array = jax.Array


class PatchGrid(NamedTuple):
    """Where the patches are.

    Attributes:
        encoder: whose tokens they consist of.
        tokens: its declaration.
        rows: R.
        columns: N.
        group: G.
        patches: P; tokens after the last whole patch belong to none.
        values: samples of one time in a patch: leads of a row.
    """

    encoder: Encoder
    tokens: Tokens
    rows: int
    columns: int
    group: int
    patches: int
    values: int

    @property
    def samples(self) -> int:
        """Samples of a patch, of each of its leads."""
        return self.group * self.tokens.stride

    def signals(self, x: Array) -> Array:
        """Signals (B, S, 12) mV as the encoder reads them, cut: (B, R, P, values, samples)."""
        view = self.tokens.view(self.encoder.prepared(x))
        length = self.patches * self.samples
        view = jnp.pad(view, ((0, 0), (0, 0), (0, max(0, length - view.shape[2])), (0, 0)))[:, :, :length]
        view = view.reshape(len(x), self.rows, self.patches, self.samples, self.values)
        return view.swapaxes(-1, -2)

    def spread(self, mask_BRP: Array) -> Array:
        """A mask of patches as one of tokens, (B, R * N); tokens of no patch are visible."""
        mask = jnp.repeat(mask_BRP, self.group, -1)
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, self.columns - mask.shape[-1])))
        return mask.reshape(len(mask), self.rows * self.columns)

    def columns_of(self, patches_BRK: Array) -> Array:
        """The tokens of patches (..., K), ascending: (..., K * G) int32."""
        place = jnp.arange(self.group, dtype=jnp.int32).reshape((1,) * patches_BRK.ndim + (-1,))
        tokens = patches_BRK[..., None] * self.group + place
        return tokens.reshape(*patches_BRK.shape[:-1], -1)

    def by_patch(self, tokens_BTC: Array) -> Array:
        """Values at all tokens (B, R * N, C) as (B, R, P, G, C)."""
        batch, _, channels = tokens_BTC.shape
        x = tokens_BTC.reshape(batch, self.rows, self.columns, channels)[:, :, : self.patches * self.group]
        return x.reshape(batch, self.rows, self.patches, self.group, channels)


def create(encoder: Encoder, samples: int, seconds: float, least: int = 2) -> PatchGrid:
    """The patches of crops.

    Args:
        encoder: with tokens.
        samples: of a crop at the encoder's rate.
        seconds: that a patch should last about; it is at least one token.
        least: patches that a row must have.

    Raises:
        UserError: crops too short for so many patches, or no duration.
    """
    tokens = encoder.tokens
    assert tokens is not None  # objectives have seen to it
    if not seconds > 0:
        raise UserError(f"patches of {seconds} s; expected a positive duration")
    shape = jax.ShapeDtypeStruct((1, samples, len(CANONICAL)), jnp.float32)
    _, length, leads = jax.eval_shape(encoder.prepared, shape).shape
    rate = encoder.spec.sampling_rate * length / samples
    group = max(1, round(seconds * rate / tokens.stride))
    rows, columns = tokens.rows(leads), tokens.columns(length, leads)
    patches = columns // group
    if patches < least:
        raise UserError(
            f"crops of {samples / encoder.spec.sampling_rate:g} s have {patches} patches of {seconds:g} s; expected at "
            f"least {least}: a longer config.data.seconds or shorter patches"
        )
    values = leads if tokens.layout == "time" else 1
    return PatchGrid(encoder, tokens, rows, columns, group, patches, values)
