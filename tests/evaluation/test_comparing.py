"""All pairs at once, Holm, ranks and DeLong's variance against definitions and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ecgjax import bootstrap
from ecgjax.errors import UserError
from ecgjax.evaluation.delong import delong
from ecgjax.evaluation.joint import joint
from ecgjax.evaluation.multiplicity import holm, holm_pairs
from ecgjax.evaluation.ranks import aggregate, ranks


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    targets = (rng.random((90, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.float32)
    targets[rng.random(targets.shape) < 0.05] = np.nan
    targets[0], targets[1] = 1, 0
    strengths = {"good": 1.5, "fair": 1.0, "twin": 1.0, "poor": 0.0}
    noise = rng.standard_normal((2, *targets.shape))
    scores = {
        name: (noise[int(i > 1)] + s * np.nan_to_num(targets)).round(1) for i, (name, s) in enumerate(strengths.items())
    }
    scores["twin"] = scores["fair"].copy()
    return targets, scores


@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
@pytest.mark.parametrize("metric", ["auroc", "mae"])
def test_joint_equals_one_by_one(data: tuple, kind: str, metric: str) -> None:
    targets, scores = data
    arguments = {"metric": metric, "replicates": 60, "seed": 5, "kind": kind, "groups": np.arange(90) // 2}
    found = joint(targets, scores, **arguments)
    for i, name in enumerate(scores):
        alone = bootstrap.intervals(targets, scores[name], **arguments)
        assert (found.value[i], found.low[i], found.high[i]) == (alone.macro_value, alone.macro_low, alone.macro_high)
        np.testing.assert_array_equal(found.class_low[i], alone.low)
        np.testing.assert_array_equal(found.class_high[i], alone.high)
    for i, a in enumerate(scores):
        for j, b in enumerate(scores):
            if i < j:
                pair = bootstrap.differences(targets, scores[a], scores[b], **arguments)
                difference = found.differences
                assert difference.value[i, j] == pytest.approx(pair.macro_value, abs=1e-12)
                assert difference.low[i, j] == pytest.approx(pair.macro_low, abs=1e-12)
                assert difference.high[i, j] == pytest.approx(pair.macro_high, abs=1e-12)
                assert difference.low[j, i] == -difference.high[i, j]


def test_p_values(data: tuple) -> None:
    found = joint(*data, replicates=199).differences
    assert (found.p == found.p.T).all()
    assert found.p[1, 2] == 1  # equal scores
    assert found.p[0, 3] == pytest.approx(2 / 200)
    excluded = (found.low > 0) | (found.high < 0)
    assert excluded[0, 3]
    assert not excluded[1, 2]


def test_no_model_and_a_bad_one(data: tuple) -> None:
    targets, scores = data
    with pytest.raises(UserError, match="no model"):
        joint(targets, {})
    with pytest.raises(UserError, match="model poor: scores of class 0 hold NaN"):
        joint(targets, {**scores, "poor": np.full(targets.shape, np.nan)})


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm(p: list[float]) -> None:
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.2):
        # The procedure as Holm states it: reject while p(k) <= level / (m - k + 1).
        rejected = set()
        for k, i in enumerate(np.argsort(p, kind="stable")):
            if p[i] * (len(p) - k) > level:
                break
            rejected.add(int(i))
        assert {i for i in range(len(p)) if adjusted[i] <= level} == rejected


def test_holm_of_pairs_and_missing_ones() -> None:
    p = np.array([[1, 0.01, np.nan], [0.01, 1, 0.03], [np.nan, 0.03, 1]])
    np.testing.assert_allclose(holm_pairs(p), [[1, 0.02, np.nan], [0.02, 1, 0.03], [np.nan, 0.03, 1]])
    with pytest.raises(UserError, match=r"outside \[0, 1\]"):
        holm([1.5])


def matrix(n: int, *pairs: tuple[int, int]) -> np.ndarray:
    result = np.zeros((n, n), bool)
    for i, j in pairs:
        result[i, j] = result[j, i] = True
    return result


def test_ranks_by_rule_and_numbering() -> None:
    value = [0.9, 0.88, 0.85, 0.7]
    differ = matrix(4, (0, 2), (0, 3), (1, 3), (2, 3))  # 1 does not differ from 0 nor from 2
    assert ranks(value, differ, higher_is_better=True).tolist() == [1, 1, 2, 3]
    assert ranks(value, differ, higher_is_better=True, numbering="competition").tolist() == [1, 1, 3, 4]
    assert ranks(value, differ, higher_is_better=True, rule="wins").tolist() == [1, 1, 2, 4]
    assert ranks(value, differ, higher_is_better=False).tolist() == [3, 2, 2, 1]
    with_gap = ranks([0.9, np.nan, 0.8], matrix(3, (0, 2)), higher_is_better=True)
    np.testing.assert_array_equal(with_gap, [1, np.nan, 2])
    assert ranks([0.5, 0.6], matrix(2), higher_is_better=True).tolist() == [1, 1]


@given(st.integers(1, 7), st.integers(0, 2**32 - 1), st.sampled_from(["groups", "wins"]))
def test_ranks_do_not_depend_on_the_order_of_the_models(n: int, seed: int, rule: str) -> None:
    rng = np.random.default_rng(seed)
    value, differ = rng.permutation(n) / n, rng.random((n, n)) < 0.5
    differ = np.triu(differ, 1) | np.triu(differ, 1).T
    found = ranks(value, differ, higher_is_better=True, rule=rule)
    order = rng.permutation(n)
    again = ranks(value[order], differ[np.ix_(order, order)], higher_is_better=True, rule=rule)
    np.testing.assert_array_equal(again, found[order])
    assert found[np.argmax(value)] == 1


def test_aggregated_ranks() -> None:
    median, mean = aggregate([[1, 2, 3], [1, 1, np.nan], [4, 3, 1]])
    np.testing.assert_array_equal(median, [1, 2, np.nan])
    np.testing.assert_array_equal(mean, [2, 2, np.nan])
    assert aggregate([[1, 2], [2, 2]], "mean")[0].tolist() == [1.5, 2]
    with pytest.raises(UserError, match="at least one"):
        aggregate([])


def classic_delong(target: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Covariance of two AUROCs from placement values, pair by pair, as in the paper's equations 4 to 6."""
    placements = []
    for score in (a, b):
        compared = np.sign(score[target == 1][:, None] - score[target == 0][None, :]) / 2 + 0.5
        placements.append((compared.mean(axis=1), compared.mean(axis=0)))
    return sum(np.cov([placements[0][side], placements[1][side]]) / len(placements[0][side]) for side in (0, 1))


def test_delong_of_one_class_is_the_papers() -> None:
    rng = np.random.default_rng(4)
    target = (rng.random(60) < 0.3).astype(float)
    scores = {name: (rng.normal(size=60) + target).round(1)[:, None] for name in "ab"}
    value, covariance = delong(target[:, None], scores)
    assert value == pytest.approx([roc_auc_score(target, score) for score in scores.values()])
    np.testing.assert_allclose(covariance, classic_delong(target, scores["a"][:, 0], scores["b"][:, 0]), atol=1e-12)


def test_delong_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(5)
    # Patients with two records each and correlated classes, so that independence would be far off.
    severity = np.repeat(rng.normal(size=(300, 1)), 2, axis=0)
    targets = (severity + rng.normal(size=(600, 5)) > 0.8).astype(float)
    shared = severity + rng.normal(size=(600, 1))
    scores = {name: shared + rng.normal(size=(600, 5)) + targets for name in ("a", "b")}
    groups = np.arange(600) // 2
    _, covariance = delong(targets, scores, groups=groups)
    found = joint(targets, scores, groups=groups, replicates=2000)
    spread = np.cov(found.samples.T)
    np.testing.assert_allclose(covariance, spread, rtol=0.12)
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert np.sqrt(difference) == pytest.approx(np.std(found.samples[:, 0] - found.samples[:, 1]), rel=0.1)
    assert delong(targets, scores)[1][0, 0] < 0.9 * covariance[0, 0]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_undefined_classes_have_no_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.column_stack([rng.random(30) < 0.5, np.zeros(30)]).astype(float)
    targets[:2, 0] = 0, 1
    scores = rng.normal(size=(30, 2))
    value, covariance = delong(targets, {"a": scores})
    alone, its_own = delong(targets[:, :1], {"a": scores[:, :1]})
    assert value == pytest.approx(alone)
    assert covariance == pytest.approx(its_own)
    assert delong(targets, {"a": scores}, "half")[1] == pytest.approx(its_own / 4)


@pytest.mark.parametrize("kind", ["percentile", "bca"])
def test_intervals_cover(kind: str) -> None:
    """95 % intervals of a difference hold the truth (0) in about 95 % of 200 simulated studies."""
    rng = np.random.default_rng(6)
    covered, rejected = 0, 0
    for _ in range(200):
        targets = (rng.random((120, 2)) < 0.3).astype(float)
        targets[0], targets[1] = 1, 0
        scores = {name: rng.normal(size=targets.shape) + targets for name in "ab"}
        found = joint(targets, scores, replicates=200, kind=kind, seed=int(rng.integers(2**31))).differences
        covered += found.low[0, 1] <= 0 <= found.high[0, 1]
        rejected += found.p[0, 1] < 0.05
    assert 0.88 <= covered / 200 <= 0.99
    assert rejected / 200 <= 0.11
