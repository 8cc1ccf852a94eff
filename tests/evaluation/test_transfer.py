"""Which terms count for a pair of places, and what a model is worth on them."""

import numpy as np
import pytest

from ecgjax import bootstrap
from ecgjax.evaluation import metrics, transfer
from ecgjax.evaluation.transfer import Counts


def counts(**positive):
    """Of 100 records."""
    return Counts(positive, {term: 100 - n for term, n in positive.items()})


def test_unknown_targets_are_neither():
    targets = np.array([[1, 0], [np.nan, 0], [0, np.nan], [1, 1]], np.float32)
    found = transfer.count(("a", "b"), targets, np.array([0, 1, 2]))
    assert found == Counts({"a": 1, "b": 0}, {"a": 1, "b": 2})


def test_terms_need_enough_records_in_training_and_in_the_test():
    trained = {"A": counts(x=50, y=50, z=3, all=97), "B": counts(x=50, y=2, w=50)}
    tested = {"A": counts(x=9, y=9, z=9, all=9), "B": counts(x=9, y=9, w=9), "C": counts(x=9, y=9, z=9, w=4)}
    found = transfer.shared_terms(trained, tested, 5)
    assert found == {
        ("A", "A"): ("x", "y"),  # z is too rare in A's training, "all" too frequent
        ("A", "B"): ("x",),  # B's own model could not learn y, so there is nothing to compare with
        ("A", "C"): ("x", "y"),  # C trains no model
        ("B", "A"): ("x",),
        ("B", "B"): ("w", "x"),
        ("B", "C"): ("x",),
    }
    assert transfer.common_terms(found) == ("x",)
    assert transfer.common_terms({}) == ()


def test_values_and_paired_drops():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.4).astype(np.float32)
    targets[rng.random((60, 3)) < 0.1] = np.nan
    good = np.where(targets == 1, 0.6, 0.3) + rng.uniform(-0.3, 0.3, (60, 3))
    bad = np.where(targets == 1, 0.5, 0.4) + rng.uniform(-0.3, 0.3, (60, 3))
    groups = np.arange(60) // 2
    options = {"replicates": 200, "seed": 3, "groups": groups}
    found = transfer.measure(targets, bad, good, ("a", "b", "c"), **options)
    assert found["value"] == pytest.approx(metrics.macro_auroc(targets, bad))
    assert found["reference"]["value"] == pytest.approx(metrics.macro_auroc(targets, good))
    assert found["defined"] == 3
    # The drop on the very resamples, by plain code.
    draws = np.random.default_rng(3).integers(30, size=(200, 30))
    rows = [np.concatenate([[2 * g, 2 * g + 1] for g in draw]) for draw in draws]
    same = transfer.measure(targets, bad, good, ("a", "b", "c"), groups=groups, indices=draws)
    drops = [metrics.macro_auroc(targets[r], good[r]) - metrics.macro_auroc(targets[r], bad[r]) for r in rows]
    assert same["drop"]["low"] == pytest.approx(np.percentile(drops, 2.5), abs=1e-9)
    assert same["drop"]["high"] == pytest.approx(np.percentile(drops, 97.5), abs=1e-9)
    assert same["drop"]["value"] == pytest.approx(found["reference"]["value"] - found["value"])
    label = found["labels"]["b"]
    assert label["known"] == np.isfinite(targets[:, 1]).sum()
    assert label["positives"] == np.nansum(targets[:, 1])
    alone = bootstrap.intervals(targets[:, [1]], bad[:, [1]], **options)
    assert (label["value"], label["low"], label["high"]) == pytest.approx(
        (alone.value[0], alone.low[0], alone.high[0]), abs=1e-9
    )
    assert label["drop"]["value"] == pytest.approx(label["reference"]["value"] - label["value"])


def test_without_a_model_of_its_own_there_is_no_drop():
    targets = np.array([[0], [1], [0], [1]], np.float32)
    found = transfer.measure(targets, targets, None, ("a",), replicates=20)
    assert found["reference"] is found["drop"] is found["labels"]["a"]["drop"] is None
    assert found["value"] == 1
