"""Contrastive multi-segment coding: two segments of one patient's ECG are alike, those of other patients are not.

Kiyasseh et al. 2021, arXiv:2005.13249 (CLOCS); with wav2vec 2.0 in Oh et al. 2022, arXiv:2203.06889, and ECG-FM. Pairs
of the whole batch are compared: under jit with sharded arrays that is the global batch (in the authors' code each
device's own).

Shapes: B pairs, D dimensions.
"""

import jax
import jax.numpy as jnp

from ecgjax.pretraining import cosine

TEMPERATURE = 0.1


def record_losses(
    first_BD: jax.Array,
    second_BD: jax.Array,
    patients_B: jax.Array | None = None,
    temperature: float = TEMPERATURE,
    constant_norm: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Contrastive loss and accuracy of each pair, symmetric in its segments.

    Args:
        first_BD: first segments, e.g. means over tokens.
        second_BD: second segments of the same recordings.
        patients_B: integers that tell patients apart; all segments of one patient are positives. None: every pair is
            another patient's.
        temperature: that cosine similarities are divided by.
        constant_norm: no gradient flows through the vectors' lengths, as in the authors' code. It then has a part along
            the vectors, which changes no similarity, only lengths.

    Returns:
        (batch,) mean of both directions of the mean over positives of -log softmax of the similarities, log B at chance
        where each patient comes once; (batch,) mean over both directions of whether the most similar segment is a
        positive. The authors average over all positives of the batch: the same if all patients come equally often.
    """
    batch = len(first_BD)
    first_BD, second_BD = (_unit(x, constant_norm) for x in (first_BD, second_BD))
    score_BB = jnp.einsum("ad,bd->ab", first_BD, second_BD, precision="highest") / temperature
    patients_B = jnp.arange(batch) if patients_B is None else patients_B
    positive_BB = patients_B[:, None] == patients_B[None]
    losses, hits = zip(*(_one_direction(score, positive_BB) for score in (score_BB, score_BB.T)), strict=True)
    return (losses[0] + losses[1]) / 2, (hits[0] + hits[1]) / 2


def _one_direction(score_BB: jax.Array, positive_BB: jax.Array) -> tuple[jax.Array, jax.Array]:
    entropy_BB = -jax.nn.log_softmax(score_BB, -1)
    loss_B = jnp.sum(jnp.where(positive_BB, entropy_BB, 0.0), -1) / jnp.sum(positive_BB, -1)
    best_B1 = jnp.argmax(score_BB, -1)[:, None]
    return loss_B, jnp.take_along_axis(positive_BB, best_B1, -1)[:, 0].astype(jnp.float32)


def _unit(x_BD: jax.Array, constant_norm: bool) -> jax.Array:
    if not constant_norm:
        return cosine.unit(x_BD)
    x_BD = x_BD.astype(jnp.promote_types(x_BD.dtype, jnp.float32))
    norm = jax.lax.stop_gradient(jnp.linalg.norm(x_BD, axis=-1, keepdims=True))
    return x_BD / jnp.maximum(norm, 1e-8)
