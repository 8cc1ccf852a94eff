"""Masked prediction of cluster numbers, as HuBERT and HuBERT-ECG.

Hsu et al. 2021, arXiv:2106.07447; Coppola et al. 2024, medRxiv 2024.11.14.24317328. The logits of a token are cosine
similarities of its projection with one learned vector per cluster, divided by a temperature. With several clusterings
as targets each has its own projection and vectors, and their losses are summed.

Shapes: B records, T tokens, D dimensions of the projection, K clusters.
"""

import jax
import jax.numpy as jnp

from ecgjax.pretraining import cosine

TEMPERATURE = 0.1


def logits(projected_BTD: jax.Array, codebook_KD: jax.Array, temperature: float = TEMPERATURE) -> jax.Array:
    """Cosine similarity of each token with each cluster's vector, over the temperature: (batch, T, K), float32."""
    tokens_BTD, codebook_KD = cosine.unit(projected_BTD), cosine.unit(codebook_KD)
    return jnp.einsum("btd,kd->btk", tokens_BTD, codebook_KD, precision="highest") / temperature


def record_losses(
    logits_BTK: jax.Array, labels_BT: jax.Array, mask_BT: jax.Array, alpha: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Cross entropy and accuracy of each record.

    Args:
        logits_BTK: from `logits`.
        labels_BT: cluster numbers, int.
        mask_BT: tokens that the encoder did not see.
        alpha: weight of the masked tokens' mean; the visible ones' has 1 - alpha. HuBERT-ECG 1.

    Returns:
        (batch,) alpha x mean over masked tokens + (1 - alpha) x mean over the others, a part without tokens being 0;
        (batch,) share of masked tokens whose cluster has the highest logit, 0 without any. HuBERT-ECG's loss is their
        mean, as all its records mask equally many.
    """
    log_probability = jax.nn.log_softmax(logits_BTK.astype(jnp.promote_types(logits_BTK.dtype, jnp.float32)), -1)
    entropy_BT = -jnp.take_along_axis(log_probability, labels_BT[..., None], -1)[..., 0]
    hit_BT = jnp.argmax(logits_BTK, -1) == labels_BT
    losses = alpha * _mean(entropy_BT, mask_BT) + (1 - alpha) * _mean(entropy_BT, ~mask_BT)
    return losses, _mean(hit_BT.astype(jnp.float32), mask_BT)


def init_codebook(key: jax.Array, clusters: int, dimensions: int = 256) -> jax.Array:
    """(clusters, dimensions), standard normal, as torch's embeddings are at first."""
    return jax.random.normal(key, (clusters, dimensions))


def _mean(x_BT: jax.Array, where_BT: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(where_BT, x_BT, 0.0), -1) / jnp.maximum(jnp.sum(where_BT, -1), 1)
