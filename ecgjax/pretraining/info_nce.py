"""wav2vec 2.0's contrastive loss: the target of a masked token among those of other masked tokens of its record.

Baevski et al. 2020, arXiv:2006.11477, section 3.2; ECG-FM as in fairseq-signals: 100 negatives, temperature 0.1.
Targets are quantised, so that a negative may be the positive itself under another token; it is then left out.

Shapes: B records, M masked tokens of each, N negatives, D dimensions.
"""

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.pretraining import cosine

NEGATIVES = 100
TEMPERATURE = 0.1


def draw_negatives(key: jax.Array, batch: int, masked: int, negatives: int = NEGATIVES) -> jax.Array:
    """Which masked tokens of its own record each target is to be told from.

    Args:
        key: PRNG key.
        batch: records.
        masked: masked tokens of each record.
        negatives: drawn for each of them.

    Returns:
        (batch, masked, negatives) int32, uniform over all masked tokens but the target, with repeats.

    Raises:
        UserError: fewer than two masked tokens.
    """
    if masked < 2:
        raise UserError(f"{masked} masked token per record; expected at least two to draw negatives from")
    drawn = jax.random.randint(key, (batch, masked, negatives), 0, masked - 1)
    return drawn + (drawn >= jnp.arange(masked)[None, :, None])


def record_losses(
    predicted_BMD: jax.Array,
    target_BMD: jax.Array,
    negatives_BMN: jax.Array,
    codes_BMG: jax.Array | None = None,
    temperature: float = TEMPERATURE,
) -> tuple[jax.Array, jax.Array]:
    """Contrastive loss and accuracy of each record.

    Args:
        predicted_BMD: projected output of the context network at masked tokens.
        target_BMD: projected quantised features of the same tokens; gradient reaches them too.
        negatives_BMN: from `draw_negatives`.
        codes_BMG: codes of the targets; negatives with the codes of the positive are left out. None: all stay.
        temperature: that cosine similarities are divided by.

    Returns:
        (batch,) cross entropy, mean over masked tokens, log(N + 1) at chance; (batch,) share of masked tokens whose
        target is more similar than every negative.
    """
    # All M x M similarities in one product, then a gather of N of them, as in `cpc.record_losses`.
    score_BMM = jnp.einsum("bmd,bnd->bmn", cosine.unit(predicted_BMD), cosine.unit(target_BMD), precision="highest")
    score_BMM = score_BMM / temperature
    positive_BM1 = jnp.diagonal(score_BMM, axis1=1, axis2=2)[..., None]
    if codes_BMG is not None:
        same_BMM = jnp.all(codes_BMG[:, :, None] == codes_BMG[:, None], -1)
        score_BMM = jnp.where(same_BMM, -jnp.inf, score_BMM)
    negative_BMN = jnp.take_along_axis(score_BMM, negatives_BMN, -1)
    all_BM = jax.nn.logsumexp(jnp.concatenate([positive_BM1, negative_BMN], -1), -1)
    hit_BM = positive_BM1[..., 0] > jnp.max(negative_BMN, -1)
    return jnp.mean(all_BM - positive_BM1[..., 0], -1), jnp.mean(hit_BM.astype(jnp.float32), -1)
