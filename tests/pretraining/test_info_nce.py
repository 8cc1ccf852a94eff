"""wav2vec's contrastive loss against a loop over masked tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.errors import UserError
from ecgjax.pretraining import info_nce
from tests.pretraining.slopes import assert_gradient

BATCH, MASKED, WIDTH, NEGATIVES = 3, 6, 4, 5


def similarity(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def loop(predicted, target, negatives, codes, temperature=0.1):
    losses, hits = np.zeros(BATCH), np.zeros(BATCH)
    for b in range(BATCH):
        for m in range(MASKED):
            others = [n for n in negatives[b, m] if codes is None or (codes[b, n] != codes[b, m]).any()]
            logits = np.array([similarity(predicted[b, m], target[b, n]) for n in [m, *others]]) / temperature
            losses[b] += (np.log(np.sum(np.exp(logits))) - logits[0]) / MASKED
            hits[b] += all(logits[0] > logit for logit in logits[1:]) / MASKED
    return losses, hits


def draw(seed, quantised=True):
    rng = np.random.default_rng(seed)
    codes = rng.integers(2, size=(BATCH, MASKED, 2)) if quantised else None
    target = rng.normal(size=(BATCH, MASKED, WIDTH))
    if quantised:
        target = rng.normal(size=(2, 2, WIDTH))[codes[..., 0], codes[..., 1]]
    negatives = np.asarray(draw_negatives(jax.random.key(seed), BATCH, MASKED, NEGATIVES))
    return rng.normal(size=(BATCH, MASKED, WIDTH)), target, negatives, codes


draw_negatives = jax.jit(info_nce.draw_negatives, static_argnums=(1, 2, 3))
compute = jax.jit(info_nce.record_losses)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_equals_a_loop(seed, quantised):
    arguments = draw(seed, quantised)
    found, expected = compute(*arguments), loop(*arguments)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    # Records are apart: another record's tokens do not matter, lengths neither.
    predicted, target, negatives, codes = arguments
    other = np.concatenate([3 * predicted[:1], predicted[::-1][1:]])
    np.testing.assert_allclose(compute(other, target, negatives, codes)[0][0], found[0][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantised", [True, False])
def test_gradient(quantised):
    predicted, target, negatives, codes = draw(1, quantised)
    weights = np.array([1.0, -2.0, 0.5])
    weighted = jax.grad(lambda p, t: jnp.vdot(compute(p, t, negatives, codes)[0], np.float32(weights)), (0, 1))
    gradients = jax.jit(weighted)(np.float32(predicted), np.float32(target))
    assert_gradient(gradients[0], lambda p: loop(p, target, negatives, codes)[0] @ weights, predicted, entries=80)
    assert_gradient(gradients[1], lambda t: loop(predicted, t, negatives, codes)[0] @ weights, target, entries=80)


def test_one_code_for_all_leaves_no_negative():
    predicted, target, negatives, codes = draw(2)
    run = jax.jit(jax.value_and_grad(lambda p: compute(p, target, negatives, 0 * codes)[0].sum()))
    value, gradient = run(np.float32(predicted))
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    # Without codes equal targets are told apart at chance, and no tie counts as a hit.
    losses, hits = compute(predicted, np.ones_like(target), negatives, None)
    np.testing.assert_allclose(losses, np.log(NEGATIVES + 1), rtol=1e-5)
    assert not np.any(hits)


def test_negatives_are_uniform_over_all_but_the_target():
    negatives = np.asarray(draw_negatives(jax.random.key(0), 2, 8, 7000))
    for m in range(8):
        counts = np.bincount(negatives[0, m], minlength=8)
        assert counts[m] == 0
        np.testing.assert_allclose(np.delete(counts, m), 1000, atol=150)  # binomial: 29
    assert (negatives[0] != negatives[1]).any()
    with pytest.raises(UserError, match="1 masked token per record; expected at least two"):
        info_nce.draw_negatives(jax.random.key(0), 2, 1)
