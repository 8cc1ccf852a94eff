"""Metrics of one's own under the bootstrap: the built-in ones written as such must give the built-in results."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ecgjax import bootstrap
from ecgjax.errors import UserError
from ecgjax.evaluation.resamples import draw_counts
from tests.conftest import virtual_devices


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    targets = (rng.random((70, 3)) < [0.5, 0.3, 0.15]).astype(np.float32)
    targets[0], targets[1] = 1, 0
    targets[5, 0] = np.nan
    return targets, *(rng.normal(size=targets.shape) + s * np.nan_to_num(targets) for s in (1.0, 0.4))


def weighted_auroc(targets, scores, weights):
    positive, negative = (jnp.where(targets == known, weights[:, None], 0) for known in (1, 0))
    compared = jnp.sign(scores[:, None] - scores[None, :]) / 2 + 0.5
    won = jnp.einsum("ic,jc,ijc->c", positive, negative, compared)
    return won / (positive.sum(0) * negative.sum(0))


def weighted_mae(targets, predictions, weights):
    known = ~jnp.isnan(targets) * weights[:, None]
    return (known * jnp.abs(jnp.nan_to_num(targets) - predictions)).sum(0) / known.sum(0)


@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
def test_auroc_and_mae_as_ones_own(data, kind):
    targets, a, b = data
    how = {"replicates": 80, "kind": kind, "groups": np.arange(70) // 2}
    for metric, own in (("auroc", weighted_auroc), ("mae", weighted_mae)):
        for arguments in ((targets, a), (targets, a, b)):
            function = bootstrap.intervals if len(arguments) == 2 else bootstrap.differences
            expected, found = function(*arguments, metric, **how), function(*arguments, own, **how)
            assert found.metric == own.__name__
            for name in ("value", "low", "high"):
                np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-9)
            if metric == "auroc":
                assert found.macro_value == pytest.approx(expected.macro_value)
                assert (found.macro_low, found.macro_high) == pytest.approx((expected.macro_low, expected.macro_high))


def test_a_scalar_metric(data):
    targets, a, _ = data

    def brier(targets, scores, weights):
        known = jnp.where(jnp.isnan(targets), 0, weights[:, None])
        return (known * (jnp.nan_to_num(targets) - scores) ** 2).sum() / known.sum()

    found = bootstrap.intervals(targets, a, brier, replicates=50)
    assert found.value.shape == (1,)
    assert found.macro_value == pytest.approx(np.nanmean((targets - a) ** 2))
    counts = draw_counts(70, 50)
    values = [np.nanmean(np.repeat((targets - a) ** 2, count, axis=0)) for count in counts]
    assert (found.macro_low, found.macro_high) == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist())


def test_average_precision_against_scikit_learn(data):
    targets, a, _ = data

    def average_precision(targets, scores, weights):
        order = jnp.argsort(-scores[:, 1])
        hits = (targets[order, 1] * weights[order]).cumsum()
        taken = weights[order].cumsum()
        gained = targets[order, 1] * weights[order]
        # Of a record drawn twice both copies share a threshold.
        return (gained * hits / jnp.maximum(taken, 1)).sum() / hits[-1]

    indices = np.random.default_rng(0).integers(0, 70, (20, 70))
    found = bootstrap.intervals(targets, a, average_precision, indices=indices)
    expected = [average_precision_score(targets[rows, 1], a[rows, 1]) for rows in indices]
    assert (found.macro_low, found.macro_high) == pytest.approx(np.percentile(expected, [2.5, 97.5]).tolist())


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda t, s, w: float(w.sum()), "metric <lambda>"),
        (lambda t, s, w: s, r"shape \(70, 3\); expected a float scalar"),
        ("accuracy", "metric is 'accuracy'"),
    ],
)
def test_metrics_that_cannot_be_used(data, metric, message):
    with pytest.raises(UserError, match=message):
        bootstrap.intervals(*data[:2], metric, replicates=4)


ON_THREE_DEVICES = """
import jax, numpy as np
from ecgjax import bootstrap
assert len(jax.local_devices()) == {devices}
rng = np.random.default_rng(0)
targets = (rng.random((300, 4)) < 0.3).astype(np.float32)
scores = rng.normal(size=targets.shape) + targets
print(repr(bootstrap.intervals(targets, scores, replicates=500).low.tolist()))
"""


def test_devices_share_the_replicates():
    printed = []
    for devices in (1, 3):
        command = [sys.executable, "-c", ON_THREE_DEVICES.format(devices=devices)]
        done = subprocess.run(
            command, env=virtual_devices(devices), capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1]
