"""Programs without a backward pass: the same values, whatever they are called in, and Eigen's products on a CPU."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import forward
from ecgjax.models.forward import Forward

RNG = np.random.default_rng(0)
X, KERNEL = (jnp.asarray(RNG.standard_normal(shape), jnp.float32) for shape in ((3, 32, 64), (64, 48)))


def product(x, kernel):
    return jnp.tanh(x @ kernel)


def test_values_are_those_of_jit() -> None:
    np.testing.assert_allclose(Forward(product)(X, KERNEL), jax.jit(product)(X, KERNEL), rtol=1e-5, atol=1e-5)


def test_products_are_eigens() -> None:
    assert "ynn" in jax.jit(product).lower(X[0], KERNEL).compile().as_text()
    assert "ynn" not in Forward(product).lower(X[0], KERNEL).compile().as_text()


@pytest.mark.parametrize("outer", [jax.jit, partial(jax.vmap, in_axes=(0, None)), jax.make_jaxpr])
def test_it_may_be_called_within_other_transformations(outer) -> None:
    jax.tree.map(np.asarray, outer(Forward(product))(X, KERNEL))


def test_constants_may_be_passed_to_it_within_another_program() -> None:
    forward_product = Forward(product)
    found = jax.jit(lambda y: forward_product(X, KERNEL) + y)(jnp.float32(1))
    np.testing.assert_allclose(found, product(X, KERNEL) + 1, rtol=1e-5, atol=1e-5)


def test_gradients_go_through_it() -> None:
    found, expected = (jax.grad(lambda k, f=f: f(X, k).sum())(KERNEL) for f in (Forward(product), product))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_options_of_jit_hold() -> None:
    scaled = Forward(lambda x, twice: x * 2 if twice else x, static_argnums=1)
    assert float(scaled(jnp.float32(3), True)) == 6
    assert float(scaled(jnp.float32(3), False)) == 3
    given = jnp.ones(4)
    Forward(lambda x: x + 1, donate_argnums=0)(given)
    assert given.is_deleted()


def test_a_release_without_the_option_compiles_as_always(monkeypatch) -> None:
    monkeypatch.setattr(forward, "EIGEN", {"xla_cpu_no_such_option": ""})
    forward.compiler_options.cache_clear()
    try:
        assert forward.compiler_options() == {}
        np.testing.assert_allclose(Forward(product)(X, KERNEL), product(X, KERNEL), rtol=1e-5, atol=1e-5)
    finally:
        forward.compiler_options.cache_clear()
