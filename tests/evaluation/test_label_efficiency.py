"""Curves and data needs from errors whose truth is known."""

import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.evaluation.label_efficiency import describe, learners

N = 2.0 ** np.arange(5, 13)


def _measured(c, alpha, floor, rng, noise=0.0, replicates=200):
    error = c * N**-alpha + floor
    # The test set moves a whole curve up and down, as resamples of its records do.
    shift = noise * rng.standard_normal((replicates, 1))
    return N, error, error + shift + 0.1 * noise * rng.standard_normal((replicates, len(N)))


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    return learners(
        {
            "slow": _measured(1.0, 0.3, 0.10, rng, 0.002),
            "fast": _measured(0.5, 0.3, 0.10, rng, 0.002),
            "stuck": _measured(0.2, 0.5, 0.16, rng, 0.002),
        }
    )


def test_curves_are_found_with_bands_about_them(fitted):
    found = describe("slow", fitted, "slow", (1000,), 0.95)
    assert [found["fit"][key] for key in ("C", "alpha", "L0")] == pytest.approx([1.0, 0.3, 0.1], rel=1e-3)
    assert found["fit"]["rmse"] < 1e-6
    for key, truth in (("C", 1.0), ("alpha", 0.3), ("L0", 0.1)):
        low, high = found["fit"]["limits"][key]
        assert low < truth < high
    band = found["fit"]["band"]
    truth = np.asarray(band["n"]) ** -0.3 + 0.1
    np.testing.assert_allclose(band["value"], truth, rtol=1e-4)
    assert (band["low"] < truth).all()
    assert (truth < band["high"]).all()
    # One standard deviation is 0.002.
    assert np.mean(band["high"] - band["low"]) == pytest.approx(4 * 0.002, rel=0.2)
    assert found["ratio"] == {}


def test_needs_with_limits(fitted):
    found = describe("fast", fitted, "slow", (1000, 1e6), 0.95)["ratio"]
    # 0.5 n^-0.3 = N^-0.3.
    truth = 0.5 ** (1 / 0.3)
    for key, n in (("1000", 1000.0), ("full", 4096.0)):
        need = found[key]
        assert need["r"] == pytest.approx(truth, rel=1e-2)
        assert need["low"] < truth < need["high"]
        assert need["needed"] == pytest.approx(truth * n, rel=1e-2)
        assert not need["extrapolated"]
        assert (need["undefined"], need["reason"]) == (0, None)
    assert found["1e+06"]["extrapolated"], "the baseline never had a million"


def test_what_is_never_reached_is_said(fitted):
    found = describe("stuck", fitted, "slow", (100, 100_000), 0.95)["ratio"]
    assert found["100"]["undefined"] == 0
    never = found["100000"]
    assert np.isnan(never["r"])
    assert np.isnan(never["high"])
    assert never["undefined"] > 0.9
    assert never["reason"]
    assert never["extrapolated"]


def test_replicates_without_an_error_are_left_out_for_all():
    rng = np.random.default_rng(0)
    first, second = _measured(1.0, 0.3, 0.1, rng, 0.01), _measured(1.0, 0.5, 0.1, rng, 0.01)
    first[2][:10, 0] = np.nan
    second[2][5:20, 3] = np.nan
    found = learners({"a": first, "b": second})
    for name, measured in (("a", first), ("b", second)):
        np.testing.assert_array_equal(found[name].samples, measured[2][20:])
    first[2][1:] = np.nan
    with pytest.raises(UserError, match="0 of 200 bootstrap replicates define every error"):
        learners({"a": first, "b": second})


def test_too_few_sizes_name_the_model():
    samples = np.ones((5, 3))
    with pytest.raises(UserError, match="model a: 2 training sizes"):
        learners({"a": ([8, 8, 16], [0.3, 0.3, 0.2], samples)})
