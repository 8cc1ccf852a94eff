"""Vectors of length 1."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.pretraining import cosine
from tests.pretraining.slopes import assert_gradient

unit = jax.jit(cosine.unit)
weighted = jax.jit(jax.value_and_grad(lambda x, weights: jnp.vdot(cosine.unit(x), weights)))


def test_value_and_gradient():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 3, 6))
    x *= np.array([[1e-3], [1.0], [1e3]])

    def expected(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    np.testing.assert_allclose(unit(np.float32(x)), expected(x), atol=1e-6)
    _, gradients = weighted(np.float32(x), np.float32(weights))
    for row, gradient, w in zip(x, gradients, weights, strict=True):
        assert_gradient(gradient, lambda row, w=w: expected(row) @ w, row, step=1e-5 * np.linalg.norm(row))


def test_zero_has_no_gradient_and_half_precision_is_widened():
    value, gradient = weighted(np.zeros((3, 6), np.float32), np.ones((3, 6), np.float32))
    assert value == 0
    assert not np.any(gradient)
    wide = np.asarray(unit(np.full((3, 6), 3, jnp.bfloat16)))
    assert wide.dtype == np.float32
    np.testing.assert_allclose(np.sum(wide**2, -1), 1, rtol=1e-6)
