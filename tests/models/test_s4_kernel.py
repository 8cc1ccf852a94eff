"""Properties of the S4 kernel and layer, from their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecgjax
from ecgjax.models import s4_kernel
from ecgjax.models.s4 import S4Layer
from tests.models.golden import relative

WIDTH = 6

kernel = jax.jit(s4_kernel.kernel, static_argnums=(2, 3))
truncate = jax.jit(s4_kernel.truncate, static_argnums=2)


def make(l_max: int, state_size: int = 8, kernels: int = 2, seed: int = 0) -> tuple[jax.Array, s4_kernel.System]:
    rng = np.random.default_rng(seed)
    Lambda, P, B = (
        np.broadcast_to(s4_kernel.to_pairs(x), (WIDTH, state_size // 2, 2)) for x in s4_kernel.hippo_legs(state_size)
    )
    log_dt = rng.uniform(np.log(1e-3), np.log(1e-1), WIDTH).astype(np.float32)
    system = s4_kernel.System(log_dt, Lambda, P, B)
    C = rng.standard_normal((kernels, WIDTH, state_size // 2, 2)).astype(np.float32)
    return truncate(C, system, l_max), system


def test_hippo_is_diagonal_plus_rank_one() -> None:
    # x' = A x + B u in the original basis and in the diagonal one have the same impulse response (float64).
    n = np.arange(8)
    b, p = np.sqrt(2 * n + 1.0), np.sqrt(n + 0.5)
    A = -np.tril(np.outer(b, b), -1) - np.diag(n + 1.0)
    Lambda, P, B = s4_kernel.hippo_legs(8)
    assert (Lambda.imag > 0).all()
    Lambda, P, B = (np.concatenate([x, x.conj()]) for x in (Lambda, P, B))
    diagonal = np.diag(Lambda) - np.outer(P, P.conj())
    np.testing.assert_allclose(sorted(np.linalg.eigvals(diagonal).real), sorted(np.diag(A)), atol=1e-9)
    for k in range(6):  # moments <P, A^k B>; the basis change is unitary
        moment = p @ np.linalg.matrix_power(A, k) @ b
        np.testing.assert_allclose(P.conj() @ np.linalg.matrix_power(diagonal, k) @ B, moment, rtol=1e-10)


def test_hippo_constants() -> None:
    Lambda, P, B = s4_kernel.hippo_legs(8)
    np.testing.assert_allclose(Lambda.real, -0.5)
    np.testing.assert_allclose(Lambda.imag, [19.857, 5.354, 1.958, 0.4275], rtol=2e-4)
    np.testing.assert_allclose(abs(P), [3.646, 1.304, 0.831, 0.565], rtol=1e-3)
    np.testing.assert_allclose(B, np.sqrt(2) * P)


# Even and odd l_max; wanted lengths below, at and beyond it.
@pytest.mark.parametrize(
    ("l_max", "length", "state_size"), [(2, 1, 2), (64, 64, 8), (64, 150, 8), (33, 20, 8), (33, 100, 4), (70, 71, 8)]
)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_kernel_is_the_recurrence(l_max: int, length: int, state_size: int, seed: int) -> None:
    C, system = make(l_max, state_size, seed=seed)
    expected = s4_kernel.recurrence(np.asarray(C), system, l_max, length)
    assert relative(kernel(C, system, l_max, length), expected) < 1e-5


def test_shorter_kernel_is_a_prefix_and_the_parameter_is_not_touched() -> None:
    C, system = make(50)
    before = np.array(C)
    whole = kernel(C, system, 50, 50)
    np.testing.assert_array_equal(kernel(C, system, 50, 20), whole[..., :20])
    long = kernel(C, system, 50, 170)
    assert relative(long[..., :50], whole) < 5e-6
    np.testing.assert_array_equal(C, before)


def test_longer_kernel_is_differentiable() -> None:
    # The kernel is linear in C, so its directional derivative is the kernel of the direction.
    C, system = make(20)
    direction = jnp.asarray(np.random.default_rng(1).standard_normal(C.shape), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(2).standard_normal((2, WIDTH, 70)), jnp.float32)
    gradient = jax.grad(lambda C: jnp.sum(weights * kernel(C, system, 20, 70)))(C)
    expected = jnp.sum(weights * kernel(direction, system, 20, 70))
    np.testing.assert_allclose(jnp.sum(gradient * direction), expected, rtol=1e-4)


@pytest.mark.parametrize("new", [7, 49, 100, 333])
def test_retarget_keeps_the_function(new: int) -> None:
    C, system = make(50)
    length = min(50, new)
    moved = s4_kernel.retarget(np.asarray(C), system, 50, new)
    assert relative(kernel(moved, system, new, length), kernel(C, system, 50, length)) < 1e-5


@pytest.mark.parametrize("length", [31, 80])
def test_causality(length: int) -> None:
    layer = S4Layer(l_max=40, dropout=0.0)
    u = jax.random.normal(jax.random.key(0), (1, length, WIDTH))
    variables = layer.init(jax.random.key(1), u, False)
    changed = u.at[:, 17:].add(3.0)
    y, z = layer.apply(variables, u, False), layer.apply(variables, changed, False)
    np.testing.assert_allclose(y[:, :17], z[:, :17], atol=2e-6)
    assert np.abs(y[:, 17:] - z[:, 17:]).max() > 1e-2


def test_bidirectional_layer_sees_the_future() -> None:
    layer = S4Layer(l_max=40, bidirectional=True, dropout=0.0)
    u = jax.random.normal(jax.random.key(0), (1, 31, WIDTH))
    variables = layer.init(jax.random.key(1), u, False)
    y, z = layer.apply(variables, u, False), layer.apply(variables, u.at[:, 17:].add(3.0), False)
    assert np.abs(y[:, :17] - z[:, :17]).max() > 1e-2


def test_dropout_is_tied_over_time() -> None:
    layer = S4Layer(l_max=40, dropout=0.5)
    u = jax.random.normal(jax.random.key(0), (2, 31, WIDTH))
    variables = layer.init(jax.random.key(1), u, False)
    # With an identity in place of the output layer, the layer's value shows which channels were dropped.
    gate = jnp.concatenate([jnp.eye(WIDTH), jnp.zeros((WIDTH, WIDTH))], 1)
    variables["params"]["output"] = {"kernel": gate, "bias": jnp.zeros(2 * WIDTH)}
    kept = layer.apply(variables, u, False)
    dropped = layer.apply(variables, u, True, rngs={"dropout": jax.random.key(3)})
    ratio = np.asarray(dropped / kept)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-5)
    assert set(np.round(ratio[:, 0].ravel(), 4)) == {0.0, 2.0}


@pytest.mark.parametrize("name", ["s4", "ecg_cpc"])
def test_bfloat16_leaves_the_state_space_in_float32(name: str) -> None:
    full, half = (ecgjax.load_model(name, width=16, layers=2, dtype=dtype) for dtype in ("float32", "bfloat16"))
    x = np.random.default_rng(0).standard_normal((2, full.encoder.samples, 12)).astype(np.float32)
    expected, found = full.features(x), half.features(x)
    assert found.pooled.dtype == found.sequence.dtype == jnp.float32
    assert 1e-5 < relative(found.pooled, expected.pooled) < 2e-2
    assert 1e-5 < relative(found.sequence, expected.sequence) < 2e-2
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half.variables))
    text = jax.jit(lambda v, x: half.encoder.apply(v, x)[0]).lower(half.variables, x).as_text()
    transforms = [line for line in text.splitlines() if "stablehlo.fft" in line]
    assert transforms
    assert all("bf16" not in line for line in transforms)
    assert any("stablehlo.dot_general" in line and "bf16" in line for line in text.splitlines())
