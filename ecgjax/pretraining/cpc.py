"""Contrastive predictive coding as ECG-CPC was pretrained with it.

From the prediction at token i the encoder's token i + 14 must be told from 128 others of the same record. As in the
authors' code: only that one step ahead is predicted (not all of 1 ... 14), logits are plain dot products, negatives are
drawn with repeats from every token but the target, the loss is the sum over tokens (not their mean) and the mean over
records, and the gradient also reaches the encoder through targets and negatives.

Al-Masud, Lopez Alcaraz and Strodthoff 2025, arXiv:2509.25095; van den Oord et al. 2018, arXiv:1807.03748.

Shapes: B records, T tokens, P = T - 14 predictions, C channels, N negatives.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder, Features
from ecgjax.pretraining.objective import Batch, Objective, Setup, View, require

OPTIONS: dict[str, Any] = {}

STEPS_AHEAD = 14
NEGATIVES = 128


def draw_negatives(key: jax.Array, batch: int, tokens: int, negatives: int = NEGATIVES) -> jax.Array:
    """Which tokens of its own record each target is to be told from.

    Args:
        key: PRNG key.
        batch: records.
        tokens: tokens of each record.
        negatives: drawn for each prediction.

    Returns:
        (batch, tokens - 14, negatives) int32, uniform over all tokens but the target, with repeats.

    Raises:
        UserError: too few tokens for a single prediction.
    """
    _check_tokens(tokens)
    drawn = jax.random.randint(key, (batch, tokens - STEPS_AHEAD, negatives), 0, tokens - 1)
    target = jnp.arange(STEPS_AHEAD, tokens)[None, :, None]
    return drawn + (drawn >= target)


def loss(encoded_BTC: jax.Array, predicted_BTC: jax.Array, negatives_BPN: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The contrastive loss and accuracy of a batch.

    Args:
        encoded_BTC: encoder's output, from which targets and negatives come.
        predicted_BTC: self-supervised head's output; its last 14 tokens are not used.
        negatives_BPN: from `draw_negatives`.

    Returns:
        Scalars: mean over the batch of `record_losses`.
    """
    losses, accuracies = record_losses(encoded_BTC, predicted_BTC, negatives_BPN)
    return jnp.mean(losses), jnp.mean(accuracies)


def record_losses(
    encoded_BTC: jax.Array, predicted_BTC: jax.Array, negatives_BPN: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The contrastive loss and accuracy of each record.

    Returns:
        (batch,) cross entropy summed over predictions, at chance P log(N + 1); (batch,) share of predictions whose
        target scores no less than every negative.
    """
    encoded_BTC, predicted_BTC = encoded_BTC.astype(jnp.float32), predicted_BTC.astype(jnp.float32)
    predicted_BPC = predicted_BTC[:, :-STEPS_AHEAD]
    target_BP = jnp.sum(predicted_BPC * encoded_BTC[:, STEPS_AHEAD:], -1)
    # All T scores of each prediction in one product, then a gather of N: a hundredth of the memory of gathering the
    # negatives themselves, which are N x C numbers per prediction.
    score_BPT = jnp.einsum("bpc,btc->bpt", predicted_BPC, encoded_BTC)
    negative_BPN = jnp.take_along_axis(score_BPT, negatives_BPN, -1)
    log_partition_BP = jnp.logaddexp(target_BP, jax.nn.logsumexp(negative_BPN, -1))
    hit_BP = target_BP >= jnp.max(negative_BPN, -1)
    return jnp.sum(log_partition_BP - target_BP, -1), jnp.mean(hit_BP.astype(jnp.float32), -1)


def init_head(key: jax.Array, channels: int) -> dict[str, jax.Array]:
    """The self-supervised head: one linear layer without bias, uniform within 1/sqrt(channels) as torch's default."""
    bound = channels**-0.5
    return {"kernel": jax.random.uniform(key, (channels, channels), jnp.float32, -bound, bound)}


def apply_head(head: dict[str, jax.Array], predictor_BTC: jax.Array) -> jax.Array:
    """Predictions (batch, tokens, channels) from the predictor's output."""
    return predictor_BTC @ head["kernel"]


def check(encoder: Encoder) -> None:
    """Refuses encoders with no sequence in time, or whose context sees what is to be predicted.

    Raises:
        UserError: with the reason.
    """
    require("cpc", encoder, causal=True)


def create(setup: Setup, options: Mapping[str, Any]) -> Objective:
    """The objective: from the context at a token (the predictor's output), the token embedding 14 ahead.

    Raises:
        UserError: crops too short for a single prediction.
    """
    tokens = setup.encoder.tokens
    assert tokens is not None  # `check` has seen to it
    columns = tokens.columns(setup.samples, len(setup.encoder.spec.leads))
    _check_tokens(columns)

    def init(key: jax.Array, params: Any) -> tuple[Any, Any]:
        return init_head(key, setup.encoder.spec.channels), {}

    def losses(
        head: Any, memory: Any, features: Features, view: View, batch: Batch
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        encoded = features.taps["tokens"]
        negatives = draw_negatives(batch.key, *encoded.shape[:2])
        predicted = apply_head(head, features.taps.get("context", features.sequence))
        values, accuracies = record_losses(encoded, predicted, negatives)
        return values, {"accuracy": accuracies}

    chance = (columns - STEPS_AHEAD) * math.log(NEGATIVES + 1)
    return Objective("cpc", ("accuracy",), init, losses, chance=chance)


def _check_tokens(tokens: int) -> None:
    if tokens <= STEPS_AHEAD:
        raise UserError(f"crops have {tokens} tokens; expected more than the {STEPS_AHEAD} steps that CPC looks ahead")
