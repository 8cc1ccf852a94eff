"""Slow, obvious versions of the metrics, and random tables with ties, unknown targets and degenerate classes."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def brute_force_auroc(target, score, weight=None):
    """Share of (positive, negative) pairs in the right order, ties half, by comparing every pair."""
    weight = np.ones(len(target)) if weight is None else weight.astype(float)
    positive, negative = target == 1, target == 0
    pair_weight = weight[positive][:, None] * weight[negative][None]
    difference = score[positive][:, None].astype(float) - score[negative][None]
    total = pair_weight.sum()
    return ((difference > 0) + (difference == 0) / 2 * 1.0).ravel() @ pair_weight.ravel() / total if total else np.nan


@st.composite
def tables(draw, max_records=24, max_classes=4):
    """(targets, scores): few score levels, so that ties abound; NaN targets; classes of one kind only."""
    shape = draw(st.tuples(st.integers(1, max_records), st.integers(1, max_classes)))
    targets = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.0, 1.0, np.nan])))
    levels = draw(st.sampled_from([2, 5, 1000]))
    scores = draw(hnp.arrays(np.int16, shape, elements=st.integers(-levels, levels)))
    return targets, (scores / levels).astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))
