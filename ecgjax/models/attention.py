"""Multi-head self-attention and transformer blocks, with the norm before or after.

Attention has one meaning and two forms: all heads in one product, for accelerators, and head after head with the
weights computed again in the backward pass, which on a CPU keeps them in its cache. Tokens on a grid that attend to
their own row and column only never form the other products at all, but on a TPU, where masking them is cheaper.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from ecgjax.models.dropout import Dropout, drop
from ecgjax.models.fusion import stored
from ecgjax.models.layers import Dense, Initialiser, LayerNorm, gelu

Array = jax.Array

MAPPED_FROM = 128
"""Tokens from which on a CPU is faster with one head after the other, by measurement."""


def attend(
    q: Array,
    k: Array,
    v: Array,
    dropout: float = 0.0,
    key: Array | None = None,
    form: str = "auto",
    causal: bool = False,
) -> Array:
    """Softmax attention, softmax(q k / sqrt(width)) v.

    Args:
        q: (batch, tokens, heads, width).
        k: as `q`.
        v: as `q`.
        dropout: rate on the weights; only with `key`.
        key: PRNG key; None: no dropout.
        form: "together" (all heads at once), "mapped" (one after the other), or "auto": what suits the platform the
            program is compiled for.
        causal: each token attends to itself and to those before it only.

    Returns:
        (batch, tokens, heads, width).
    """
    # A key per head, so that both forms drop the same weights.
    keys = None if key is None or dropout == 0.0 else jax.random.split(key, q.shape[2])
    q, k, v = (jnp.moveaxis(x, 2, 0) for x in (q, k, v))
    head = partial(_head, dropout=dropout, causal=causal)
    forms = {
        "together": lambda *x: jax.vmap(head)(*x),
        "mapped": lambda *x: lax.map(lambda y: jax.checkpoint(head)(*y), x),
    }
    arguments = (q, k, v) if keys is None else (q, k, v, keys)
    if form == "auto" and q.shape[2] < MAPPED_FROM:
        form = "together"
    if form == "auto":
        out = lax.platform_dependent(*arguments, cpu=forms["mapped"], default=forms["together"])
    else:
        out = forms[form](*arguments)
    return jnp.moveaxis(out, 0, 2)


def _head(q: Array, k: Array, v: Array, key: Array | None = None, *, dropout: float, causal: bool) -> Array:
    """One head: (batch, tokens, width)."""
    logits = jnp.einsum("bqd,bkd->bqk", q * (1.0 / math.sqrt(q.shape[-1])), k)
    if causal:
        logits = jnp.where(jnp.tri(logits.shape[-1], dtype=bool)[None], logits, -jnp.inf)
    weights = _softmax(logits)
    if key is not None:
        weights = drop(weights, dropout, key)
    return jnp.einsum("bqk,bkd->bqd", weights, v)


def attend_cross(q: Array, k: Array, v: Array, rows: int, form: str = "auto") -> Array:
    """Softmax attention of tokens on a grid, each to the tokens of its own row and of its own column.

    Compiled for a TPU v5e (batch 8, 8 x 50 tokens, 16 heads of 48, float32; forward / with gradients) the parts move
    1,118 / 3,623 MB and the masked form 467 / 1,307: rows of 8 and 50 weights fill a tenth to a half of its registers'
    128 lanes. On a CPU the parts take a third of the time: 26 / 76 ms against 84 / 222 at batch 4.
    `python -m benchmarks.formulations --only=attention` makes these figures.

    Args:
        q: (batch, tokens, heads, width); tokens row after row.
        k: as `q`.
        v: as `q`.
        rows: rows of the grid.
        form: "parts" (only the pairs that count), "masked" (all pairs, the others masked), or "auto": what suits the
            platform the program is compiled for.

    Returns:
        (batch, tokens, heads, width).
    """
    forms = {"parts": partial(_cross_parts, rows=rows), "masked": partial(_cross_masked, rows=rows)}
    if form != "auto":
        return forms[form](q, k, v)
    return lax.platform_dependent(q, k, v, tpu=forms["masked"], default=forms["parts"])


def _cross_masked(q: Array, k: Array, v: Array, rows: int) -> Array:
    row, column = np.divmod(np.arange(q.shape[1]), q.shape[1] // rows)
    counts = jnp.asarray((row[:, None] == row[None]) | (column[:, None] == column[None]))
    logits = jnp.einsum("bqnd,bknd->bnqk", q * (1.0 / math.sqrt(q.shape[-1])), k)
    weights = _softmax(jnp.where(counts[None, None], logits, -jnp.inf))
    return jnp.einsum("bnqk,bknd->bqnd", weights, v)


def _cross_parts(q: Array, k: Array, v: Array, rows: int) -> Array:
    batch, tokens, heads, width = q.shape
    columns = tokens // rows
    q, k, v = (x.reshape(batch, rows, columns, heads, width) for x in (q * (1.0 / math.sqrt(width)), k, v))
    in_row = jnp.einsum("brcnd,brknd->bnrck", q, k)
    in_column = jnp.einsum("brcnd,bkcnd->bnrck", q, k)
    # Every token is in its row and in its column: the second time does not count.
    itself = jnp.eye(rows, dtype=bool)[None, None, :, None, :]
    in_column = jnp.where(itself, -jnp.inf, in_column)
    weights = _softmax(jnp.concatenate([in_row, in_column], -1))
    out = jnp.einsum("bnrck,brknd->brcnd", weights[..., :columns], v)
    out = out + jnp.einsum("bnrck,bkcnd->brcnd", weights[..., columns:], v)
    return out.reshape(batch, tokens, heads, width)


def _softmax(logits: Array) -> Array:
    """In float32 at least, returned in the type of the logits."""
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.softmax(wide, -1).astype(logits.dtype)


class Attention(nn.Module):
    """Multi-head self-attention: (batch, tokens, channels) -> the same shape.

    Attributes:
        heads: number of heads.
        fused: one projection to queries, keys and values, in this order, rather than three.
        use_bias: biases in these projections; the output projection has one anyhow.
        rows: rows of the grid that the tokens lie on, if each attends to its row and column only; None: to all.
        dropout: rate on the weights (not with `rows`).
        kernel_init: see `Dense`.
        output_init: of the output projection; None: as `kernel_init`.
        causal: each token attends to itself and to those before it only (not with `rows`).
    """

    heads: int
    fused: bool = True
    use_bias: bool = True
    rows: int | None = None
    dropout: float = 0.0
    kernel_init: Initialiser | None = None
    output_init: Initialiser | None = None
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        batch, tokens, channels = x.shape
        if self.fused:
            qkv = jnp.split(Dense(3 * channels, self.use_bias, self.kernel_init, name="qkv")(x), 3, -1)
        else:
            names = ("query", "key", "value")
            qkv = [Dense(channels, self.use_bias, self.kernel_init, name=name)(x) for name in names]
        q, k, v = (y.reshape(batch, tokens, self.heads, channels // self.heads) for y in qkv)
        if self.rows is None:
            key = self.make_rng("dropout") if train and self.dropout else None
            x = attend(q, k, v, self.dropout, key, causal=self.causal)
        else:
            x = attend_cross(q, k, v, self.rows)
        return Dense(channels, kernel_init=self.output_init or self.kernel_init, name="output")(
            x.reshape(batch, tokens, channels)
        )


class Block(nn.Module):
    """Attention and MLP, each on a residual path: (batch, tokens, channels) -> the same shape.

    Attributes:
        heads: of the attention.
        hidden: width of the MLP.
        norm_first: x + f(LayerNorm(x)) rather than LayerNorm(x + f(x)).
        fused: see `Attention`.
        qkv_bias: see `Attention`.
        rows: see `Attention`.
        dropout: rate after attention and after the MLP.
        attention_dropout: rate on the attention's weights.
        activation_dropout: rate inside the MLP.
        kernel_init: see `Dense`.
        output_init: of the last projections of attention and MLP; None: as `kernel_init`.
        causal: see `Attention`.
    """

    heads: int
    hidden: int
    norm_first: bool
    fused: bool = True
    qkv_bias: bool = True
    rows: int | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    kernel_init: Initialiser | None = None
    output_init: Initialiser | None = None
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        channels = x.shape[-1]
        attention = Attention(
            self.heads,
            self.fused,
            self.qkv_bias,
            self.rows,
            self.attention_dropout,
            self.kernel_init,
            self.output_init,
            self.causal,
            name="attention",
        )
        hidden = Dense(self.hidden, kernel_init=self.kernel_init, name="mlp_hidden")
        output = Dense(channels, kernel_init=self.output_init or self.kernel_init, name="mlp_output")
        attention_norm, mlp_norm = LayerNorm(name="attention_norm"), LayerNorm(name="mlp_norm")

        def dropped(y: Array) -> Array:
            return Dropout(self.dropout)(y, train)

        def mlp(y: Array) -> Array:
            return output(Dropout(self.activation_dropout)(gelu(hidden(y)), train))

        # On a CPU the sums are kept, not computed again in every layer that reads them.
        if self.norm_first:
            x = stored(x + dropped(attention(attention_norm(x), train)))
            return stored(x + dropped(mlp(mlp_norm(x))))
        x = attention_norm(stored(x + dropped(attention(x, train))))
        return mlp_norm(stored(x + dropped(mlp(x))))
