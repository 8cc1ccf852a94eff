import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from ecgjax.errors import UserError
from ecgjax.evaluation import scaling
from tests.conftest import load_golden

MODELS = ("supervised", "fm_fast_shallow", "fm_slow_tall")


@pytest.mark.parametrize("kind", ["exact", "noisy"])
def test_golden(kind: str) -> None:
    manifest, golden = load_golden("scaling_fit")
    tolerance, n = manifest["tolerance"], golden["N"]
    curves = {name: scaling.fit(n, golden[f"{kind}/{name}/error"]) for name in MODELS}
    for name, curve in curves.items():
        expected = manifest["fits"][kind][name]
        values = expected["C"] * n ** -expected["alpha"] + expected["L0"]
        np.testing.assert_allclose(curve.error(n), values, atol=tolerance["curve_values"])
        if kind == "exact":
            found = [float(curve.scale), float(curve.alpha), float(curve.floor)]
            wanted = [expected["C"], expected["alpha"], expected["L0"]]
            np.testing.assert_allclose(found, wanted, rtol=tolerance["exact_parameters_relative"])
        else:
            assert float(curve.sse) == pytest.approx(expected["sse"], rel=tolerance["noisy_sse_relative"])
        for size, wanted_ratio in expected.get("ratio", {}).items():
            r = scaling.ratio(curve, curves["supervised"], float(size))
            if wanted_ratio["r"] is None:
                assert np.isnan(r)
            else:
                assert float(r) == pytest.approx(wanted_ratio["r"], rel=tolerance["r_relative"])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_no_optimiser_does_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 2.0 ** np.arange(7, 14)
    true = rng.uniform(0.3, 3), rng.uniform(0.1, 1.2), rng.uniform(0, 0.3)
    errors = true[0] * n ** -true[1] + true[2] + rng.normal(scale=0.003, size=n.shape)
    curve = scaling.fit(n, errors)
    try:
        bounds = ([0, scaling.ALPHA[0], 0], [np.inf, scaling.ALPHA[1], np.inf])
        found, _ = curve_fit(lambda x, c, a, f: c * x**-a + f, n, errors, p0=true, bounds=bounds)
    except RuntimeError:
        assume(False)
    sse = np.sum((found[0] * n ** -found[1] + found[2] - errors) ** 2)
    assert float(curve.sse) <= sse * (1 + 1e-6) + 1e-14
    assert curve.scale >= 0
    assert curve.floor >= 0


def test_many_curves_at_once_are_the_single_ones() -> None:
    rng = np.random.default_rng(0)
    n = 2.0 ** np.arange(8)
    errors = rng.uniform(0.1, 0.5, (3, 4, 8))
    together = scaling.fit(n, errors)
    assert together.error(n).shape == (3, 4, 8)
    for i, j in np.ndindex(3, 4):
        alone = scaling.fit(n, errors[i, j])
        assert float(alone.sse) == pytest.approx(float(together.sse[i, j]))
        np.testing.assert_allclose(alone.error(n), together.error(n)[i, j])
    sizes = together.size(together.error(37.0))
    np.testing.assert_allclose(sizes[~np.isnan(sizes)], 37.0, rtol=1e-6)


def test_a_flat_curve_has_no_ratio() -> None:
    n = [1.0, 2.0, 4.0, 8.0]
    flat, learning = scaling.fit(n, [0.3] * 4), scaling.fit(n, [0.4, 0.3, 0.25, 0.2])
    assert np.isnan(scaling.ratio(flat, learning, 4.0))
    assert scaling.ratio(learning, learning, 4.0) == pytest.approx(1)
    assert scaling.ratio(scaling.fit(n, [0.1] * 4), learning, 4.0) == 0, "below at every size"


def test_limits_of_replicates_that_may_be_undefined() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    np.testing.assert_allclose(scaling.interval(values, 0.9), [*np.percentile(values, [5, 95]), 0])
    few = np.where(values > np.sort(values)[-5], np.nan, values)
    low, high, undefined = scaling.interval(few, 0.9)
    # The largest are not left out: the limits stay where they were.
    np.testing.assert_allclose([low, high, undefined], [*np.percentile(values, [5, 95]), 4 / 200])
    many = np.where(values > 0, np.nan, values)
    low, high, undefined = scaling.interval(many, 0.9)
    assert low == pytest.approx(np.percentile(values, 5))
    assert np.isnan(high)
    assert undefined == (values > 0).mean()
    assert np.isnan(scaling.interval(np.array([np.nan]), 0.95)[:2]).all()


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        ([1, 2], [0.1, 0.2], "2 training sizes; expected at least 3"),
        ([1, 2, 3], [0.1, 0.2], r"shape \(3,\) and errors \(2,\)"),
        ([0, 2, 3], [0.1, 0.2, 0.3], "sizes positive"),
        ([1, 2, 3], [0.1, np.nan, 0.3], "finite"),
    ],
)
def test_bad_input(n: list, error: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scaling.fit(n, error)
