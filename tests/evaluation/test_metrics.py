import time

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import mean_absolute_error, roc_auc_score

from ecgjax import metrics
from ecgjax.errors import UserError
from tests.conftest import load_golden
from tests.evaluation.oracles import brute_force_auroc, tables


def test_auroc_golden():
    manifest, arrays = load_golden("metrics_auroc")
    for case, facts in manifest["cases"].items():
        targets, scores = arrays[f"{case}/targets"], arrays[f"{case}/scores"]
        np.testing.assert_allclose(metrics.auroc(targets, scores), arrays[f"{case}/auc"], rtol=0, atol=1e-9)
        assert metrics.macro_auroc(targets, scores, absent="half") == pytest.approx(facts["macro"], abs=1e-9)
        expected = facts["macro_over_defined_only_NOT_reference"]
        assert metrics.macro_auroc(targets, scores) == pytest.approx(
            np.nan if expected is None else expected, abs=1e-9, nan_ok=True
        )


def test_regression_golden():
    manifest, arrays = load_golden("metrics_regression")
    targets, predictions = arrays["targets"], arrays["preds"]
    tolerance = manifest["tolerance"]
    np.testing.assert_allclose(metrics.mae(targets, predictions), arrays["mae"], rtol=0, atol=tolerance)
    pooled = metrics.mae(targets, predictions, pooled=True)
    assert pooled == pytest.approx(manifest["mae_pooled"], abs=tolerance)
    composite = 1 - metrics.macro_auroc(arrays["cls_targets"], arrays["cls_scores"], absent="half") + pooled
    assert composite == pytest.approx(float(arrays["composite"]), abs=tolerance)


@given(tables())
def test_auroc_is_the_share_of_ordered_pairs(table):
    targets, scores = table
    expected = [brute_force_auroc(t, s) for t, s in zip(targets.T, scores.T, strict=True)]
    np.testing.assert_allclose(metrics.auroc(targets, scores), expected, rtol=0, atol=1e-12)


@given(tables())
def test_auroc_agrees_with_sklearn(table):
    targets, scores = table
    for column, value in enumerate(metrics.auroc(targets, scores)):
        known = ~np.isnan(targets[:, column])
        kinds = np.unique(targets[known, column])
        assert np.isnan(value) == (len(kinds) < 2)
        if len(kinds) == 2:
            expected = roc_auc_score(targets[known, column], scores[known, column].astype(np.float64))
            assert value == pytest.approx(expected, abs=1e-12)


@given(tables())
def test_auroc_symmetries(table):
    targets, scores = table
    area = metrics.auroc(targets, scores)
    np.testing.assert_allclose(metrics.auroc(1 - targets, scores), 1 - area, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(metrics.auroc(targets, np.exp(scores.astype(np.float64))), area)  # ranks decide
    np.testing.assert_array_equal(metrics.auroc(targets[::-1], scores[::-1]), area)


def test_infinite_scores_are_ranks_like_others():
    np.testing.assert_array_equal(metrics.auroc([[0], [0], [1]], [[-np.inf], [0.0], [np.inf]]), [1.0])


def test_mae_agrees_with_sklearn_and_pools_entries():
    rng = np.random.default_rng(0)
    targets, predictions = rng.standard_normal((2, 50, 3)).astype(np.float32)
    targets[:40, 1] = np.nan
    per_target = metrics.mae(targets, predictions)
    for column, value in enumerate(per_target):
        known = ~np.isnan(targets[:, column])
        assert value == pytest.approx(mean_absolute_error(targets[known, column], predictions[known, column]), abs=1e-7)
    assert metrics.mae(targets, predictions, pooled=True) == pytest.approx(per_target @ [50, 10, 50] / 110)
    targets[:, 2] = np.nan
    assert np.isnan(metrics.mae(targets, predictions)[2])
    assert np.isnan(metrics.mae(np.full((2, 1), np.nan), np.zeros((2, 1)), pooled=True))


GOOD = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        (GOOD[:, 0], GOOD[:, 0], r"targets has shape \(3,\); expected \(records, classes\)"),
        (GOOD, GOOD[:, :1], r"targets has shape \(3, 2\) and scores \(3, 1\)"),
        (GOOD[:0], GOOD[:0], r"shape \(0, 2\)"),
        (GOOD, np.where(GOOD == 1, np.nan, GOOD), "scores of class 1 hold NaN"),
        (GOOD * 2, GOOD, "targets of class 1 hold a value .* expected 0, 1 or NaN"),
        (GOOD.astype(str), GOOD, "targets holds <U"),
    ],
)
def test_bad_classification_input(targets, scores, message):
    with pytest.raises(UserError, match=message):
        metrics.auroc(targets, scores)


def test_bad_regression_input():
    with pytest.raises(UserError, match="predictions of target 1 hold a non-finite value"):
        metrics.mae(GOOD, [[0, 0], [0, np.inf], [0, 0]])
    with pytest.raises(UserError, match="targets of target 0 hold an infinite value"):
        metrics.mae([[np.inf]], [[0.0]])


def test_unknown_absent_rule():
    with pytest.raises(UserError, match="absent is 'zero'; expected one of skip, half"):
        metrics.macro_auroc(GOOD, GOOD, absent="zero")


def test_a_large_table_takes_seconds():
    # An eighth of the benchmark's largest table (80,000 x 1,092) in columns.
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((80_000, 136), np.float32)
    targets = (rng.random((80_000, 136), np.float32) < 0.02).astype(np.float32)
    start = time.perf_counter()
    metrics.auroc(targets, scores)
    assert time.perf_counter() - start < 10
