"""Repair of gaps and outliers: the golden case, and pandas as an independent implementation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgjax.data.preparation.repair import repair

NAN = np.nan


def test_golden_case():
    signal = np.array([[NAN, NAN, 1, NAN, 2, NAN], [1, NAN, 5, NAN, -4, NAN]], np.float32).T
    before = signal.copy()
    repaired, counts = repair(signal, clip=3.0)
    np.testing.assert_array_equal(repaired.T, [[NAN, NAN, 1, 1.5, 2, 2], [1, 3, 3, 0.5, -3, -3]])
    np.testing.assert_array_equal(counts, [4, 3])
    assert repaired.dtype == np.float32
    np.testing.assert_array_equal(signal, before)


def test_without_gaps_only_clips():
    signal = np.array([[0.5, -7.0], [3.5, 2.0]], np.float32)
    repaired, counts = repair(signal)
    np.testing.assert_array_equal(repaired, [[0.5, -3.0], [3.0, 2.0]])
    np.testing.assert_array_equal(counts, [0, 0])


def test_a_lead_without_any_value_stays_so():
    signal = np.array([[NAN, 1.0], [NAN, NAN], [NAN, 2.0]], np.float32)
    repaired, counts = repair(signal)
    np.testing.assert_array_equal(repaired, [[NAN, 1.0], [NAN, 1.5], [NAN, 2.0]])
    np.testing.assert_array_equal(counts, [3, 1])


@pytest.mark.parametrize("samples", [0, 1])
def test_no_time_to_interpolate_over(samples):
    repaired, counts = repair(np.full((samples, 2), NAN, np.float32))
    assert repaired.shape == (samples, 2)
    np.testing.assert_array_equal(counts, [samples, samples])


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
        elements=st.one_of(st.just(NAN), st.floats(-8, 8, width=32)),
    ),
    st.floats(0.5, 5),
)
def test_equals_pandas(signal, clip):
    expected = pd.DataFrame(signal.astype(np.float64)).interpolate().clip(-clip, clip).to_numpy()
    repaired, counts = repair(signal, clip)
    np.testing.assert_allclose(repaired, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(counts, np.isnan(signal).sum(axis=0))
