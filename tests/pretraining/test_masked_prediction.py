"""Cluster prediction against loops over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.pretraining import masked_prediction
from tests.pretraining.slopes import assert_gradient

BATCH, TOKENS, WIDTH, CLUSTERS = 3, 7, 4, 5


def loop(projected, codebook, labels, mask, alpha, temperature=0.1):
    losses, hits = np.zeros(BATCH), np.zeros(BATCH)
    for b in range(BATCH):
        parts, found = {True: [], False: []}, []
        for t in range(TOKENS):
            x = projected[b, t]
            logits = np.array([x @ c / np.linalg.norm(x) / np.linalg.norm(c) for c in codebook]) / temperature
            parts[bool(mask[b, t])].append(np.log(np.exp(logits).sum()) - logits[labels[b, t]])
            if mask[b, t]:
                found.append(np.argmax(logits) == labels[b, t])
        masked, visible = (np.mean(parts[which]) if parts[which] else 0.0 for which in (True, False))
        losses[b], hits[b] = alpha * masked + (1 - alpha) * visible, np.mean(found) if found else 0.0
    return losses, hits


def draw(seed):
    rng = np.random.default_rng(seed)
    projected, codebook = rng.normal(size=(BATCH, TOKENS, WIDTH)), rng.normal(size=(CLUSTERS, WIDTH))
    mask = rng.random((BATCH, TOKENS)) < 0.5
    mask[1] = bool(seed % 2)  # a record without masked or without visible tokens
    return projected, codebook, rng.integers(CLUSTERS, size=(BATCH, TOKENS)), mask


@jax.jit
def compute(projected, codebook, labels, mask, alpha):
    return masked_prediction.record_losses(masked_prediction.logits(projected, codebook), labels, mask, alpha)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.7, 0.0]))
def test_equals_a_loop(seed, alpha):
    projected, codebook, labels, mask = draw(seed)
    found = compute(projected, codebook, labels, mask, alpha)
    expected = loop(projected, codebook, labels, mask, alpha)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    # Lengths of vectors and codes do not matter, the order of clusters neither.
    order = np.random.default_rng(seed).permutation(CLUSTERS)
    other = compute(3 * projected, 0.1 * codebook[order], np.argsort(order)[labels], mask, alpha)
    np.testing.assert_allclose(other[0], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient(seed):
    projected, codebook, labels, mask = draw(seed)
    weights = np.array([1.0, -2.0, 0.5])
    weighted = jax.jit(jax.grad(lambda *a: jnp.vdot(compute(*a, 0.7)[0], np.float32(weights)), (0, 1)))
    gradients = weighted(np.float32(projected), np.float32(codebook), labels, mask)
    assert_gradient(gradients[0], lambda p: loop(p, codebook, labels, mask, 0.7)[0] @ weights, projected)
    assert_gradient(gradients[1], lambda c: loop(projected, c, labels, mask, 0.7)[0] @ weights, codebook)


def test_visible_tokens_do_not_matter_with_alpha_1():
    projected, codebook, labels, mask = draw(2)
    gradient = jax.jit(jax.grad(lambda p: compute(p, codebook, labels, mask, 1.0)[0].sum()))(np.float32(projected))
    assert not np.any(np.asarray(gradient)[~mask])
    assert np.any(np.asarray(gradient)[mask])


def test_codebook():
    codebook = np.asarray(jax.jit(masked_prediction.init_codebook, static_argnums=(1, 2))(jax.random.key(0), 500, 64))
    assert codebook.shape == (500, 64)
    assert codebook.std() == pytest.approx(1, abs=0.02)
    # The best that cosine logits of an orthogonal codebook at this temperature allow.
    eye = np.eye(8, dtype=np.float32)
    losses, hits = compute(eye[None], eye, np.arange(8)[None], np.ones((1, 8), bool), 1.0)
    np.testing.assert_allclose(losses, np.log1p(7 * np.exp(-10)), rtol=1e-3)
    assert hits == 1
