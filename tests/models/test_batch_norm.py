"""Batch norm against its definition, and its own gradient against differentiation of that definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models.batch_norm import BatchNorm, normalise

RNG = np.random.default_rng(0)


def test_batch_norm_normalises_biased_and_tracks_unbiased() -> None:
    x = RNG.normal(3.0, 2.0, (4, 5, 3)).astype(np.float32)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)  # initialising is not training
    y, updated = layer.apply(variables, x, True, mutable=["batch_stats"])
    flat = x.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=2e-6)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-6)
    z = layer.apply({**variables, **updated}, x, False)
    stats = {key: np.asarray(value, np.float64) for key, value in updated["batch_stats"].items()}
    np.testing.assert_allclose(z, (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), rtol=1e-5)


def defined(x, scale, bias):
    mean = jnp.mean(x, (0, 1))
    var = jnp.mean((x - mean[None, None]) ** 2, (0, 1))
    return (x - mean[None, None]) / jnp.sqrt(var + 1e-5)[None, None] * scale[None, None] + bias[None, None]


def arguments(dtype=np.float64):
    x = RNG.normal(3.0, 2.0, (4, 7, 3)).astype(dtype)
    return x, RNG.normal(size=3).astype(dtype), RNG.normal(size=3).astype(dtype)


def gradients(function, *given):
    weights = np.random.default_rng(1).normal(size=given[0].shape)
    return jax.grad(lambda *a: jnp.sum(jnp.tanh(function(*a)) * weights), (0, 1, 2))(*given)


def test_the_gradient_is_that_of_the_definition() -> None:
    with jax.enable_x64(True):
        given = arguments()
        found = gradients(lambda *x: normalise(*x, 1e-5)[0], *given)
        for a, b in zip(found, gradients(defined, *given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_gradient_keeps_its_digits_far_from_zero() -> None:
    x, scale, bias = arguments(np.float32)
    far = (x + 1000).astype(np.float32)
    with jax.enable_x64(True):
        expected = gradients(defined, *(np.asarray(given, np.float64) for given in (far, scale, bias)))
    found = gradients(lambda *given: normalise(*given, 1e-5)[0], far, scale, bias)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_types_stay(dtype: str) -> None:
    x, scale, bias = arguments(np.float32)
    y, mean, var = normalise(jnp.asarray(x, dtype), scale, bias, 1e-5)
    assert (y.dtype, mean.dtype, var.dtype) == (dtype, "float32", "float32")
    found = jax.grad(lambda *a: normalise(*a, 1e-5)[0].astype("float32").sum(), (0, 1, 2))(
        jnp.asarray(x, dtype), scale, bias
    )
    assert [g.dtype for g in found] == [dtype, "float32", "float32"]


def test_runs_that_are_stacked_are_normalised_apart() -> None:
    x = RNG.normal(size=(2, 4, 7, 3)).astype(np.float32) * np.array([1, 5], np.float32)[:, None, None, None]
    scale, bias = (RNG.normal(size=(2, 3)).astype(np.float32) for _ in range(2))
    together = jax.vmap(lambda *a: gradients(lambda *b: normalise(*b, 1e-5)[0], *a))(x, scale, bias)
    for i in range(2):
        alone = gradients(lambda *b: normalise(*b, 1e-5)[0], x[i], scale[i], bias[i])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5)
