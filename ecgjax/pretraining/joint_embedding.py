"""Joint-embedding prediction: what a teacher says of masked patches is predicted from the visible ones, as ECG-JEPA.

Kim 2024, arXiv:2410.08559. The teacher is the moving average of the encoder and sees the whole record, the encoder what
is left of it. One mask for the batch and all leads, over time: four blocks of 17.5 to 22.5 % ("block"), or 65 % of the
patches ("random").

Differences from the authors' code: masks of a fixed size, 27 of 50 and 65 % (theirs vary from batch to batch about
these, so that every batch has another shape); the last patch can be masked; no drop-path, so that the teacher is in
evaluation mode (theirs is in training mode); positions fill all channels of the predictor (theirs half of them, and the
other half is constant).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.models import decoder
from ecgjax.models.encoder import Encoder, Features
from ecgjax.models.tokens import Edit
from ecgjax.pretraining import jepa, masks, patch_grid, teacher
from ecgjax.pretraining.masked_autoencoder import decode, hide, init_head
from ecgjax.pretraining.objective import Batch, Objective, Setup, View, context, require

Array = jax.Array

OPTIONS: dict[str, Any] = {
    "mask": "block",  # or random
    "seconds": 0.2,  # that a patch lasts about; the published one
    "momentum": 0.996,  # of the teacher at first; it rises to 1 along a line over the run; the published one
    "width": 384,  # of the predictor; this and the next two are the published ones
    "layers": 6,
    "heads": 12,
}

SHARES = {"block": 27 / 50, "random": 0.65}


def check(encoder: Encoder) -> None:
    """Refuses encoders whose tokens cannot be masked.

    Raises:
        UserError: with the reason.
    """
    require("jepa", encoder, tokens=True)


def create(setup: Setup, options: Mapping[str, Any]) -> Objective:
    """The objective.

    Raises:
        UserError: an option has a value it cannot have.
    """
    encoder, kind = setup.encoder, options["mask"]
    if kind not in SHARES:
        raise UserError(f"objective jepa: mask is {kind!r}; expected block or random")
    teacher.momentum(0, setup.steps, options["momentum"])
    grid = patch_grid.create(encoder, setup.samples, options["seconds"])
    masked = min(max(round(SHARES[kind] * grid.patches), 1), grid.patches - 1)
    outputs = grid.group * encoder.spec.channels
    network = decoder.create(options["width"], options["layers"], options["heads"], outputs, every_block=True)

    def init(key: Array, params: Any) -> tuple[Any, Any]:
        return init_head(key, network, grid), {"teacher": jax.tree.map(jnp.copy, params)}

    def view(head: Any, memory: Any, x: Array, key: Array) -> View:
        return hide(grid, head, x, draw(key, kind, grid.patches, masked)[None, None], masked)

    def losses(head: Any, memory: Any, features: Features, view: View, batch: Batch) -> tuple[Array, dict[str, Array]]:
        variables = {"params": memory["teacher"], **batch.rest}
        whole, _ = encoder.apply(variables, batch.x, edit=Edit())
        indices = masks.split(view.about[0, 0], masked).masked
        indices = jnp.broadcast_to(indices[None], (len(batch.x) * grid.rows, masked))

        def rows(x: Array) -> Array:
            return x.reshape(len(batch.x) * grid.rows, grid.patches, outputs)

        def by_token(x: Array) -> Array:  # (B R, M, G C) -> (B, R M G, C)
            return x.reshape(len(batch.x), -1, encoder.spec.channels)

        said = by_token(masks.take(rows(grid.by_patch(context(whole))), indices))
        everything = jnp.broadcast_to(jnp.arange(said.shape[1])[None], said.shape[:2])
        target = jepa.targets(said, everything)
        predicted = rows(decode(grid, network, head, context(features), view.about))
        return jepa.record_losses(by_token(masks.take(predicted, indices)), target), {}

    def after_update(memory: Any, params: Any, step: Array) -> Any:
        share = teacher.momentum(step - 1, setup.steps, options["momentum"])
        return {"teacher": teacher.update(memory["teacher"], params, share)}

    return Objective("jepa", (), init, losses, view, after_update)


def draw(key: Array, kind: str, patches: int, masked: int) -> Array:
    """(patches,) bool with exactly `masked` True: blocks of 17.5 to 22.5 % of the patches, or any choice of them."""
    if kind == "random":
        return masks.random_mask(key, (patches,), masked)
    shortest = max(int(0.175 * patches), 1)
    return masks.fixed_span_mask(key, (patches,), masked, shortest, max(int(0.225 * patches), shortest))
