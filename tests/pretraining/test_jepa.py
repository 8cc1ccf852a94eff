"""JEPA's targets and distances against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.pretraining import jepa
from tests.pretraining.slopes import assert_gradient


def loop(predicted, target, distance, beta):
    losses = np.zeros(len(predicted))
    for b in range(len(predicted)):
        total = 0.0
        for p, t in zip(predicted[b].ravel(), target[b].ravel(), strict=True):
            d = abs(p - t)
            if distance == "l1":
                total += d
            else:
                total += d * d / (2 * beta) if d < beta else d - beta / 2
        losses[b] = total / predicted[b].size
    return losses


@pytest.mark.parametrize(("distance", "beta"), [("smooth_l1", 1.0), ("smooth_l1", 0.3), ("l1", 1.0)])
def test_loss_equals_a_loop(distance, beta):
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 3, 4, 5))
    run = jax.jit(lambda p: jepa.record_losses(p, jnp.float32(target), distance, beta))
    np.testing.assert_allclose(run(predicted), loop(predicted, target, distance, beta), rtol=1e-6)
    weights = np.array([1.0, -0.5, 2.0])
    gradient = jax.jit(jax.grad(lambda p: jnp.vdot(run(p), np.float32(weights))))(np.float32(predicted))
    assert_gradient(gradient, lambda p: loop(p, target, distance, beta) @ weights, predicted)


def test_targets_are_the_hidden_tokens_normalised():
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(2, 6, 8)) * rng.uniform(0.1, 5, (2, 6, 1)) + 3
    masked = np.array([[1, 4, 5], [0, 2, 3]])
    expected = np.zeros((2, 3, 8))
    for b in range(2):
        for i, token in enumerate(masked[b]):
            x = tokens[b, token]
            expected[b, i] = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose(jax.jit(jepa.targets)(np.float32(tokens), masked), expected, atol=1e-5)
    loss = jax.jit(jax.grad(lambda t: jepa.record_losses(jnp.ones((2, 3, 8)), jepa.targets(t, masked)).sum()))
    assert not np.any(loss(np.float32(tokens)))


def test_a_constant_prediction_of_normalised_targets():
    # A collapsed student that predicts 0 has half the targets' variance as loss, not 0, while |d| < beta.
    loss = jax.jit(lambda t: jepa.record_losses(jnp.zeros((1, 2, 2)), jepa.targets(t, jnp.arange(2)[None])))
    np.testing.assert_allclose(loss(np.float32([[[1, -1], [-2, 2]]])), 0.5, rtol=1e-4)


def test_refusals():
    x = jnp.zeros((1, 2, 3))
    with pytest.raises(UserError, match="distance is 'l2'; expected 'smooth_l1' or 'l1'"):
        jepa.record_losses(x, x, "l2")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="beta is 0; expected a positive"):
        jepa.record_losses(x, x, beta=0.0)
