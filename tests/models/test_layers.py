"""Shared layers against their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models.layers import Conv, LayerNorm, gelu

RNG = np.random.default_rng(0)


def test_layer_norm() -> None:
    x = RNG.normal(100.0, 0.1, (2, 3, 16)).astype(np.float32)
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    y, _ = LayerNorm().init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, expected, atol=1e-3)


def test_gelu_is_exact() -> None:
    x = np.linspace(-6, 6, 101)
    expected = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(gelu(jnp.asarray(x, jnp.float32)), expected, atol=5e-7)


@pytest.mark.parametrize(
    ("width", "stride", "padding"), [(1, 1, (0, 0)), (3, 2, (1, 1)), (4, 1, (1, 2)), (1, 2, (0, 0))]
)
def test_conv_is_a_cross_correlation(width: int, stride: int, padding: tuple[int, int]) -> None:
    x = RNG.standard_normal((2, 9, 3)).astype(np.float32)
    y, variables = Conv(5, width, stride, padding).init_with_output(jax.random.key(0), x)
    kernel, bias = (np.asarray(variables["params"][key]) for key in ("kernel", "bias"))
    assert np.abs(kernel).max() <= (3 * width) ** -0.5
    padded = np.pad(x, ((0, 0), padding, (0, 0)))
    steps = range(0, padded.shape[1] - width + 1, stride)
    expected = np.stack([np.einsum("bwi,wio->bo", padded[:, s : s + width], kernel) + bias for s in steps], 1)
    np.testing.assert_allclose(y, expected, atol=2e-6)
