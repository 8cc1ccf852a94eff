"""Exact linear models against scikit-learn, and against what makes an optimum an optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from ecgjax.errors import UserError
from ecgjax.evaluation import exact_linear

STRENGTHS = (1e-4, 1.0, 1e-2)  # in no order


@pytest.fixture(scope="module")
def data():
    """Correlated features of other scales, one of them constant; labels of 50 to 4 %, with unknown targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((700, 9)) @ rng.standard_normal((9, 9)) * 10.0 ** rng.integers(-3, 3, 9) + 5
    x[:, 4] = 3.0
    z = (x - x.mean(0)) / np.where(x.std(0) > 1e-9, x.std(0), 1)
    values = z @ rng.standard_normal((9, 4)) + rng.standard_normal((700, 4))
    values[rng.random(700) < 0.2, 1] = np.nan
    values[rng.random(700) < 0.1, 3] = np.nan
    classes = np.where(np.isnan(values), np.nan, values > np.array([0.0, 1.0, 3.0, 6.0]))
    weight = 1 / rng.integers(1, 5, 700)
    return x.astype(np.float32), values.astype(np.float32), classes.astype(np.float32), weight


def standardised(x, weight):
    x = x.astype(np.float64)
    mean = np.average(x, axis=0, weights=weight)
    sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    return (x - mean) / np.where(sd > 1e-5, sd, 1)


def test_ridge_is_that_of_scikit_learn(data):
    x, y, _, weight = data
    z = standardised(x, weight)
    path = exact_linear.ridge(x, y, STRENGTHS, weight)
    for i, strength in enumerate(STRENGTHS):
        for label in range(y.shape[1]):
            rows = ~np.isnan(y[:, label])
            theirs = Ridge(alpha=strength * weight[rows].sum()).fit(z[rows], y[rows, label], weight[rows])
            ours = x.astype(np.float64) @ path.kernel[i][:, label] + path.bias[i, label]
            np.testing.assert_allclose(ours, theirs.predict(z), rtol=0, atol=1e-8)
    assert path.gradient.max() < 1e-10


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_logistic_regression_is_that_of_scikit_learn(data, solver):
    x, _, y, weight = data
    z = standardised(x, weight)
    path = exact_linear.logistic(x, y, STRENGTHS, weight, solver=solver)
    assert path.gradient.max() < 1e-8
    for i, strength in enumerate(STRENGTHS):
        for label in range(y.shape[1]):
            rows = ~np.isnan(y[:, label])
            regression = LogisticRegression(
                C=1 / (strength * weight[rows].sum()), solver="newton-cholesky", tol=1e-12, max_iter=1000
            )
            theirs = regression.fit(z[rows], y[rows, label], weight[rows])
            ours = x.astype(np.float64) @ path.kernel[i][:, label] + path.bias[i, label]
            np.testing.assert_allclose(ours, theirs.decision_function(z), rtol=1e-5, atol=1e-5)


def test_in_float32_as_on_a_tpu(data):
    x, _, y, weight = data
    exact = exact_linear.logistic(x, y, STRENGTHS, weight)
    for solver in ("newton", "lbfgs"):
        path = exact_linear.logistic(x, y, STRENGTHS, weight, solver=solver, dtype="float32")
        assert path.gradient.max() < 2e-5
        for i in range(len(STRENGTHS)):
            ours, theirs = (x.astype(np.float64) @ p.kernel[i] + p.bias[i] for p in (path, exact))
            np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max())


def test_the_gradient_of_the_objective_as_written_is_zero(data):
    """Derivatives of the objective as its definition says it, by central differences of scikit-learn's log loss."""
    x, _, y, weight = data
    z, strength = standardised(x, weight), 1e-2
    path = exact_linear.logistic(x, y, [strength], weight)
    rows = ~np.isnan(y[:, 1])
    mean = np.average(x.astype(np.float64), axis=0, weights=weight)
    sd = np.where(z.std(0) > 1e-9, x.std(0, dtype=np.float64) / np.maximum(z.std(0), 1e-9), 1)
    b, c = path.kernel[0][:, 1] * sd, path.bias[0, 1] + mean @ path.kernel[0][:, 1]

    def objective(b, c):
        chance = 1 / (1 + np.exp(-(z[rows] @ b + c)))
        return log_loss(y[rows, 1], chance, sample_weight=weight[rows]) + strength / 2 * (b @ b)

    for k in [*range(9), None]:
        step = 1e-5 * (np.arange(9) == k)
        shift = 1e-5 * (k is None)
        derivative = (objective(b + step, c + shift) - objective(b - step, c - shift)) / 2e-5
        assert abs(derivative) < 1e-7


def test_labels_with_one_class_get_a_constant(data):
    x, _, y, _ = data
    y = y.copy()
    y[:, 0], y[:, 1], y[:, 2] = 0, 1, np.nan
    path = exact_linear.logistic(x, y, [1e-2])
    assert not path.kernel[0][:, :3].any()
    np.testing.assert_allclose(path.bias[0, :3], [np.log(0.5 / 700.5), np.log(700.5 / 0.5), 0])
    assert path.kernel[0][:, 3].any()
    assert not exact_linear.ridge(x, y, [1e-2]).kernel[0][:, 2].any()


def test_separable_labels_still_have_an_optimum():
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    path = exact_linear.logistic(x, (x > 0.0).astype(np.float32), [1e-6, 1e-3])
    assert path.gradient.max() < 1e-8
    assert path.kernel[0][0, 0] > path.kernel[1][0, 0] > 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(-3, 3), st.sampled_from(["ridge", "logistic"]))
def test_scale_and_offset_of_a_feature_do_not_matter(seed, magnitude, kind):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    y = (x[:, :2] + rng.standard_normal((60, 2)) > 0).astype(np.float32)
    y[0], y[1] = 0, 1
    scale = np.float32(2.0 ** round(3 * magnitude))
    other = x * np.array([scale, 1, -1, 1], np.float32)
    fit = getattr(exact_linear, kind)
    one, two = fit(x, y, [1e-2]), fit(other, y, [1e-2])
    np.testing.assert_allclose(x @ one.kernel[0] + one.bias[0], other @ two.kernel[0] + two.bias[0], atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["ridge", "logistic"]))
def test_weights_are_repetitions(seed, kind):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    y = (x[:, :2] + rng.standard_normal((60, 2)) > 0).astype(np.float32)
    y[0], y[1] = 0, 1
    times = rng.integers(0, 3, 60)
    times[:2] = 1
    fit = getattr(exact_linear, kind)
    one = fit(x, y, [1e-1], times.astype(float))
    two = fit(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0), [1e-1])
    np.testing.assert_allclose(one.kernel, two.kernel, atol=1e-6)
    np.testing.assert_allclose(one.bias, two.bias, atol=1e-6)


def test_what_cannot_be_is_refused(data):
    x, values, y, _ = data
    with pytest.raises(UserError, match=r"strength is 0.0; expected a positive number"):
        exact_linear.ridge(x, values, [0.0])
    with pytest.raises(UserError, match="solver is 'sgd'"):
        exact_linear.logistic(x, y, [1.0], solver="sgd")
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(UserError, match="feature 2 is not finite"):
        exact_linear.logistic(bad, y, [1.0])
