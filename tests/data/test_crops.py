"""Windows, starts and means: the benchmark's, and properties of each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.crops import draw_starts, evaluation_windows, mean_by_record, split_short, window_samples
from ecgjax.errors import UserError
from tests.conftest import load_golden

MANIFEST, ARRAYS = load_golden("chunking")
LENGTHS = np.array(MANIFEST["record_lengths"])


@pytest.mark.parametrize("case", MANIFEST["cases"], ids=lambda case: str(case["window"]))
def test_golden_windows(case: dict) -> None:
    record, start = evaluation_windows(LENGTHS, case["window"])
    rows = np.stack([record, start, start + case["window"]], axis=1)
    assert rows.tolist() == case["eval_chunks_record_start_end"]
    kept, dropped = split_short(np.arange(len(LENGTHS)), LENGTHS, case["window"])
    assert len(kept) == case["train_items"]
    assert (LENGTHS[dropped] < case["window"]).all()


@pytest.mark.parametrize("case", MANIFEST["cases"], ids=lambda case: str(case["window"]))
def test_golden_starts(case: dict) -> None:
    for length, starts in case["train_crop_starts_seen_in_1500_draws"].items():
        drawn = draw_starts(np.random.default_rng(0), np.full(1500, int(length)), case["window"], last_start=False)
        assert sorted(set(drawn.tolist())) == starts


def test_last_start_is_drawn() -> None:
    drawn = draw_starts(np.random.default_rng(0), np.full(500, 1005), 1000)
    assert sorted(set(drawn.tolist())) == [0, 1, 2, 3, 4, 5]


@given(st.lists(st.integers(50, 200), max_size=20), st.booleans(), st.integers(0, 2**31))
def test_starts_lie_inside(lengths: list[int], last_start: bool, seed: int) -> None:
    starts = draw_starts(np.random.default_rng(seed), np.array(lengths, int), 50, last_start=last_start)
    assert starts.shape == (len(lengths),)
    assert (starts >= 0).all()
    assert (starts + 50 <= np.array(lengths)).all()


def test_golden_mean() -> None:
    record = ARRAYS["agg/record_of_chunk"]
    present = np.unique(record)
    means = mean_by_record(ARRAYS["agg/preds"], record, len(LENGTHS))
    np.testing.assert_array_equal(means[present], ARRAYS["agg/preds_mean"])
    np.testing.assert_array_equal(
        mean_by_record(ARRAYS["agg/targets"], record, len(LENGTHS))[present], ARRAYS["agg/targets_out"]
    )
    absent = np.setdiff1d(np.arange(len(LENGTHS)), present)
    assert len(absent) == 1
    assert np.isnan(means[absent]).all()


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**31))
def test_mean_by_record(windows: int, records: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, record = rng.random((windows, 3)), rng.integers(0, records, windows)
    means = mean_by_record(values, record, records)
    for i in range(records):
        if (record == i).any():
            np.testing.assert_allclose(means[i], values[record == i].mean(axis=0), rtol=1e-12)
        else:
            assert np.isnan(means[i]).all()


def test_window_samples() -> None:
    assert [window_samples(2.4, 500), window_samples(2.5, 257), window_samples(10, 400.0)] == [1200, 642, 4000]
    for seconds, rate in [(0, 500), (-1, 500), (0.001, 500), (float("inf"), 500)]:
        with pytest.raises(UserError, match=f"window of {seconds} s"):
            window_samples(seconds, rate)


def test_short_recording() -> None:
    with pytest.raises(UserError, match="recording of 99 samples"):
        draw_starts(np.random.default_rng(0), np.array([200, 99]), 100)
    record, start = evaluation_windows(np.array([99, 100, 99]), 100)
    assert (record.tolist(), start.tolist()) == ([1], [0])
