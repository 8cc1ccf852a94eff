import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ecgjax import bootstrap, metrics
from ecgjax.errors import UserError
from ecgjax.evaluation.resamples import draw_counts
from ecgjax.evaluation.weighted_auroc import lay_out, replicate_aurocs
from tests.conftest import load_golden
from tests.evaluation.oracles import brute_force_auroc, tables

FORMS = "segments", "comparison", "host"


def _model(rng, targets, signal):
    return (rng.standard_normal(targets.shape) + signal * np.nan_to_num(targets)).astype(np.float32).round(1)


@pytest.fixture(scope="module")
def data():
    """80 records, 5 classes of falling frequency (the last lacks positives), unknown targets, ties; two models."""
    rng = np.random.default_rng(7)
    targets = (rng.random((80, 5)) < [0.6, 0.3, 0.1, 0.03, 0.0]).astype(np.float32)
    targets[rng.random(targets.shape) < 0.1] = np.nan
    targets[:2, :4] = 1  # every other class is defined
    return targets, _model(rng, targets, 1.0), _model(rng, targets, 0.5)


@pytest.fixture(scope="module")
def golden():
    return load_golden("metrics_bootstrap")[1]


def _limits_equal(result, golden, prefix, columns, macro):
    for name, key in (("value", "point"), ("low", "low_ignore_nans"), ("high", "high_ignore_nans")):
        np.testing.assert_allclose(getattr(result, name), golden[f"{prefix}/{key}"][columns], rtol=0, atol=1e-6)
    for name, key in (("macro_value", "point"), ("macro_low", "low"), ("macro_high", "high")):
        assert getattr(result, name) == pytest.approx(golden[f"{prefix}/{key}"][macro], abs=1e-6)
    np.testing.assert_array_equal(result.undefined_replicates, golden[f"{prefix}/undefined_replicates"][columns])


def test_classification_golden(golden):
    targets, a, b = golden["cls/targets"], golden["cls/scores_a"], golden["cls/scores_b"]
    how = {"indices": golden["ids"], "absent": "half"}
    layout = slice(0, 12), -1
    _limits_equal(bootstrap.intervals(targets, a, **how), golden, "cls/a", *layout)
    _limits_equal(bootstrap.intervals(targets, b, **how), golden, "cls/b", *layout)
    _limits_equal(bootstrap.differences(targets, a, b, **how), golden, "cls/a_minus_b", *layout)


def test_regression_golden(golden):
    targets, a, b = golden["reg/targets"], golden["reg/preds_a"], golden["reg/preds_b"]
    how = {"indices": golden["ids"], "metric": "mae"}
    layout = slice(1, 6), 0
    _limits_equal(bootstrap.intervals(targets, a, **how), golden, "reg/a", *layout)
    _limits_equal(bootstrap.intervals(targets, b, **how), golden, "reg/b", *layout)
    _limits_equal(bootstrap.differences(targets, a, b, **how), golden, "reg/a_minus_b", *layout)


@settings(deadline=None, max_examples=40)
@given(
    tables(max_records=12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([3, 300]),
    st.sampled_from(FORMS),
)
def test_replicates_are_weighted_pair_shares(table, seed, largest, form):
    targets, scores = table
    counts = np.random.default_rng(seed).integers(0, largest, (5, len(targets)))
    expected = [
        [brute_force_auroc(t, s, weights) for t, s in zip(targets.T, scores.T, strict=True)] for weights in counts
    ]
    np.testing.assert_allclose(replicate_aurocs(targets, scores, lay_out(counts, form)), expected, rtol=0, atol=1e-12)


def test_replicates_equal_the_metric_on_resampled_rows(data):
    targets, scores, _ = data
    indices = np.random.default_rng(0).integers(0, 80, (30, 80))
    replicates = replicate_aurocs(targets, scores, lay_out(draw_counts(80, indices=indices)))
    expected = [metrics.auroc(targets[rows], scores[rows]) for rows in indices]
    np.testing.assert_allclose(replicates, expected, rtol=0, atol=1e-15)
    errors = bootstrap.intervals(targets, scores, metric="mae", indices=indices)
    rows = np.array(
        [[*metrics.mae(targets[i], scores[i]), metrics.mae(targets[i], scores[i], pooled=True)] for i in indices]
    )
    expected_low, expected_high = np.percentile(rows, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([*errors.low, errors.macro_low], expected_low, rtol=0, atol=1e-12)
    np.testing.assert_allclose([*errors.high, errors.macro_high], expected_high, rtol=0, atol=1e-12)


def test_all_forms_give_the_same_numbers():
    # More than one chunk of the smaller side, which is the positives of class 0 and the negatives of class 1.
    rng = np.random.default_rng(2)
    targets = np.column_stack([rng.random(1500) < 0.3, rng.random(1500) < 0.8]).astype(np.float32)
    targets[rng.random(targets.shape) < 0.1] = np.nan
    scores = (rng.standard_normal(targets.shape) + np.nan_to_num(targets)).round(1)
    counts = draw_counts(1500, 150)
    by_segments, *others = (replicate_aurocs(targets, scores, lay_out(counts, form)) for form in FORMS)
    for other in others:
        np.testing.assert_array_equal(by_segments, other)


def test_sums_stay_exact_beyond_32_bits():
    # 40,000 positives against 60,000 negatives: twice the numerator is above 2^32.
    targets = (np.arange(100_000) % 5 < 2).astype(np.float32)[:, None]
    scores = np.random.default_rng(0).standard_normal((100_000, 1)).astype(np.float32) + 5 * targets
    replicates = replicate_aurocs(targets, scores, lay_out(np.ones((1, 100_000), np.uint8)))
    assert replicates[0] == metrics.auroc(targets, scores)
    # The most that 16-bit sums hold.
    targets, scores = targets[: 2**16 - 1], scores[: 2**16 - 1]
    for weights in (np.ones((1, 2**16 - 1), np.uint8), np.arange(2**16 - 1)[None] % 2 * 2):
        by_form = [replicate_aurocs(targets, scores, lay_out(weights, form)) for form in ("segments", "host")]
        np.testing.assert_array_equal(*by_form)


def test_the_record_limit_is_said():
    table = np.zeros((2**19 + 1, 1), np.float32)
    with pytest.raises(UserError, match="bootstrap of 524289 records; expected at most 524288"):
        bootstrap.intervals(table, table, replicates=2)


def test_undefined_classes(data):
    targets, scores, _ = data
    result = bootstrap.intervals(targets, scores, replicates=200)
    assert np.isnan([result.value[4], result.low[4], result.high[4]]).all()
    assert result.undefined_replicates[4] == 200
    assert 0 < result.undefined_replicates[3] < 200  # yet the class has limits:
    assert np.isfinite([result.low[:4], result.high[:4]]).all()
    assert result.macro_value == pytest.approx(np.nanmean(result.value))
    half = bootstrap.intervals(targets, scores, replicates=200, absent="half")
    assert half.macro_value == pytest.approx(np.mean(np.where(np.isnan(half.value), 0.5, half.value)))
    assert half.macro_low < result.macro_low


def test_same_seed_same_limits_other_seed_other_limits(data):
    targets, scores, _ = data
    first, again, other = (bootstrap.intervals(targets, scores, replicates=50, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.low, again.low)
    assert first.macro_low == again.macro_low != other.macro_low


def test_counts_are_multinomial():
    counts = draw_counts(50, replicates=4000, seed=3)
    assert (counts.sum(axis=1) == 50).all()  # Poisson counts would not
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(), 1 - 1 / 50, atol=0.03)
    np.testing.assert_array_equal(draw_counts(50, replicates=10, seed=3), counts[:10])


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(80)), st.sampled_from(["percentile", "basic", "bca"]), st.sampled_from(["auroc", "mae"]))
def test_record_order_does_not_matter(data, order, kind, metric):
    targets, scores, other = data
    indices = np.random.default_rng(0).integers(0, 80, (20, 80))
    order = np.array(order)
    there = np.empty(80, int)
    there[order] = np.arange(80)
    how = {"kind": kind, "metric": metric}
    one = bootstrap.differences(targets, scores, other, indices=indices, **how)
    two = bootstrap.differences(targets[order], scores[order], other[order], indices=there[indices], **how)
    tolerance = 0 if metric == "auroc" and kind == "percentile" else 1e-9  # sums of integers have no order
    np.testing.assert_allclose([one.low, one.high], [two.low, two.high], rtol=0, atol=tolerance)
    assert [one.macro_low, one.macro_high] == pytest.approx([two.macro_low, two.macro_high], abs=tolerance)


@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
@pytest.mark.parametrize("metric", ["auroc", "mae"])
def test_a_model_does_not_differ_from_itself(data, metric, kind):
    targets, scores, _ = data
    result = bootstrap.differences(targets, scores, scores.copy(), metric=metric, kind=kind, replicates=20)
    defined = ~np.isnan(result.value)
    for limits in (result.value, result.low, result.high):
        assert (limits[defined] == 0).all()
    assert (result.macro_value, result.macro_low, result.macro_high) == (0, 0, 0)


def test_swapping_models_mirrors_the_difference(data):
    targets, a, b = data
    one, two = bootstrap.differences(targets, a, b, replicates=40), bootstrap.differences(targets, b, a, replicates=40)
    np.testing.assert_allclose(one.low, -two.high, rtol=0, atol=1e-15)
    assert one.macro_low == pytest.approx(-two.macro_high, abs=1e-15)


def test_basic_mirrors_percentile(data):
    targets, scores, _ = data
    percentile = bootstrap.intervals(targets, scores, replicates=60)
    basic = bootstrap.intervals(targets, scores, replicates=60, kind="basic")
    np.testing.assert_allclose(basic.low, 2 * percentile.value - percentile.high, rtol=0, atol=1e-15)
    assert basic.macro_high == pytest.approx(2 * percentile.macro_value - percentile.macro_low)


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(1)
    targets = rng.exponential(size=(60, 1))
    predictions = np.zeros((60, 1))  # the error is the target: the pooled metric is a plain mean
    ours = bootstrap.intervals(targets, predictions, metric="mae", kind="bca", replicates=20_000)
    theirs = stats.bootstrap((targets[:, 0],), np.mean, n_resamples=20_000, method="BCa", rng=2).confidence_interval
    assert (ours.macro_low, ours.macro_high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    percentile = bootstrap.intervals(targets, predictions, metric="mae", replicates=20_000)
    assert ours.macro_high > percentile.macro_high + 0.01  # skewed data: the correction is visible, and so is tested


def test_bca_acceleration_of_the_macro_matches_the_jackknife(data):
    targets, scores, _ = data
    from ecgjax.evaluation.influence import macro_auroc_influence

    targets = targets[:, :3]  # leaving one record out keeps these defined
    influence = macro_auroc_influence(targets, scores[:, :3], "skip")
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    keep = ~np.eye(80, dtype=bool)
    jackknife = np.array([metrics.macro_auroc(targets[k], scores[k, :3]) for k in keep])
    jackknife = jackknife.mean() - jackknife
    skew = [np.sum(x**3) / np.sum(x**2) ** 1.5 for x in (influence, jackknife)]
    assert skew[0] == pytest.approx(skew[1], abs=0.02)
    assert np.corrcoef(influence, jackknife)[0, 1] > 0.99


def test_groups_are_drawn_whole():
    patients = np.repeat([f"p{i:02}" for i in range(20)], 4)
    counts = draw_counts(80, replicates=10, seed=5, groups=patients)
    assert (counts.reshape(10, 20, 4) == counts.reshape(10, 20, 4)[..., :1]).all()
    assert (counts.sum(axis=1) == 80).all()
    np.testing.assert_array_equal(counts[:, ::4], draw_counts(20, replicates=10, seed=5))


def test_singleton_groups_are_records_and_duplicated_records_widen_only_with_groups(data):
    targets, scores, _ = data
    each = np.arange(80)
    one, two = (
        bootstrap.intervals(targets, scores, replicates=40),
        bootstrap.intervals(targets, scores, replicates=40, groups=each),
    )
    np.testing.assert_array_equal(one.low, two.low)
    assert (one.unit, two.unit) == ("record", "group")
    # Every record four times over holds no new information; only whole patients show that.
    copies = np.tile(targets, (4, 1)), np.tile(scores, (4, 1))
    clustered = bootstrap.intervals(*copies, replicates=40, groups=np.tile(each, 4))
    np.testing.assert_allclose(clustered.low, one.low, rtol=0, atol=1e-12)
    naive = bootstrap.intervals(*copies, replicates=40)
    assert naive.macro_high - naive.macro_low < 0.7 * (clustered.macro_high - clustered.macro_low)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "f1"}, "metric is 'f1'; expected one of auroc, mae"),
        ({"kind": "student"}, "kind is 'student'; expected one of percentile, basic, bca"),
        ({"absent": "zero"}, "absent is 'zero'"),
        ({"level": 95}, "level is 95; expected a coverage between 0 and 1"),
        ({"replicates": 1}, "replicates is 1; expected 2 or more"),
        ({"indices": np.full((3, 80), 80)}, "indices holds 80 to 80; expected 0 to 79"),
        ({"indices": np.zeros(80, int)}, r"indices is int64 of shape \(80,\)"),
        ({"indices": np.zeros((3, 80))}, "indices is float64"),
        ({"groups": np.zeros(79)}, r"groups has shape \(79,\); expected \(80,\)"),
        ({"groups": np.where(np.arange(80) == 4, np.nan, 1.0)}, "groups holds NaN at record 4"),
    ],
)
def test_bad_options(data, change, message):
    targets, scores, _ = data
    with pytest.raises(UserError, match=message):
        bootstrap.intervals(targets, scores, **change)


def test_models_of_other_shapes(data):
    targets, a, b = data
    with pytest.raises(UserError, match="expected the same shape"):
        bootstrap.differences(targets, a, b[:, :4])
