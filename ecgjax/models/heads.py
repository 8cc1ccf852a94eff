"""Heads: from features to logits. Pure functions of a parameter tree, so that many can be trained in one vmap."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.models.encoder import Features
from ecgjax.models.layers import torch_uniform

Array = jax.Array
Params = dict[str, Array]

ATTENTION_HEADS = 16
READS = {"linear": "pooled", "attention": "sequence"}
"""Which of an encoder's features a kind of head reads."""


class Head(NamedTuple):
    """A head.

    Attributes:
        kind: "linear" or "attention".
        init: PRNG key -> parameters.
        apply: parameters, `Features` -> logits (batch, outputs).
    """

    kind: str
    init: Callable[[Array], Params]
    apply: Callable[[Params, Features], Array]


def create(kind: str, channels: int, outputs: int) -> Head:
    """Builds a head.

    Args:
        kind: "linear" (on the pooled features) or "attention" (query-attention pooling of the token sequence).
        channels: width of the features.
        outputs: logits.

    Raises:
        UserError: unknown kind, no output, or channels that the attention heads do not divide.
    """
    if outputs < 1:
        raise UserError(f"{kind} head: outputs is {outputs}; expected at least one")
    if kind == "linear":
        return _linear(channels, outputs)
    if kind == "attention":
        return _attention(channels, outputs)
    raise UserError(f"head kind is {kind!r}; expected 'linear' or 'attention'")


def _linear(channels: int, outputs: int) -> Head:
    def init(key: Array) -> Params:
        kernel, bias = jax.random.split(key)
        uniform = torch_uniform(channels)
        return {"kernel": uniform(kernel, (channels, outputs)), "bias": uniform(bias, (outputs,))}

    def apply(params: Params, features: Features) -> Array:
        return features.pooled @ params["kernel"] + params["bias"][None]

    return Head("linear", init, apply)


def _attention(channels: int, outputs: int) -> Head:
    """One learned query attends to all tokens with 16 heads; the output projection is the classifier. No biases.

    As the query is one vector, tokens need not be projected: with q = query Wq the scores are x (Wk q), and the
    weighted mean of values x Wv is the weighted mean of x, then Wv. For 300 tokens this is the same function at about a
    sixteenth of the arithmetic.
    """
    if channels % ATTENTION_HEADS:
        raise UserError(f"attention head: {channels} channels; expected a multiple of {ATTENTION_HEADS}")
    width = channels // ATTENTION_HEADS

    def init(key: Array) -> Params:
        keys = jax.random.split(key, 5)
        uniform = torch_uniform(channels)
        return {
            "query": jax.random.normal(keys[0], (channels,)) / math.sqrt(channels),
            "query_projection": uniform(keys[1], (channels, channels)),
            "key_projection": uniform(keys[2], (channels, channels)),
            "value_projection": uniform(keys[3], (channels, channels)),
            "output": uniform(keys[4], (channels, outputs)),
        }

    def apply(params: Params, features: Features) -> Array:
        x_BTE = features.sequence
        split = (channels, ATTENTION_HEADS, width)
        weights_BTN = attention_weights(params, x_BTE)
        pooled_BNE = jnp.einsum("btn,bte->bne", weights_BTN, x_BTE)
        values_BND = jnp.einsum("bne,end->bnd", pooled_BNE, params["value_projection"].reshape(split))
        return values_BND.reshape(-1, channels) @ params["output"]

    return Head("attention", init, apply)


def attention_weights(params: Params, x_BTE: Array) -> Array:
    """What an attention head gives each token: (batch, tokens, heads), which sum to 1 over tokens.

    Args:
        params: of the head.
        x_BTE: (batch, tokens, channels), the encoder's sequence.
    """
    channels = x_BTE.shape[-1]
    split = (channels, ATTENTION_HEADS, channels // ATTENTION_HEADS)
    q_ND = (params["query"] @ params["query_projection"]).reshape(split[1:])
    k_EN = jnp.einsum("end,nd->en", params["key_projection"].reshape(split), q_ND) / math.sqrt(split[2])
    return jax.nn.softmax(x_BTE @ k_EN, axis=1)
