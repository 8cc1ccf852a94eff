"""The operator is resampy's: golden data, resampy itself on random lengths and rates, and what being linear implies."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resampy
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data import resampling
from ecgjax.data.resampling import output_samples, resample_signal, resampling_matrix
from ecgjax.errors import UserError
from tests.conftest import load_golden

resample = jax.jit(resampling.resample, static_argnums=(1, 2), static_argnames="nan")

MANIFEST, ARRAYS = load_golden("resample")
TOLERANCE = MANIFEST["tolerance"]

GOLDEN = [
    *(("signal", f"record_10s/{rate}", 500, rate) for rate in (100, 240, 250)),
    *(("crop", f"crop_2s5/{rate}", 500, rate) for rate in (100, 240, 250)),
    *(("from_400_crop/input", f"from_400_crop/{rate}", 400, rate) for rate in (100, 240, 250, 500)),
    ("up_250_to_500/input", "up_250_to_500/output", 250, 500),
]
RATES = (100, 128, 240, 250, 257, 360, 400, 500, 1000, 333.3)


def golden_input(name: str) -> np.ndarray:
    return ARRAYS["signal"][1000:2250] if name == "crop" else ARRAYS[name]


@pytest.mark.parametrize(("source", "result", "rate_in", "rate_out"), GOLDEN)
def test_golden(source: str, result: str, rate_in: int, rate_out: int) -> None:
    x, y = golden_input(source), ARRAYS[result]
    np.testing.assert_allclose(resampling_matrix(len(x), rate_in, rate_out) @ x, y, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(resample(x, rate_in, rate_out), y, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(resample_signal(x, rate_in, rate_out), y, rtol=0, atol=TOLERANCE)


def test_golden_values_of_a_sine() -> None:
    """datasets.md, section 1.1."""
    y = resample_signal(np.sin(0.05 * np.arange(1000))[:, None].repeat(12, axis=1), 400, 240)
    assert y.shape == (600, 12)
    np.testing.assert_allclose(y[:4, 0], [0.006795, 0.081355, 0.167171, 0.246363], atol=2e-6)
    np.testing.assert_allclose(y[300], -0.132355, atol=2e-6)


CASES = (st.integers(11, 3000), st.sampled_from(RATES), st.sampled_from(RATES), st.integers(0, 2**31), st.booleans())


@settings(max_examples=8, deadline=None)  # each compiles its own program
@given(*CASES)
def test_is_resampy(n_in: int, rate_in: float, rate_out: float, seed: int, gaps: bool) -> None:
    compare_with_resampy(resample, n_in, rate_in, rate_out, seed, gaps)


@settings(max_examples=50, deadline=None)
@given(*CASES)
def test_is_resampy_on_the_host(n_in: int, rate_in: float, rate_out: float, seed: int, gaps: bool) -> None:
    compare_with_resampy(resample_signal, n_in, rate_in, rate_out, seed, gaps)


def compare_with_resampy(
    function: Callable[..., Any], n_in: int, rate_in: float, rate_out: float, seed: int, gaps: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n_in, 2)).astype(np.float32)
    if gaps:
        x[rng.random(x.shape) < 2 / n_in] = np.nan
    expected = resampy.resample(x, float(rate_in), float(rate_out), axis=0, filter="kaiser_best")
    actual = np.asarray(function(x, rate_in, rate_out, nan="spread"))
    assert actual.shape == expected.shape == (output_samples(n_in, rate_in, rate_out), 2)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)  # NaN where resampy has NaN, nowhere else


@pytest.mark.parametrize(
    ("n_in", "rate_in", "rate_out"), [(60_000, 500, 240), (60_000, 500, 100), (20_000, 128, 500), (30_000, 1000, 333.3)]
)
def test_long_recording(n_in: int, rate_in: float, rate_out: float) -> None:
    # Long enough that blocks share weights, and that output times have lost digits.
    x = np.random.default_rng(0).uniform(-1, 1, (n_in, 1)).astype(np.float32)
    x[n_in // 2] = np.nan
    expected = resampy.resample(x, float(rate_in), float(rate_out), axis=0)
    for function in (resample, resample_signal):
        np.testing.assert_allclose(function(x, rate_in, rate_out, nan="spread"), expected, rtol=0, atol=TOLERANCE)


def test_matrix_is_shared_and_read_only() -> None:
    matrix = resampling_matrix(1250, 500, 240)
    assert matrix.dtype == np.float32
    assert matrix.shape == (600, 1250)
    assert matrix is resampling_matrix(1250, 500, 240)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1


@pytest.mark.parametrize(("n_in", "rate_in", "rate_out"), [(1250, 500, 240), (700, 360, 250), (625, 250, 500)])
def test_linear(n_in: int, rate_in: float, rate_out: float) -> None:
    x, y = np.random.default_rng(1).normal(size=(2, n_in, 12)).astype(np.float32)
    combined = resample(2 * x - 3 * y, rate_in, rate_out)
    np.testing.assert_allclose(
        combined, 2 * resample(x, rate_in, rate_out) - 3 * resample(y, rate_in, rate_out), atol=2e-5
    )
    np.testing.assert_allclose(combined, resampling_matrix(n_in, rate_in, rate_out) @ (2 * x - 3 * y), atol=2e-5)


def test_batch_equals_single() -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (2, 3, 1250, 12)).astype(np.float32)
    y = resample(x, 500, 240)
    assert y.shape == (2, 3, 600, 12)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(y[i, j], resample(x[i, j], 500, 240), rtol=0, atol=1e-6)


def test_gradient_is_the_transposed_matrix() -> None:
    weight = np.random.default_rng(3).normal(size=(240, 2)).astype(np.float32)
    gradient = jax.grad(lambda x: jnp.sum(resample(x, 500, 240) * weight))(jnp.ones((500, 2)))
    np.testing.assert_allclose(gradient, resampling_matrix(500, 500, 240).T @ weight, atol=1e-5)


def test_missing_sample_costs_only_itself() -> None:
    x = np.random.default_rng(4).uniform(-1, 1, (1250, 2)).astype(np.float32)
    zero = x.copy()
    zero[600, 0] = 0
    x[600, 0] = np.nan
    for function in (resample, resample_signal):
        np.testing.assert_array_equal(function(x, 500, 240), function(zero, 500, 240))


def test_equal_rates_return_the_input() -> None:
    x = np.random.default_rng(5).normal(size=(300, 12)).astype(np.float32)
    for function in (resample, resample_signal):
        np.testing.assert_array_equal(function(x, 250, 250.0), x)
    x[7, 3] = np.nan
    for function in (resample, resample_signal):
        np.testing.assert_array_equal(function(x, 250, 250), np.nan_to_num(x))
        np.testing.assert_array_equal(function(x, 250, 250, nan="spread"), x)
    np.testing.assert_array_equal(resampling_matrix(300, 250, 250), np.eye(300))


@pytest.mark.parametrize(
    ("n_in", "rate_in", "rate_out", "named"),
    [(4, 500, 100, "4 samples"), (10, 0, 100, "0 -> 100"), (10, 500, float("nan"), "nan"), (10**6, 10**6, 1, "factor")],
)
def test_impossible_rates(n_in: int, rate_in: float, rate_out: float, named: str) -> None:
    for function in (resample, resample_signal):
        with pytest.raises(UserError, match=named):
            function(np.zeros((n_in, 12), np.float32), rate_in, rate_out)


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match="'drop'"):
        resample(np.zeros((10, 12)), 100, 200, nan="drop")  # type: ignore[arg-type]
    for function in (resample, resample_signal):
        with pytest.raises(UserError, match="samples, leads"):
            function(np.zeros(10), 100, 200)


def test_resampling_on_the_host_does_not_load_jax():
    # Processes that read and resample recordings are many and forked; JAX costs each a second and is unsafe to fork.
    code = "import sys, ecgjax.data.resampling_host; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
