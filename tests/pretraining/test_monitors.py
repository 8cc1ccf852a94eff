"""Spread and rank of streamed features against numpy's singular values of all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.pretraining import monitors

add = jax.jit(monitors.add)


def direct(x: np.ndarray) -> list[float]:
    x = np.float64(x)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = singular / singular.sum()
    p = p[p > 0]
    eigenvalues = singular**2
    std = x.std(0)
    return [std.mean(), std.min(), np.exp(-(p * np.log(p)).sum()), eigenvalues.sum() ** 2 / (eigenvalues**2).sum()]


def streamed(batches, valid=None) -> monitors.Moments:
    moments = monitors.empty(batches[0].shape[1])
    for i, batch in enumerate(batches):
        moments = add(moments, jnp.asarray(batch), None if valid is None else jnp.asarray(valid[i]))
    return moments


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_streamed_equals_direct(offset):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(5, 32, 8)) * np.geomspace(1, 0.05, 8) @ rng.normal(size=(8, 8)) + offset).astype(np.float32)
    x += np.arange(5, dtype=np.float32)[:, None, None]  # batches of different means
    np.testing.assert_allclose(monitors.spread(streamed(x)), direct(x.reshape(-1, 8)), rtol=2e-3)
    merged = monitors.merge(streamed(x[:2]), streamed(x[2:]))
    np.testing.assert_allclose(merged.scatter, streamed(x).scatter, rtol=1e-4)
    centred = np.float64(x.reshape(-1, 8)) - np.float64(x.reshape(-1, 8)).mean(0)
    np.testing.assert_allclose(merged.scatter, centred.T @ centred, rtol=1e-3, atol=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_invariants(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 16, 8)) @ rng.normal(size=(8, 8))
    found = monitors.spread(streamed(np.float32(x)))
    assert 1 <= found.participation_ratio <= found.effective_rank <= 8 + 1e-4
    turned = np.float32(7 * x @ np.linalg.qr(rng.normal(size=(8, 8)))[0] - 2)
    other = monitors.spread(streamed(turned))
    np.testing.assert_allclose(other[2:], found[2:], rtol=1e-2)
    # The order of batches, and what invalid rows hold, do not matter.
    valid = rng.random((3, 16)) < 0.8
    garbled = np.float32(np.where(valid[..., None], x, np.nan))
    kept = np.float32(x)[valid]
    np.testing.assert_allclose(monitors.spread(streamed(garbled[::-1], valid[::-1])), direct(kept), rtol=1e-2)


def test_collapse():
    rng = np.random.default_rng(1)
    line = np.float32(rng.normal(size=(4, 32, 1)) * rng.normal(size=8) + 5)
    found = monitors.spread(streamed(line))
    np.testing.assert_allclose(found[2:], 1, rtol=1e-3)
    constant = monitors.spread(streamed(np.full((4, 32, 8), 0.1, np.float32)))
    np.testing.assert_allclose(constant, 0, atol=1e-6)
    dead = np.float32(rng.normal(size=(4, 32, 8)))
    dead[..., 3] = 2
    found = monitors.spread(streamed(dead))
    assert found.std_least == 0
    assert 6.5 < found.effective_rank < 7.001
    white = monitors.spread(streamed(np.float32(rng.normal(size=(200, 32, 8)))))
    np.testing.assert_allclose(white[2:], 8, rtol=0.01)


def test_too_few_records():
    assert np.isnan(monitors.spread(monitors.empty(8))).all()
    assert np.isnan(monitors.spread(streamed(np.ones((1, 1, 8), np.float32)))).all()
