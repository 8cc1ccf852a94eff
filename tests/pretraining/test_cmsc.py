"""Contrastive multi-segment coding against loops over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.pretraining import cmsc
from tests.pretraining.slopes import assert_gradient

BATCH, WIDTH = 5, 4


def loop(first, second, patients, norms=None, temperature=0.1):
    """Loss and accuracy of each pair; lengths may be given as constants."""
    norms = [np.linalg.norm(x, axis=-1) for x in (first, second)] if norms is None else norms
    first, second = first / norms[0][:, None], second / norms[1][:, None]
    patients = np.arange(len(first)) if patients is None else patients
    losses, hits = np.zeros(len(first)), np.zeros(len(first))
    for a, b in ((first, second), (second, first)):
        for i in range(len(a)):
            logits = np.array([a[i] @ other for other in b]) / temperature
            positives = np.flatnonzero(patients == patients[i])
            losses[i] += np.mean([np.log(np.exp(logits).sum()) - logits[j] for j in positives]) / 2
            hits[i] += (np.argmax(logits) in positives) / 2
    return losses, hits


def draw(seed, repeated):
    rng = np.random.default_rng(seed)
    return *rng.normal(size=(2, BATCH, WIDTH)), rng.integers(3, size=BATCH) if repeated else None


compute = jax.jit(cmsc.record_losses, static_argnames="constant_norm")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_equals_a_loop(seed, repeated):
    first, second, patients = draw(seed, repeated)
    found, expected = compute(first, second, patients), loop(first, second, patients)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    # Symmetric, no matter how long, in any order.
    np.testing.assert_allclose(compute(2 * second, first, patients)[0], found[0], rtol=1e-4, atol=1e-4)
    order = np.random.default_rng(seed).permutation(BATCH)
    other = compute(first[order], second[order], None if patients is None else patients[order])
    np.testing.assert_allclose(other[0], found[0][order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(compute(first, second, patients, constant_norm=True)[0], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("constant_norm", [False, True])
@pytest.mark.parametrize("repeated", [False, True])
def test_gradient(constant_norm, repeated):
    first, second, patients = draw(7, repeated)
    weights = np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    weighted = jax.grad(
        lambda a, b: jnp.vdot(compute(a, b, patients, constant_norm=constant_norm)[0], np.float32(weights)), (0, 1)
    )
    gradients = jax.jit(weighted)(np.float32(first), np.float32(second))
    norms = [np.linalg.norm(x, axis=-1) for x in (first, second)] if constant_norm else None
    assert_gradient(gradients[0], lambda a: loop(a, second, patients, norms)[0] @ weights, first)
    assert_gradient(gradients[1], lambda b: loop(first, b, patients, norms)[0] @ weights, second)
    along = np.sum(np.asarray(gradients[0]) * first, -1)
    assert constant_norm == bool(np.abs(along).max() > 1e-3)


def test_extremes():
    eye = np.eye(BATCH, dtype=np.float32)
    losses, hits = compute(eye, eye)
    np.testing.assert_allclose(losses, np.log1p((BATCH - 1) * np.exp(-10)), rtol=1e-2)
    assert (hits == 1).all()
    losses, _ = compute(0 * eye + 1, 0 * eye + 1)
    np.testing.assert_allclose(losses, np.log(BATCH), rtol=1e-6)
    losses, _ = compute(eye[:1], eye[1:2])  # one pair: nothing to tell it from
    np.testing.assert_allclose(losses, 0, atol=1e-6)
