"""Masked autoencoding: masked patches are reconstructed from the others, as ST-MEM does lead by lead.

Na et al. 2024, ICLR, arXiv:2402.09450; He et al. 2022, arXiv:2111.06377. Targets are the samples of a patch, those of
each lead with mean 0 and variance 1. An encoder that can leave tokens out sees the visible patches only, which is what
makes this objective cheap; the others read a learned vector where something is masked.

Differences from the authors' code: see `ecgjax.models.decoder`; patches last about `seconds` whatever the encoder, and
where a row of tokens covers all leads a patch does, too.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.models import decoder
from ecgjax.models.encoder import Encoder, Features
from ecgjax.models.tokens import Edit
from ecgjax.pretraining import masks, patch_grid, patches
from ecgjax.pretraining.objective import Batch, Objective, Setup, View, context, require
from ecgjax.pretraining.patch_grid import PatchGrid

Array = jax.Array

OPTIONS: dict[str, Any] = {
    "share": 0.75,  # of the patches of each row that are masked; the published one
    "seconds": 0.3,  # that a patch lasts about; the published one
    "width": 256,  # of the decoder; this and the next two are the published ones
    "layers": 4,
    "heads": 4,
}


def check(encoder: Encoder) -> None:
    """Refuses encoders whose tokens cannot be masked.

    Raises:
        UserError: with the reason.
    """
    require("masked_autoencoder", encoder, tokens=True)


def create(setup: Setup, options: Mapping[str, Any]) -> Objective:
    """The objective.

    Raises:
        UserError: an option has a value it cannot have.
    """
    encoder = setup.encoder
    grid = patch_grid.create(encoder, setup.samples, options["seconds"])
    if not 0 < options["share"] < 1:
        raise UserError(f"objective masked_autoencoder: share is {options['share']:g}; expected it between 0 and 1")
    visible = min(max(int(grid.patches * (1 - options["share"])), 1), grid.patches - 1)
    network = decoder.create(options["width"], options["layers"], options["heads"], grid.values * grid.samples)

    def init(key: Array, params: Any) -> tuple[Any, Any]:
        return init_head(key, network, grid), {}

    def view(head: Any, memory: Any, x: Array, key: Array) -> View:
        # Encoders that leave out the same columns everywhere get one mask for the batch.
        shape = (1, 1) if grid.tokens.drops == "shared" else (len(x), grid.rows)
        mask = masks.random_mask(key, (*shape, grid.patches), grid.patches - visible)
        return hide(grid, head, x, mask, grid.patches - visible)

    def losses(head: Any, memory: Any, features: Features, view: View, batch: Batch) -> tuple[Array, dict[str, Array]]:
        predicted = decode(grid, network, head, context(features), view.about)
        signals = grid.signals(batch.x)
        target = patches.normalise(signals).reshape(*signals.shape[:3], -1)
        mask = jnp.broadcast_to(view.about, signals.shape[:3])
        return patches.record_losses(predicted, target, mask), {}

    return Objective("masked_autoencoder", (), init, losses, view)


def init_head(key: Array, network: decoder.Decoder, grid: PatchGrid) -> dict[str, Any]:
    """The decoder, and the mask vector where the encoder needs one (normal, standard deviation 0.02)."""
    decoder_key, vector_key = jax.random.split(key)
    channels = grid.encoder.spec.channels
    head = {"decoder": network.init(decoder_key, channels * grid.group)}
    if grid.tokens.drops:
        return head
    return {**head, "mask_vector": 0.02 * jax.random.normal(vector_key, (channels,))}


def hide(grid: PatchGrid, head: Mapping[str, Any], x: Array, mask: Array, masked: int) -> View:
    """A view in which patches are left out, or replaced by the mask vector where the encoder cannot leave them out.

    Args:
        grid: the patches.
        head: with "mask_vector", if that is needed.
        x: (B, S, 12) mV.
        mask: (B or 1, R or 1, P) bool.
        masked: how many of each row.
    """
    if grid.tokens.drops:
        return View(x, Edit(kept=grid.columns_of(masks.split(mask, masked).visible)), mask)
    spread = grid.spread(jnp.broadcast_to(mask, (len(x), grid.rows, grid.patches)))
    return View(x, Edit(spread, head["mask_vector"]), mask)


def decode(grid: PatchGrid, network: decoder.Decoder, head: Mapping[str, Any], said: Array, mask: Array) -> Array:
    """What a decoder predicts for every patch, each row by itself.

    Args:
        grid: the patches.
        network: the decoder.
        head: with "decoder".
        said: (B, tokens, C) of the context network, of the visible tokens or of all.
        mask: (B or 1, R or 1, P) bool.

    Returns:
        (B, R, P, outputs).
    """
    batch, _, channels = said.shape
    mask = jnp.broadcast_to(mask, (batch, grid.rows, grid.patches))
    if grid.tokens.drops:
        visible = said.reshape(batch, grid.rows, -1, grid.group * channels)
        parts = masks.split(mask, grid.patches - visible.shape[2])
        gaps = jnp.zeros((batch, grid.rows, grid.patches - visible.shape[2], visible.shape[-1]), said.dtype)
        x = masks.join(visible, gaps, parts)
    else:
        x = grid.by_patch(said)
    x = x.reshape(batch * grid.rows, grid.patches, grid.group * channels)
    out = network.apply(head["decoder"], x, mask.reshape(batch * grid.rows, grid.patches))
    return out.reshape(batch, grid.rows, grid.patches, -1)
