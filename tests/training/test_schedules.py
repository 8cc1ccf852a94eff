"""Schedules against the golden rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.training import schedules
from tests.conftest import load_golden

RUN = {"warmup": 1000, "total": 10_000}
CASES = {
    "const": ("constant", {}),
    "warmup-const": ("constant", {"warmup": 1000}),
    "warmup-cos": ("cosine", RUN),
    "warmup-cos-restart_4": ("cosine_restarts", {**RUN, "restarts": 4}),
    "warmup-cos-restart_99": ("cosine_restarts", {**RUN, "restarts": 99}),
    "warmup-poly_power1": ("polynomial", {**RUN, "power": 1.0, "end": 1e-4}),
    "warmup-poly_power2": ("polynomial", {**RUN, "power": 2.0, "end": 1e-3}),
    "warmup-invsqrt": ("inverse_square_root", {"warmup": 1000}),
    "linear": ("linear", {"total": 10_000}),
    "linear_warmup": ("linear", RUN),
}


def test_every_golden_case_is_covered():
    _, arrays = load_golden("schedules")
    assert set(arrays) - {"steps"} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    manifest, arrays = load_golden("schedules")
    name, arguments = CASES[case]
    factor = schedules.create(name, **arguments)(arrays["steps"])
    rates = np.asarray(factor)[:, None] * np.array([1e-3, 1e-4, 1e-5])
    np.testing.assert_allclose(rates, arrays[case], rtol=0, atol=manifest["tolerance"])
    one_by_one = [schedules.create(name, **arguments)(int(step)) for step in arrays["steps"]]
    np.testing.assert_array_equal(np.asarray(one_by_one), factor)


@pytest.mark.parametrize("case", CASES)
def test_traced_as_optax_does(case):
    _, arrays = load_golden("schedules")
    name, arguments = CASES[case]
    factor = jax.jit(jax.vmap(schedules.create(name, **arguments)))(jnp.asarray(arrays["steps"], jnp.int32))
    assert factor.dtype == jnp.float32
    # float32 progress times up to 99 restarts leaves 1e-5 of a cycle.
    np.testing.assert_allclose(factor * 1e-3, arrays[case][:, 0], rtol=0, atol=3e-8)


def test_unknown_schedule():
    with pytest.raises(UserError, match="'cosin' is unknown; expected one of constant, cosine"):
        schedules.create("cosin")
