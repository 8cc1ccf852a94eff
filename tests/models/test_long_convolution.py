"""All forms of the long convolution are the direct one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.models import fourier_products, s4_kernel, state_passing
from ecgjax.models.long_convolution import long_convolution
from tests.models.golden import relative
from tests.models.test_s4_kernel import WIDTH, make

FORMS = ("fft", "matmul", "two_stages", "blocks of 7")

convolve = jax.jit(long_convolution, static_argnames="form")
hand_on = jax.jit(state_passing.convolve, static_argnums=(3, 4))


def direct(u: np.ndarray, past: np.ndarray, future: np.ndarray | None) -> np.ndarray:
    out = np.zeros(u.shape)
    for t in range(u.shape[1]):
        for s in range(u.shape[1]):
            if s <= t:
                out[:, t] += past[:, t - s] * u[:, s]
            elif future is not None:
                out[:, t] += future[:, s - t - 1] * u[:, s]
    return out


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("length", [1, 2, 23])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_all_forms_are_the_direct_convolution(length: int, both: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, k = rng.standard_normal((2, length, 3)), rng.standard_normal((2, 3, length))
    future = k[1] if both else None
    expected = direct(u, k[0], future)
    args = [None if x is None else jnp.asarray(x, jnp.float32) for x in (u, k[0], future)]
    for form in (*FORMS, "auto"):
        assert relative(convolve(*args, form=form), expected) < 2e-6, form


@pytest.mark.parametrize("both", [False, True])
def test_all_forms_have_the_same_gradients(both: bool) -> None:
    rng = np.random.default_rng(0)
    u = jnp.asarray(rng.standard_normal((2, 21, 3)), jnp.float32)
    past, future = jnp.asarray(rng.standard_normal((2, 3, 21)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal(u.shape), jnp.float32)

    def target(u, past, future, form):
        return jnp.sum(weights * long_convolution(u, past, future if both else None, form))

    gradient = jax.jit(jax.grad(target, (0, 1, 2)), static_argnums=3)
    by_fft, *others = (gradient(u, past, future, form) for form in FORMS)
    for other in others:
        for a, b in zip(by_fft, other, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("length", [250, 300, 1000, 1200])
def test_forms_for_a_tpu_at_the_lengths_of_the_models(length: int) -> None:
    rng = np.random.default_rng(length)
    u, past, future = (rng.standard_normal(shape) for shape in ((1, length, 2), (2, length), (2, length)))
    expected = np.stack(
        [np.convolve(u[0, :, h], np.concatenate([future[h, ::-1], past[h]]))[length : 2 * length] for h in range(2)],
        -1,
    )[None]
    args = [jnp.asarray(x, jnp.float32) for x in (u, past, future)]
    for form in ("matmul", "two_stages"):
        assert relative(convolve(*args, form=form), expected) < 2e-6, form


@pytest.mark.parametrize(("l_max", "length", "chunk"), [(40, 40, 8), (40, 37, 16), (12, 90, 7), (16, 5, 8)])
def test_states_handed_from_chunk_to_chunk_are_the_convolution(l_max: int, length: int, chunk: int) -> None:
    C, system = make(l_max, kernels=1, seed=length)
    u = jax.random.normal(jax.random.key(0), (2, length, WIDTH))
    k = s4_kernel.recurrence(np.asarray(C), system, l_max, length)[0]
    found = hand_on(u, C[0], system, l_max, chunk)
    assert relative(found, direct(np.asarray(u, np.float64), k, None)) < 5e-6


@pytest.mark.parametrize(("n", "length"), [(1, 1), (9, 9), (300, 250)])
def test_inverse_transform_as_a_product(n: int, length: int) -> None:
    rng = np.random.default_rng(n)
    spectrum = np.fft.rfft(rng.standard_normal((2, 3, n))).astype(np.complex64)
    expected = np.fft.irfft(spectrum, n)[..., :length]
    assert relative(fourier_products.inverse(jnp.asarray(spectrum), n, length), expected) < 1e-6


def test_unknown_form() -> None:
    with pytest.raises(ValueError, match="winograd"):
        long_convolution(jnp.zeros((1, 4, 1)), jnp.zeros((1, 4)), form="winograd")


def test_tpu_programs_hold_no_fft() -> None:
    u = jax.ShapeDtypeStruct((2, 20, WIDTH), jnp.float32)
    C, system = make(l_max=20, kernels=1)

    def square(u, C):
        return jnp.sum(long_convolution(u, s4_kernel.kernel(C, system, 20, 20)[0]) ** 2)

    gradient = jax.jit(jax.grad(square, (0, 1)))
    text = {p: gradient.trace(u, C).lower(lowering_platforms=(p,)).as_text() for p in ("tpu", "cpu")}
    assert "stablehlo.fft" not in text["tpu"]
    assert "stablehlo.fft" in text["cpu"]
