"""Borders of the CPU's fusion: the identity in every respect but one, and nothing at all elsewhere."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from ecgjax.models.convolution import linear
from ecgjax.models.fusion import stored

RNG = np.random.default_rng(0)


def chain(keep, x):
    for _ in range(3):
        x = keep(x + jnp.tanh(x) @ jnp.eye(x.shape[-1], dtype=x.dtype))
    return x


@pytest.mark.parametrize("first", [1.0, -0.0, 1e-45, np.inf, np.nan])
def test_values_and_gradients_are_those_without(first: float) -> None:
    # What the values are may not matter to which way the branch goes.
    x = jnp.asarray(RNG.standard_normal((3, 5, 4)), jnp.float32).at[0, 0, 0].set(first)

    def run(keep):
        return jax.jit(lambda x: jax.vjp(lambda x: chain(keep, x), x)[1](jnp.ones_like(x))), lambda x: chain(keep, x)

    for found, expected in zip(run(stored), run(lambda x: x), strict=True):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(found)(x), jax.jit(expected)(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_types(dtype: str) -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.standard_normal((3, 4)), dtype)
        found = jax.jit(stored)(x)
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, x)


def test_vmap_jvp_and_eager() -> None:
    x = jnp.asarray(RNG.standard_normal((2, 3, 4)), jnp.float32)
    np.testing.assert_array_equal(stored(x), x)
    np.testing.assert_array_equal(jax.vmap(stored)(x), x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.grad(lambda x: jnp.sum(stored(x) ** 2))))(x), 2 * x)
    value, tangent = jax.jvp(stored, (x,), (x + 1,))
    np.testing.assert_array_equal(value, x)
    np.testing.assert_array_equal(tangent, x + 1)


def test_it_compiles_once() -> None:
    traces = []

    @jax.jit
    def step(x):
        traces.append(x.shape)
        return stored(x) * 2

    for seed in range(3):
        step(jnp.full((2, 3), float(seed)))
    assert traces == [(2, 3)]


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_programs_for_accelerators_are_the_same_as_without(platform: str) -> None:
    x, kernel = jnp.ones((2, 6, 4)), jnp.ones((4, 4))

    def compiled(keep, product):
        def step(x, kernel):
            return jnp.sum(keep(jnp.tanh(product(keep(x), kernel))) ** 2)

        # The program for that platform, put through the passes that every platform's compiler shares.
        gradients = export.export(
            jax.jit(jax.grad(step, (0, 1))),
            platforms=[platform],
            disabled_checks=[export.DisabledSafetyCheck.platform()],
        )(x, kernel)
        return jax.jit(gradients.call).lower(x, kernel).compile().as_text()

    found, expected = compiled(stored, linear), compiled(lambda x: x, jnp.matmul)
    assert "conditional" not in found
    assert operations(found) == operations(expected)


def operations(text: str) -> Counter[tuple[str, str]]:
    """Shapes and kinds of the operations of a compiled program."""
    return Counter(re.findall(r"= (\S+) ([\w-]+)\(", text))


def test_on_a_cpu_there_is_a_border() -> None:
    compiled = jax.jit(lambda x: stored(jnp.tanh(x)) + 1).lower(jnp.ones((8, 8))).compile().as_text()
    assert "conditional" in compiled


def test_linear_is_the_matrix_product() -> None:
    kernel = RNG.standard_normal((4, 5)).astype(np.float32)
    for shape in ((4,), (3, 4), (2, 3, 4), (0, 3, 4)):
        x = RNG.standard_normal(shape).astype(np.float32)
        y, back = jax.vjp(linear, x, kernel)
        assert y.shape == (*shape[:-1], 5)
        np.testing.assert_allclose(y, x @ kernel, atol=1e-6)
        expected = jax.vjp(jnp.matmul, x, kernel)[1](y)
        for found, wanted in zip(back(y), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)
