"""Where an encoder's tokens lie on its signals, and what pretraining may do to them before the context network.

Shapes: B records, R rows of tokens, N tokens of a row, C channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Tokens(NamedTuple):
    """What an encoder declares about its tokens; an encoder without it offers no hook between tokens and context.

    Attributes:
        stride: samples of the prepared signal from one token of a row to the next.
        window: samples that the first token covers, at least `stride` where tokens do not overlap.
        layout: "time": one row, each token covers all leads. "leads": a row for each lead. "joined": one row over the
            leads laid end to end.
        causal: the context at a token depends on it and on earlier ones only.
        drops: how tokens can be left out: "" not at all; "shared" the same columns of all records and rows; "each"
            others in each record and row.
        extractor: convolutions make the tokens, and stand apart from the context network (taps "features" and
            "extracted").
    """

    stride: int
    window: int
    layout: str = "time"
    causal: bool = False
    drops: str = ""
    extractor: bool = False

    def rows(self, leads: int) -> int:
        """Rows of tokens of a signal with so many leads."""
        return leads if self.layout == "leads" else 1

    def columns(self, samples: int, leads: int) -> int:
        """Tokens of a row of a prepared signal (samples, leads)."""
        length = samples * leads if self.layout == "joined" else samples
        return max(0, (length - self.window) // self.stride + 1)

    def view(self, x: Array) -> Array:
        """A prepared signal (B, samples, leads) as its tokens see it: (B, R, length, values)."""
        if self.layout == "leads":
            return x.swapaxes(1, 2)[..., None]
        if self.layout == "joined":
            return x.swapaxes(1, 2).reshape(x.shape[0], 1, -1, 1)
        return x[:, None]


class Edit(NamedTuple):
    """What to do to the tokens of a batch. An empty one changes nothing.

    With an edit, even an empty one, an encoder adds taps: "tokens" (the token embeddings, before position, context and
    this edit), "context" (what the context network says of each token, after the last norm, if that is another thing
    than `Features.sequence`), and with an extractor "features" (its output) and "extracted" (the same, normalised).

    Attributes:
        masked: (B, R * N) bool: tokens whose embeddings are replaced before positions are added; None: none.
        vector: (C,) in their place.
        kept: (B or 1, R or 1, K) int32, ascending columns of the tokens that enter the context network, each with its
            own position; None: all.
        gradient: factor on the gradient that reaches the extractor.
    """

    masked: Array | None = None
    vector: Array | None = None
    kept: Array | None = None
    gradient: float = 1.0


def replace(tokens: Array, edit: Edit | None) -> Array:
    """Token embeddings (B, tokens, C) with the mask vector where they are masked."""
    if edit is None or edit.masked is None:
        return tokens
    assert edit.vector is not None
    return jnp.where(edit.masked[..., None], edit.vector.astype(tokens.dtype)[None, None], tokens)


def keep(tokens: Array, edit: Edit | None) -> Array:
    """Those of the tokens (B or 1, R, N, C) that are kept: (B or 1, R, K, C)."""
    if edit is None or edit.kept is None:
        return tokens
    batch, rows = max(tokens.shape[0], edit.kept.shape[0]), tokens.shape[1]
    kept = jnp.broadcast_to(edit.kept, (batch, rows, edit.kept.shape[-1]))
    tokens = jnp.broadcast_to(tokens, (batch, *tokens.shape[1:]))
    return jnp.take_along_axis(tokens, kept[..., None], 2)


def scale_gradient(features: Array, edit: Edit | None) -> Array:
    """The same values, with the edit's factor on their gradient."""
    if edit is None or edit.gradient == 1.0:
        return features
    factor = jnp.asarray(edit.gradient, features.dtype)
    return features * factor + jax.lax.stop_gradient(features * (1 - factor))
