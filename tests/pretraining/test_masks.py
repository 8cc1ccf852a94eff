"""Masks against their definitions, drawn one at a time by numpy."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.errors import UserError
from ecgjax.pretraining import masks

ROWS = 10000
draw_random = jax.jit(masks.random_mask, static_argnames=("shape", "masked"))
draw_spans = jax.jit(masks.fixed_span_mask, static_argnames=("shape", "masked", "shortest", "longest"))
split = jax.jit(masks.split, static_argnames="masked")
take, join = jax.jit(masks.take), jax.jit(masks.join)


def runs(row: np.ndarray) -> list[int]:
    """Lengths of the runs of hidden tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return list(edges[1::2] - edges[::2])


def assert_same_shares(found: np.ndarray, expected: np.ndarray) -> None:
    """Both are (rows, ...) of zeros and ones with the same expectation: five standard errors of the difference."""
    error = np.sqrt(2 * 0.25 / len(expected))
    np.testing.assert_allclose(found.mean(0), expected.mean(0), rtol=0, atol=5 * error)


def span_rows(rng: np.random.Generator, rows: int, tokens: int, probability: float, length: int, least: int):
    out = np.zeros((rows, tokens), bool)
    for row in out:
        spans = max(least, int(probability * tokens / length + rng.random()))
        for start in rng.choice(tokens - length + 1, spans, replace=False):
            row[start : start + length] = True
    return out


@pytest.mark.parametrize(("tokens", "probability", "length", "least"), [(40, 0.65, 10, 2), (9, 0.1, 3, 2)])
def test_spans_have_the_distribution_of_their_definition(tokens, probability, length, least):
    draw = jax.jit(partial(masks.span_mask, shape=(ROWS, tokens), probability=probability, length=length, least=least))
    found = np.asarray(draw(jax.random.key(0)))
    expected = span_rows(np.random.default_rng(0), ROWS, tokens, probability, length, least)
    assert_same_shares(found, expected)
    assert_same_shares(found[:, 1:] & found[:, :-1], expected[:, 1:] & expected[:, :-1])
    counts = [np.bincount(mask.sum(1), minlength=tokens + 1) / ROWS for mask in (found, expected)]
    np.testing.assert_allclose(*counts, rtol=0, atol=0.025)
    assert min(min(runs(row)) for row in found[:500]) >= length
    mean = masks.expected_masked(tokens, probability, length, least)
    np.testing.assert_allclose(found.sum(1).mean(), mean, atol=5 * found.sum(1).std() / np.sqrt(ROWS))


def test_published_shares():
    # ECG-FM's 49 % for a single row, HuBERT-ECG's 30 or 31 tokens (measured with the authors' codes).
    assert masks.expected_masked(156, 0.65, 10) / 156 == pytest.approx(0.49, abs=0.01)
    draw = jax.jit(partial(masks.span_mask, shape=(500, 93), probability=0.33, length=1))
    counts = np.asarray(draw(jax.random.key(1))).sum(1)
    assert set(counts) == {30, 31}
    assert masks.expected_masked(93, 0.33, 1) == pytest.approx(0.33 * 93)


def fixed_rows(rng: np.random.Generator, rows: int, tokens: int, masked: int, shortest: int, longest: int):
    out = np.zeros((rows, tokens), bool)
    for row in out:
        for start in rng.permutation(tokens - shortest + 1):
            for token in range(start, min(start + rng.integers(shortest, longest + 1), tokens)):
                if row.sum() < masked:
                    row[token] = True
    return out


@pytest.mark.parametrize(("tokens", "masked", "shortest", "longest"), [(50, 27, 8, 11), (40, 20, 10, 10)])
def test_fixed_spans_have_the_distribution_of_their_definition(tokens, masked, shortest, longest):
    rows = 1500
    draw = jax.jit(
        partial(masks.fixed_span_mask, shape=(rows, tokens), masked=masked, shortest=shortest, longest=longest)
    )
    found = np.asarray(draw(jax.random.key(2)))
    expected = fixed_rows(np.random.default_rng(1), rows, tokens, masked, shortest, longest)
    assert_same_shares(found, expected)
    assert_same_shares(found[:, 3:] & found[:, :-3], expected[:, 3:] & expected[:, :-3])
    pieces = [np.mean([len(runs(row)) for row in mask]) for mask in (found, expected)]
    assert pieces[0] == pytest.approx(pieces[1], abs=0.1)


# Few shapes, each compiled once; hypothesis chooses among them and the seeds.
SHAPES = st.sampled_from([((3, 12), 5), ((2, 3, 7), 4)])


@settings(deadline=None, max_examples=30)
@given(SHAPES, st.integers(0, 2**31))
def test_fixed_counts(shape_masked, seed):
    shape, masked = shape_masked
    length = 3
    key = jax.random.key(seed)
    for mask in (draw_random(key, shape, masked), draw_spans(key, shape, masked, length)):
        mask = np.asarray(mask)
        assert mask.shape == shape
        assert mask.dtype == bool
        assert (mask.sum(-1) == masked).all()
    # All runs but the one cut short, which may stand alone or touch another, are whole spans.
    for row in mask.reshape(-1, shape[-1]):
        assert sum(run < length for run in runs(row)) <= 1


@settings(deadline=None, max_examples=30)
@given(SHAPES, st.integers(0, 2**31))
def test_split_take_and_join_are_inverse(shape_masked, seed):
    shape, masked = shape_masked
    mask = draw_random(jax.random.key(seed), shape, masked)
    parts = split(mask, masked)
    x = np.random.default_rng(seed).normal(size=(*shape, 4)).astype(np.float32)
    visible, hidden = take(x, parts.visible), take(x, parts.masked)
    np.testing.assert_array_equal(visible, x[~np.asarray(mask)].reshape(visible.shape))
    np.testing.assert_array_equal(hidden, x[np.asarray(mask)].reshape(hidden.shape))
    np.testing.assert_array_equal(join(visible, hidden, parts), x)
    filled = join(visible, np.zeros_like(hidden), parts)
    np.testing.assert_array_equal(filled, np.where(np.asarray(mask)[..., None], 0, x))


def test_rows_are_independent_and_every_choice_equally_likely():
    mask = np.asarray(draw_random(jax.random.key(4), (ROWS, 2, 5), 2))
    codes = (mask @ (2 ** np.arange(5))).astype(int)
    counts = np.bincount(codes.reshape(-1), minlength=32)
    assert (counts > 0).sum() == 10
    np.testing.assert_allclose(counts[counts > 0], 2 * ROWS / 10, rtol=0.06)  # binomial: 1.5 %
    assert np.mean(codes[:, 0] == codes[:, 1]) == pytest.approx(0.1, abs=0.011)


def test_jepa_blocks():
    found = np.asarray(jax.jit(partial(masks.jepa_block_mask, shape=(ROWS, 50)))(jax.random.key(5)))
    rng, expected = np.random.default_rng(2), np.zeros((ROWS, 50), bool)
    for row in expected:
        for _ in range(4):
            length = int(50 * rng.uniform(0.175, 0.225))
            start = rng.integers(0, 50 - length + 1)
            row[start : start + length] = True
    assert_same_shares(found, expected)
    counts = [np.bincount(mask.sum(1), minlength=51) / ROWS for mask in (found, expected)]
    np.testing.assert_allclose(*counts, rtol=0, atol=0.015)
    assert found.sum(1).mean() == pytest.approx(27.4, abs=0.5)  # measured with the authors' code
    assert found[:, 49].any()
    assert min(min(runs(row)) for row in found[:500]) >= 8


def test_jepa_random_masks():
    found = np.asarray(jax.jit(partial(masks.jepa_random_mask, shape=(ROWS, 50)))(jax.random.key(6)))
    shares = np.bincount(found.sum(1), minlength=51) / ROWS
    np.testing.assert_allclose(shares[30:35], 0.2, atol=0.02)
    assert shares[:30].sum() + shares[35:].sum() == 0
    np.testing.assert_allclose(found.mean(0), 32 / 50, atol=0.02)


def test_leads_are_hidden_independently():
    mask = np.asarray(masks.lead_mask(jax.random.key(7), ROWS, 3, 0.25))
    codes = np.bincount(mask @ np.array([1, 2, 4]), minlength=8) / ROWS
    expected = [0.25 ** bin(code).count("1") * 0.75 ** (3 - bin(code).count("1")) for code in range(8)]
    np.testing.assert_allclose(codes, expected, atol=0.018)


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(UserError, match="12 of 12 tokens to be masked; expected at least one"):
        masks.random_mask(key, (2, 12), 12)
    with pytest.raises(UserError, match="spans of 5 to 3 among 12"):
        masks.fixed_span_mask(key, (2, 12), 4, 5, 3)
    with pytest.raises(UserError, match=r"spans of 10 with probability 0.65 among 10 tokens.*at least 11 tokens"):
        masks.span_mask(key, (2, 10), 0.65, 10)
