"""Which samples of which leads an output rests on: gradients, integrated gradients, and an attention head's weights.

A figure of these shows what moves the output, which is not what is true of the heart, nor what a cardiologist would
look at; and a model may be moved by much that the figure does not show. Adebayo et al. 2018 (arXiv:1810.03292) and
Jain and Wallace 2019 (arXiv:1902.10186) say why.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ecgjax.errors import UserError
from ecgjax.models import heads
from ecgjax.models.encoder import CANONICAL_LEADS, Encoder, Variables

Method = Literal["integrated_gradients", "gradient", "attention"]
METHODS: tuple[Method, ...] = ("integrated_gradients", "gradient", "attention")

LEAD_BY_LEAD = ("st_mem", "ecg_jepa", "hubert_ecg")
"""Models whose tokens follow one lead through the window, then the next; tokens of all others hold all leads."""


class Saliency(NamedTuple):
    """Of some windows.

    Attributes:
        values: (windows, samples, 12) at the model's rate: shares of the output's logit, or of the head's attention.
        logits: (windows,) of the output.
        gap: (windows,) logit minus that of a flat line minus the sum of the values; 0 would be exact. None but for
            integrated gradients.
    """

    values: NDArray[np.float32]
    logits: NDArray[np.float32]
    gap: NDArray[np.float32] | None


def attribute(
    encoder: Encoder,
    variables: Variables,
    head: heads.Head,
    params: heads.Params,
    output: int,
    x: NDArray[np.float32],
    method: Method = "integrated_gradients",
    steps: int = 32,
) -> Saliency:
    """Shares of an output's logit, window by window.

    Args:
        encoder: in evaluation mode.
        variables: of it.
        head: on it.
        params: of the head.
        output: number of the logit, or of the regression output.
        x: (windows, samples, 12) in mV at the model's rate, without NaN.
        method: "gradient": gradient times input. "integrated_gradients": the input times the mean gradient on the way
            from a flat line of 0 mV to it (Sundararajan et al. 2017, arXiv:1703.01365), by the midpoint rule.
            "attention": mean weight of an attention head's tokens, spread over the samples that a token begins with.
        steps: of the way, for integrated gradients.

    Raises:
        UserError: an unknown method, steps that cannot be, or attention of a head that has none.
    """
    if method not in METHODS:
        raise UserError(f"config.method is {method!r}; expected one of {', '.join(METHODS)}")
    if steps < 1:
        raise UserError(f"config.steps is {steps}; expected 1 or more")
    if method == "attention" and head.kind != "attention":
        raise UserError(
            f"config.method=attention: the head is {head.kind}; expected a run of mode frozen or finetune_attention"
        )

    def logit(variables: Variables, params: heads.Params, window: Array) -> Array:
        return head.apply(params, encoder.apply(variables, window[None])[0])[0, output]

    @jax.jit
    def one(variables: Variables, params: heads.Params, window: Array) -> tuple[Array, Array, Array]:
        value = partial(logit, variables, params)
        if method == "gradient":
            return window * jax.grad(value)(window), value(window), jnp.zeros(())
        places = (jnp.arange(steps) + 0.5) / steps

        def add(total: Array, place: Array) -> tuple[Array, None]:
            return total + jax.grad(value)(place * window), None

        mean = jax.lax.scan(add, jnp.zeros_like(window), places)[0] / steps
        at, flat = value(window), value(jnp.zeros_like(window))
        return window * mean, at, at - flat - (window * mean).sum()

    @jax.jit
    def attended(variables: Variables, params: heads.Params, window: Array) -> tuple[Array, Array]:
        features = encoder.apply(variables, window[None])[0]
        weights = heads.attention_weights(params, features.sequence).mean(axis=2)[0]
        return weights, head.apply(params, features)[0, output]

    if method == "attention":
        parts = [attended(variables, params, jnp.asarray(window)) for window in x]
        spec = encoder.spec
        spread = [spread_tokens(np.asarray(weights), x.shape[1], spec.name, spec.leads) for weights, _ in parts]
        return Saliency(np.stack(spread), np.array([logit for _, logit in parts], np.float32), None)
    found = [one(variables, params, jnp.asarray(window)) for window in x]
    values, logits, gaps = (np.stack([np.asarray(part[k]) for part in found]) for k in range(3))
    return Saliency(values, logits, gaps if method == "integrated_gradients" else None)


def spread_tokens(weights: NDArray[np.float32], samples: int, model: str, leads: Sequence[str]) -> NDArray[np.float32]:
    """Tokens' weights over samples and leads, (samples, 12); what they sum to stays.

    A token stands for an equal share of the window, in the order of the tokens. In most models it has also seen what
    lies around it, and in transformers everything.

    Args:
        weights: (tokens,).
        samples: of the window.
        model: registry name.
        leads: that the model takes, in its order.
    """
    result = np.zeros((samples, len(CANONICAL_LEADS)), np.float32)
    columns = [CANONICAL_LEADS.index(lead) for lead in leads]
    if model in LEAD_BY_LEAD:
        long = _stretched(weights, samples * len(leads)).reshape(len(leads), samples)
        result[:, columns] = long.T
    else:
        result[:, columns] = _stretched(weights, samples)[:, None] / len(leads)
    return result


def smooth(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Moving means over `width` samples of the second last axis, fewer at the ends."""
    if width < 2:
        return values
    samples = values.shape[-2]
    total = np.concatenate([np.zeros_like(values[..., :1, :]), np.cumsum(values, axis=-2, dtype=np.float64)], axis=-2)
    begin = np.maximum(np.arange(samples) - width // 2, 0)
    end = np.minimum(begin + width, samples)
    mean = (total[..., end, :] - total[..., begin, :]) / (end - begin)[:, None]
    return np.asarray(mean, np.float32)


def _stretched(weights: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Each token's weight spread evenly over its share of the samples, parts of a sample included."""
    edges = np.linspace(0, len(weights), samples + 1)
    total = np.append(0.0, np.cumsum(weights, dtype=np.float64))
    return np.diff(np.interp(edges, np.arange(len(total)), total)).astype(np.float32)
