"""Which tokens, patches or leads an objective hides.

A mask is a boolean array, True = hidden, whose last axis are the tokens; rows are independent. `span_mask`,
`jepa_block_mask` and `jepa_random_mask` follow the published distributions, in which the number of hidden tokens varies
from row to row. `random_mask` and `fixed_span_mask` hide exactly as many as they are told, which keeps every shape
static: `split` then gives the indices of visible and hidden tokens, so that encoders see the visible ones only.

    wav2vec 2.0, HuBERT   spans                     Baevski et al. 2020, arXiv:2006.11477; Hsu et al. 2021, 2106.07447
    MAE, ST-MEM           a share of all patches    He et al. 2022, arXiv:2111.06377; Na et al. 2024, arXiv:2402.09450
    ECG-JEPA              blocks, or a share        Kim 2024, arXiv:2410.08559
    ECG-FM                whole leads               Oh et al. 2022, arXiv:2203.06889; McKeen et al. 2024, 2408.05178
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError

Shape = tuple[int, ...]


def span_mask(key: jax.Array, shape: Shape, probability: float, length: int, least: int = 2) -> jax.Array:
    """Spans of one length with distinct starts, which may overlap.

    A row has max(least, floor(probability T / length + U)) spans, U uniform on [0, 1); their starts are drawn without
    replacement from 0 ... T - length. So `probability` is the share that would be hidden without overlaps. The authors'
    codes draw U once for a batch (here for each row) and ECG-FM's never hides the last token; the number of hidden
    tokens is random, see `expected_masked` and `fixed_span_mask`.

    Args:
        key: PRNG key.
        shape: of the result; the last axis are the tokens T.
        probability: wav2vec 2.0 and ECG-FM 0.65, HuBERT 0.8, HuBERT-ECG 0.33.
        length: tokens of a span: 10, 10, 10 and 1 in the same order.
        least: spans that every row has at least.

    Raises:
        UserError: more spans than places for them.
    """
    tokens = shape[-1]
    starts = _check_spans(tokens, probability, length, least)
    count_key, start_key = jax.random.split(key)
    spans = jnp.floor(probability * tokens / length + jax.random.uniform(count_key, (*shape[:-1], 1)))
    chosen = _ranks(start_key, (*shape[:-1], starts)) < jnp.maximum(spans, least)
    mask = jnp.zeros(shape, bool)
    for offset in range(length):
        mask |= _shifted(chosen, offset, tokens, False)
    return mask


def expected_masked(tokens: int, probability: float, length: int, least: int = 2) -> float:
    """How many tokens `span_mask` hides in a row on average: 77 of ECG-FM's 156, for example.

    Raises:
        UserError: as for `span_mask`.
    """
    starts = _check_spans(tokens, probability, length, least)
    mean = probability * tokens / length
    total = 0.0
    for spans, share in ((math.floor(mean), 1 - mean % 1), (math.floor(mean) + 1, mean % 1)):
        spans = max(spans, least)
        for token in range(tokens):
            # A token stays visible if none of the spans starts where it would cover the token.
            covering = min(token, starts - 1) - max(token - length + 1, 0) + 1
            total += share * (1 - math.comb(starts - covering, spans) / math.comb(starts, spans))
    return total


def fixed_span_mask(key: jax.Array, shape: Shape, masked: int, shortest: int, longest: int | None = None) -> jax.Array:
    """Spans laid one after another until exactly `masked` tokens of each row are hidden.

    Starts come in random order without repeats from 0 ... T - shortest, each with a length uniform on shortest ...
    longest (a span ends with the row); the last span needed is cut short. A static count for span masking as in wav2vec
    2.0 (`masked` from `expected_masked`) and for ECG-JEPA's blocks (27 of 50, lengths 8 to 11).

    Args:
        key: PRNG key.
        shape: of the result; the last axis are the tokens T.
        masked: tokens to hide in each row.
        shortest: tokens of the shortest span.
        longest: tokens of the longest one; None: all are equally long.

    Raises:
        UserError: lengths or a count that T tokens cannot have.
    """
    longest, tokens = shortest if longest is None else longest, shape[-1]
    _check_count(tokens, masked)
    if not 1 <= shortest <= longest <= tokens:
        raise UserError(f"spans of {shortest} to {longest} among {tokens} tokens; expected 1 <= shortest <= longest")
    order_key, length_key = jax.random.split(key)
    starts = (*shape[:-1], tokens - shortest + 1)
    order, lengths = _ranks(order_key, starts), jax.random.randint(length_key, starts, shortest, longest + 1)
    # When each token is hidden: by the earliest span over it and its place in that. The first `masked` are.
    never = tokens * longest
    when = jnp.full(shape, never, jnp.int32)
    for offset in range(longest):
        laid = jnp.where(offset < lengths, order * longest + offset, never)
        when = jnp.minimum(when, _shifted(laid, offset, tokens, never))
    return _first(when, masked)


def random_mask(key: jax.Array, shape: Shape, masked: int) -> jax.Array:
    """Exactly `masked` tokens of each row, every choice of them equally likely.

    Args:
        key: PRNG key.
        shape: of the result, e.g. (batch, leads, patches) to hide in every lead independently as ST-MEM does: it keeps
            int(0.25 x 30) = 7 and hides 23 of 30 patches.
        masked: tokens to hide in each row.

    Raises:
        UserError: more than there are, or none.
    """
    _check_count(shape[-1], masked)
    return _ranks(key, shape) < masked


def jepa_block_mask(
    key: jax.Array, shape: Shape, blocks: int = 4, scale: tuple[float, float] = (0.175, 0.225)
) -> jax.Array:
    """ECG-JEPA's multi-block mask over times: the union of blocks that may overlap.

    A block has int(T u) tokens, u uniform on `scale`, and starts anywhere on 0 ... T - length (the authors' code leaves
    the last place out and so never hides the last token). Of 50 tokens 27 are hidden on average, 8 to 44 at all.

    Args:
        key: PRNG key.
        shape: of the result; the last axis are the times T. ECG-JEPA draws one mask for batch and leads: (T,).
        blocks: how many.
        scale: their least and largest length, as shares of T.
    """
    tokens = shape[-1]
    length_key, start_key = jax.random.split(key)
    rows = (*shape[:-1], blocks)
    length = jnp.floor(tokens * jax.random.uniform(length_key, rows, minval=scale[0], maxval=scale[1])).astype(int)
    start = jax.random.randint(start_key, rows, 0, tokens - length + 1)
    time = jnp.arange(tokens).reshape((1,) * len(rows) + (tokens,))
    return jnp.any((start[..., None] <= time) & (time < (start + length)[..., None]), -2)


def jepa_random_mask(key: jax.Array, shape: Shape, scale: tuple[float, float] = (0.6, 0.7)) -> jax.Array:
    """ECG-JEPA's random mask: int(T u) tokens of a row, u uniform on `scale`, every choice equally likely."""
    share_key, order_key = jax.random.split(key)
    share = jax.random.uniform(share_key, (*shape[:-1], 1), minval=scale[0], maxval=scale[1])
    return _ranks(order_key, shape) < jnp.floor(shape[-1] * share)


def lead_mask(key: jax.Array, batch: int, leads: int, probability: float = 0.5) -> jax.Array:
    """ECG-FM's random lead masking: (batch, leads), each lead hidden with `probability` whatever the others are.

    Zero them with `jnp.where(mask[:, None], 0, x)`. As published nothing keeps one lead: at 0.5 one in 4096 records of
    twelve leads loses all.
    """
    return jax.random.bernoulli(key, probability, (batch, leads))


class Split(NamedTuple):
    """Visible and hidden tokens of rows that hide equally many.

    Attributes:
        visible: (..., T - masked) int32, ascending.
        masked: (..., masked) int32, ascending.
        restore: (..., T) int32: concatenated tokens, the visible ones first, at these places are in order again.
    """

    visible: jax.Array
    masked: jax.Array
    restore: jax.Array


def split(mask: jax.Array, masked: int) -> Split:
    """Where the visible and the hidden tokens are.

    Args:
        mask: (..., T) with exactly `masked` hidden in each row; in a row with another count some tokens are taken for
            what they are not.
        masked: that count, known to the compiler.
    """
    order = jnp.argsort(mask, -1, stable=True).astype(jnp.int32)
    visible = mask.shape[-1] - masked
    return Split(order[..., :visible], order[..., visible:], jnp.argsort(order, -1).astype(jnp.int32))


def take(tokens: jax.Array, indices: jax.Array) -> jax.Array:
    """Tokens (..., T, C) at indices (..., K): (..., K, C)."""
    return jnp.take_along_axis(tokens, indices[..., None], -2)


def join(visible: jax.Array, masked: jax.Array, parts: Split) -> jax.Array:
    """Visible (..., T - masked, C) and hidden tokens (..., masked, C) in their order: (..., T, C)."""
    return take(jnp.concatenate([visible, masked], -2), parts.restore)


def _ranks(key: jax.Array, shape: Shape) -> jax.Array:
    """A random permutation of 0 ... n - 1 in each row."""
    return jnp.argsort(jnp.argsort(jax.random.bits(key, shape), -1), -1)


def _first(when: jax.Array, count: int) -> jax.Array:
    """The `count` smallest of each row of distinct numbers."""
    return when <= jnp.sort(when, -1)[..., count - 1 : count]


def _shifted(x: jax.Array, by: int, tokens: int, fill: int | bool) -> jax.Array:
    """Moved `by` places to the right within a row of `tokens`."""
    x = x[..., : tokens - by]
    padding = [(0, 0)] * (x.ndim - 1) + [(by, tokens - by - x.shape[-1])]
    return jnp.pad(x, padding, constant_values=fill)


def _check_count(tokens: int, masked: int) -> None:
    if not 0 < masked < tokens:
        raise UserError(f"{masked} of {tokens} tokens to be masked; expected at least one masked and one visible")


def _check_spans(tokens: int, probability: float, length: int, least: int) -> int:
    """The places where a span can start."""
    starts, most = tokens - length + 1, max(least, math.floor(probability * tokens / length) + 1)
    if length < 1 or not 0 < probability <= 1 or most > starts:
        raise UserError(
            f"spans of {length} with probability {probability:g} among {tokens} tokens; expected a probability up to 1 "
            f"and at least {length + most - 1} tokens"
        )
    return starts
