"""Supervised multi-label pretraining: a linear head on the pooled features, cross-entropy over the known labels.

The loss of the benchmark's own supervised training (protocol 3.3), as an objective beside the others and to be added to
them with a weight.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.models import heads
from ecgjax.models.encoder import Encoder, Features
from ecgjax.pretraining.objective import Batch, Objective, Setup, View
from ecgjax.training.losses import finite

Array = jax.Array

OPTIONS: dict[str, Any] = {}


def record_losses(logits: Array, targets: Array, valid: Array) -> Array:
    """Cross-entropies of each record, scaled so that their mean over the valid ones is that of all known labels.

    Args:
        logits: (batch, classes).
        targets: (batch, classes) of 0, 1 or NaN (unknown, not counted).
        valid: (batch,) bool: records that count.

    Returns:
        (batch,), 0 for records without a known label and those that are not valid.
    """
    logits, known = finite(logits), ~jnp.isnan(targets) & valid[:, None]
    # Replaced before the arithmetic: masking afterwards would leave NaN in the gradient.
    wanted = jnp.where(known, targets, 0)
    entropies = jnp.where(known, jax.nn.softplus(logits) - logits * wanted, 0)
    return jnp.sum(entropies, 1) * (jnp.sum(valid) / jnp.maximum(jnp.sum(known), 1))


def check(encoder: Encoder) -> None:
    """Every encoder can be trained so."""


def create(setup: Setup, options: Mapping[str, Any]) -> Objective:
    """The objective.

    Raises:
        UserError: the data has no labels.
    """
    if setup.targets is None:
        raise UserError(
            "objective supervised: config.data.labels names no label set; expected one of a single store (a union of "
            "stores has none)"
        )
    head_of = heads.create("linear", setup.encoder.spec.channels, setup.targets.shape[1])

    def init(key: Array, params: Any) -> tuple[Any, Any]:
        return head_of.init(key), {}

    def losses(head: Any, memory: Any, features: Features, view: View, batch: Batch) -> tuple[Array, dict[str, Array]]:
        logits, targets = head_of.apply(head, features), batch.facts["targets"]
        right = (logits > 0) == (targets > 0.5)
        known = ~jnp.isnan(targets)
        accuracy = jnp.sum(right & known, 1) / jnp.maximum(jnp.sum(known, 1), 1)
        return record_losses(logits, targets, batch.valid), {"accuracy": accuracy}

    return Objective("supervised", ("accuracy",), init, losses, facts=("targets",))
