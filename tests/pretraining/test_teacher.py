"""The moving average against its closed form, and its momentum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.errors import UserError
from ecgjax.pretraining import teacher


def test_closed_form_of_many_updates():
    rng = np.random.default_rng(0)
    students = rng.normal(size=(40, 3, 2))
    tree = {"a": jnp.float32(students[0]), "steps": jnp.int32(0)}
    step = jax.jit(lambda t, s, i: teacher.update(t, s, teacher.momentum(i, 39, 0.9, 1.0)))
    for i, student in enumerate(students[1:]):
        tree = step(tree, {"a": jnp.float32(student), "steps": jnp.int32(i + 1)}, i)
    m = [0.9 + 0.1 * i / 39 for i in range(39)]
    shares = [np.prod(m)] + [(1 - m[i]) * np.prod(m[i + 1 :]) for i in range(39)]
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(tree["a"], np.tensordot(shares, students, 1), rtol=1e-5, atol=1e-6)
    assert tree["steps"] == 39


update = jax.jit(teacher.update)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_between_teacher_and_student(momentum, seed):
    old, new = np.random.default_rng(seed).normal(size=(2, 5)).astype(np.float32)
    found = np.asarray(update(old, new, momentum))
    np.testing.assert_allclose(found, momentum * np.float64(old) + (1 - momentum) * new, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(update(new, new, momentum), new)
    np.testing.assert_array_equal(update(old, new, 1.0), old)


def test_no_gradient_reaches_the_student():
    gradient = jax.grad(lambda student: update(np.ones(3, np.float32), student, 0.5).sum())(np.zeros(3, np.float32))
    assert not np.any(gradient)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_momentum(shape):
    steps = np.arange(0, 1200, 50)
    progress = np.minimum(steps / 1000, 1)
    if shape == "cosine":
        progress = 0.5 - 0.5 * np.cos(np.pi * progress)
    found = np.asarray(jax.jit(lambda step: teacher.momentum(step, 1000, shape=shape))(steps))
    np.testing.assert_allclose(found, 0.996 + 0.004 * progress, rtol=0, atol=1e-7)
    assert (np.diff(found) >= 0).all()
    assert found[0] == np.float32(0.996)
    assert found[-1] == 1


def test_refusals():
    with pytest.raises(UserError, match=r"momentum from 0.9 to 1.1; expected"):
        teacher.momentum(0, 10, 0.9, 1.1)
    with pytest.raises(UserError, match="shape is 'step'; expected 'linear' or 'cosine'"):
        teacher.momentum(0, 10, shape="step")  # type: ignore[arg-type]
