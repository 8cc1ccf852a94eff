"""Intervals hold the truth as often as they promise: simulated experiments, all classes of one bootstrap."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ecgjax import bootstrap

EXPERIMENTS = 1500


def experiments(seed: int) -> tuple[NDArray, np.random.Generator]:
    """Targets of 60 positives and 60 negatives for each experiment."""
    targets = np.repeat([[0.0], [1.0]], 60, axis=0).astype(np.float32)
    return np.tile(targets, (1, EXPERIMENTS)), np.random.default_rng(seed)


def check(low: NDArray, high: NDArray, truth: float, level: float) -> None:
    """Misses on either side, within four standard errors and 1 % that the bootstrap of 120 records may lack."""
    below, above = (truth <= low).mean(), (truth >= high).mean()
    allowed = 4 * np.sqrt(level * (1 - level) / EXPERIMENTS) + 0.01
    assert 1 - below - above == pytest.approx(level, abs=allowed)
    side = (1 - level) / 2
    assert [below, above] == pytest.approx([side, side], abs=4 * np.sqrt(side * (1 - side) / EXPERIMENTS) + 0.015)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
def test_intervals_of_values(kind: bootstrap.Kind, level: float) -> None:
    """The AUROC of two unit normals one apart is known."""
    targets, rng = experiments(11)
    scores = rng.standard_normal(targets.shape) + targets
    result = bootstrap.intervals(targets, scores, replicates=300, level=level, kind=kind)
    check(result.low, result.high, stats.norm.cdf(1 / np.sqrt(2)), level)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
def test_intervals_of_differences(kind: bootstrap.Kind, level: float) -> None:
    """Two models that see half of the same: their scores are correlated, their AUROC differ by a known amount."""
    targets, rng = experiments(13)
    shared = rng.standard_normal(targets.shape)
    a, b = (shared + rng.standard_normal(targets.shape) + strength * targets for strength in (1.5, 1.0))
    result = bootstrap.differences(targets, a, b, replicates=300, level=level, kind=kind)
    check(result.low, result.high, stats.norm.cdf(1.5 / 2) - stats.norm.cdf(1 / 2), level)


def test_only_intervals_over_patients_cover_when_records_come_in_fours() -> None:
    """A patient's four records have nearly one score; intervals over records promise too much."""
    truth = stats.norm.cdf(1 / np.sqrt(2 * 1.01))
    rng = np.random.default_rng(12)
    targets = np.tile(np.repeat([[0.0], [1.0]], 160, axis=0), (1, 300)).astype(np.float32)
    scores = np.repeat(rng.standard_normal((80, 300)), 4, axis=0) + 0.1 * rng.standard_normal(targets.shape) + targets
    results = [
        bootstrap.intervals(targets, scores, replicates=200, groups=groups) for groups in (np.arange(320) // 4, None)
    ]
    over_patients, over_records = (((r.low < truth) & (truth < r.high)).mean() for r in results)
    assert over_patients == pytest.approx(0.95, abs=0.05)
    assert over_records < 0.75
