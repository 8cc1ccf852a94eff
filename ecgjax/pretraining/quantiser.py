"""wav2vec 2.0's quantiser: one code of each group, chosen by a Gumbel softmax and passed straight through.

Baevski et al. 2020, arXiv:2006.11477, section 2; Jang et al. 2017, arXiv:1611.01144. ECG-FM: 2 groups of 320 codes of
128 dimensions, from 256 channels.

Shapes: B records, M tokens, C channels, G groups, V codes of a group, D dimensions of a code.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

GROUPS, CODES, DIMENSIONS = 2, 320, 128
_LOG_OFFSET = 1e-7  # the authors', inside the logarithm of the perplexity


class Quantised(NamedTuple):
    """What the quantiser makes of a batch.

    Attributes:
        vectors: (B, M, G D), the chosen codes of all groups one after another.
        codes: (B, M, G) int32, which they are.
        diversity: (G V - perplexity) / (G V), what is added to the loss with weight 0.1; 0 if all codes are used alike.
        perplexity: of the batch's mean probabilities without noise, summed over groups; from G to G V.
        code_perplexity: the same of the codes with the highest logits, for the log.
    """

    vectors: jax.Array
    codes: jax.Array
    diversity: jax.Array
    perplexity: jax.Array
    code_perplexity: jax.Array


def init(
    key: jax.Array, channels: int, groups: int = GROUPS, codes: int = CODES, dimensions: int = DIMENSIONS
) -> dict[str, jax.Array]:
    """Fresh parameters as the authors draw them: logits standard normal, codes uniform from 0 to 1.

    Returns:
        "kernel" (channels, groups, codes), "bias" (groups, codes), "codebook" (groups, codes, dimensions).
    """
    kernel_key, codebook_key = jax.random.split(key)
    return {
        "kernel": jax.random.normal(kernel_key, (channels, groups, codes)),
        "bias": jnp.zeros((groups, codes)),
        "codebook": jax.random.uniform(codebook_key, (groups, codes, dimensions)),
    }


def apply(
    params: dict[str, jax.Array], x_BMC: jax.Array, temperature: jax.Array | float, key: jax.Array | None = None
) -> Quantised:
    """Quantises the tokens.

    Args:
        params: from `init`.
        x_BMC: features.
        temperature: of the softmax, see `temperature`.
        key: PRNG key of the Gumbel noise; None, as in evaluation: the codes with the highest logits, and no gradient
            to the features.
    """
    x_BMC = x_BMC.astype(jnp.promote_types(x_BMC.dtype, jnp.float32))
    logits = jnp.einsum("bmc,cgv->bmgv", x_BMC, params["kernel"], precision="highest") + params["bias"][None, None]
    likeliest = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1])
    if key is None:
        chosen = likeliest
    else:
        soft = jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / temperature, -1)
        hard = jax.nn.one_hot(jnp.argmax(soft, -1), logits.shape[-1])
        # The value of the hard choice with the gradient of the soft one.
        chosen = hard + (soft - jax.lax.stop_gradient(soft))
    vectors = jnp.einsum("bmgv,gvd->bmgd", chosen, params["codebook"], precision="highest")
    perplexity = _perplexity(jax.nn.softmax(logits, -1))
    total = logits.shape[-2] * logits.shape[-1]
    return Quantised(
        vectors.reshape(*vectors.shape[:2], -1),
        jnp.argmax(chosen, -1).astype(jnp.int32),
        (total - perplexity) / total,
        perplexity,
        _perplexity(likeliest),
    )


def temperature(step: Any, first: float = 2.0, last: float = 0.5, factor: float = 0.999995) -> jax.Array:
    """The temperature for update number `step` (from 0, may be traced): it falls by `factor` an update down to `last`.

    After 277,000 updates, that is. For a shorter run choose factor = (last / first) ** (1 / updates).
    """
    # Not a power of the factor, which is off by 1 % of its distance from 1 in float32.
    return jnp.maximum(first * jnp.exp(jnp.asarray(step, jnp.float32) * math.log(factor)), last)


def _perplexity(probabilities_BMGV: jax.Array) -> jax.Array:
    mean_GV = jnp.mean(probabilities_BMGV, (0, 1))
    return jnp.sum(jnp.exp(-jnp.sum(mean_GV * jnp.log(mean_GV + _LOG_OFFSET), -1)))
