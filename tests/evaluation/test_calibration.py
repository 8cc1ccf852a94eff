"""Calibration in numbers against scikit-learn and root finding; intervals against repeated records."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from ecgjax.evaluation import calibration
from ecgjax.evaluation.curves import calibration as bins_of
from ecgjax.evaluation.resamples import draw_counts


def make(records=300, slope=1.7, shift=0.4):
    """Overconfident probabilities that are too low."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(records)
    y = (rng.random(records) < expit(x)).astype(np.float32)
    return y, expit(slope * x - shift).astype(np.float32)


def reference(y, p):
    x = logit(np.clip(p.astype(float), 1e-6, 1 - 1e-6))
    fitted = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(x[:, None], y)
    intercept = brentq(lambda a: np.sum(y - expit(x + a)), -20, 20, xtol=1e-12)
    return {"brier": brier_score_loss(y, p), "intercept": intercept, "slope": fitted.coef_[0, 0]}


def test_values_and_intervals():
    y, p = make()
    target = np.append(y, [np.nan, np.nan]).astype(np.float32)
    score = np.append(p, [0.5, 0.9]).astype(np.float32)
    counts = draw_counts(len(target), 30, 0)
    found = calibration.numbers(target, score, counts, 0.9)
    expected = reference(y, p)
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-5)
    assert found["slope"]["value"] < 0.8
    assert found["intercept"]["value"] > 0
    samples = [reference(np.repeat(y, c[:-2]), np.repeat(p, c[:-2])) for c in counts]
    for name in expected:
        low, high = np.percentile([sample[name] for sample in samples], [5, 95])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx([low, high], abs=1e-5)
    drawn = bins_of(y, p, calibration.BINS)
    gaps = np.abs(np.array(drawn["predicted"]) - drawn["observed"])
    assert found["ece"]["value"] == pytest.approx(np.average(gaps, weights=drawn["count"]), abs=1e-6)


def test_calibrated_probabilities_are_called_so():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 4000).astype(np.float32)
    y = (rng.random(4000) < p).astype(np.float32)
    found = calibration.numbers(y, p, draw_counts(4000, 200, 0), 0.95)
    assert found["slope"]["low"] < 1 < found["slope"]["high"]
    assert found["intercept"]["low"] < 0 < found["intercept"]["high"]
    assert found["ece"]["value"] < 0.03


def test_what_has_no_slope_has_none():
    y = np.array([0, 0, 0, 1, 1, 1], np.float32)
    separated = calibration.numbers(y, np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), draw_counts(6, 20, 0), 0.95)
    assert separated["slope"]["value"] is None
    assert separated["brier"]["value"] == pytest.approx(np.mean([0.01, 0.04, 0.09, 0.09, 0.04, 0.01]))
    none = calibration.numbers(np.zeros(6), np.full(6, 0.2), draw_counts(6, 20, 0), 0.95)
    assert none["intercept"]["value"] is None
    assert none["ece"]["value"] == pytest.approx(0.2)
