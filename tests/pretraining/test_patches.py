"""Patches and their reconstruction loss against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgjax.errors import UserError
from ecgjax.pretraining import patches
from tests.pretraining.slopes import assert_gradient


def loop(predicted, target, mask):
    losses = np.zeros(len(predicted))
    for b in range(len(predicted)):
        errors = [np.mean((predicted[b, lead, n] - target[b, lead, n]) ** 2) for lead, n in np.argwhere(mask[b])]
        losses[b] = np.mean(errors) if errors else 0.0
    return losses


@settings(deadline=None, max_examples=15)
@given(st.sampled_from([(2, 3, 4, 5), (1, 1, 1, 2)]), st.integers(0, 2**32 - 1))
def test_patches_are_the_samples_in_order(shape, seed):
    batch, leads, count, samples = shape
    x = np.random.default_rng(seed).normal(size=(batch, count * samples, leads)).astype(np.float32)
    found = np.asarray(patches.patchify(jnp.asarray(x), samples))
    assert found.shape == shape
    for b in range(batch):
        for lead in range(leads):
            for n in range(count):
                np.testing.assert_array_equal(found[b, lead, n], x[b, n * samples : (n + 1) * samples, lead])
    np.testing.assert_array_equal(patches.unpatchify(jnp.asarray(found)), x)


def test_normalised_patches():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 75)) * rng.uniform(0.001, 10, (2, 3, 4, 1)) + rng.normal(size=(2, 3, 4, 1))
    x[0, 0, 0] = 0.7
    found = np.asarray(jax.jit(patches.normalise)(np.float32(x)))
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, expected, atol=2e-4)  # float32 beside an offset of a thousand deviations
    np.testing.assert_allclose(found[0, 0, 0], 0, atol=1e-4)

    weights = rng.normal(size=75)
    weighted = jax.jit(jax.grad(lambda x: jnp.vdot(patches.normalise(x), np.float32(weights))))
    gradient = weighted(np.float32(x[1, 1, 1]))
    assert_gradient(
        gradient, lambda x: (x - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-6) @ weights, x[1, 1, 1], tolerance=1e-4
    )


def test_loss_equals_a_loop():
    rng = np.random.default_rng(1)
    predicted, target = rng.normal(size=(2, 4, 3, 5, 6))
    mask = rng.random((4, 3, 5)) < 0.6
    mask[2] = False
    run = jax.jit(lambda p, t: patches.record_losses(p, t, mask))
    np.testing.assert_allclose(run(predicted, target), loop(predicted, target, mask), rtol=1e-6)
    weights = np.array([1.0, -2.0, 3.0, 0.5])
    gradients = jax.jit(jax.grad(lambda p, t: jnp.vdot(run(p, t), np.float32(weights)), (0, 1)))
    by_predicted, by_target = gradients(np.float32(predicted), np.float32(target))
    assert_gradient(by_predicted, lambda p: loop(p, target, mask) @ weights, predicted)
    assert not np.any(by_target)


total = jax.jit(jax.value_and_grad(lambda *arguments: jnp.sum(patches.record_losses(*arguments))))


@settings(deadline=None, max_examples=25)
@given(hnp.arrays(bool, (2, 3, 4)), st.integers(0, 2**32 - 1))
def test_visible_patches_do_not_matter(mask, seed):
    predicted, target = np.random.default_rng(seed).normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    garbled = np.where(mask[..., None], predicted, np.nan)
    loss, gradient = total(garbled, target, mask)
    assert loss == total(predicted, target, mask)[0]
    assert not np.any(np.asarray(gradient)[~mask])


def test_refuses_a_part_of_a_patch():
    with pytest.raises(UserError, match="600 samples in patches of 77; expected a whole number"):
        patches.patchify(jnp.zeros((1, 600, 12)), 77)
