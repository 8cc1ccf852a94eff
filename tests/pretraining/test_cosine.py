"""Vectors of length 1."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.pretraining import cosine
from tests.pretraining.slopes import assert_gradient


def test_value_and_gradient():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 3, 4, 6))
    x *= 10.0 ** rng.integers(-3, 4, (3, 4, 1))

    def expected(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    np.testing.assert_allclose(cosine.unit(jnp.float32(x)), expected(x), atol=1e-6)
    for place in np.ndindex(3, 4):
        gradient = jax.grad(lambda x, w: jnp.vdot(cosine.unit(x), w))(
            jnp.float32(x[place]), jnp.float32(weights[place])
        )
        step = 1e-5 * np.linalg.norm(x[place])
        assert_gradient(gradient, lambda x: np.vdot(expected(x), weights[place]), x[place], step=step)  # noqa: B023


def test_zero_has_no_gradient_and_half_precision_is_widened():
    value, gradient = jax.value_and_grad(lambda x: cosine.unit(x).sum())(jnp.zeros((2, 3)))
    assert value == 0
    assert not np.any(gradient)
    x = jnp.full((4, 768), 3.0, jnp.bfloat16)
    assert cosine.unit(x).dtype == jnp.float32
    np.testing.assert_allclose(jnp.sum(cosine.unit(x) ** 2, -1), 1, rtol=1e-6)
