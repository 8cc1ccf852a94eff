"""Regression targets are standardised on the training folds, one column at a time."""

import tracemalloc

import numpy as np

from ecgjax.data.preparation.regression import standardise


def test_by_definition() -> None:
    rng = np.random.default_rng(0)
    folds = np.repeat([0, 1, 2, 3], 25)
    targets = np.stack(
        [
            rng.integers(0, 2, 100).astype(float),
            1e6 + rng.normal(size=100),  # float32 keeps a sixteenth of this: the mean must be taken before rounding
            np.full(100, 3.5),
            np.where(folds < 2, np.nan, 7.0),
            np.where(rng.random(100) < 0.3, np.nan, rng.normal(50, 10, 100)),
        ],
        axis=1,
    )
    before = targets.copy()
    kinds = ("classification", *("regression",) * 4)
    sets, scales = standardise({"all": (("AF", "big", "constant", "unknown", "ef"), targets, kinds)}, folds)
    np.testing.assert_array_equal(targets, before)
    found, (mean, sd) = sets["all"][1], scales["all"]
    assert found.dtype == np.float32
    train = targets[:50]
    np.testing.assert_allclose(mean, [0, train[:, 1].mean(), 3.5, 0, np.nanmean(train[:, 4])])
    np.testing.assert_allclose(sd, [1, train[:, 1].std(), 1, 1, np.nanstd(train[:, 4])])
    np.testing.assert_array_equal(found, ((targets - mean) / sd).astype(np.float32))


def test_memory_is_that_of_the_result() -> None:
    # Of MIMIC-IV-ECG's shape, where a copy of everything in float64 is gigabytes.
    targets = np.zeros((20_000, 200), np.float32)
    targets[:, -2:] = np.random.default_rng(0).normal(size=(20_000, 2))
    kinds = ("classification",) * 198 + ("regression",) * 2
    names = tuple(map(str, range(200)))
    sets = {"joint": (names, targets, kinds), "codes": (names[:198], targets[:, :198], kinds[:198])}
    tracemalloc.start()
    try:
        found, _ = standardise(sets, np.arange(20_000) % 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * targets.nbytes
    assert np.shares_memory(found["codes"][1], targets), "nothing to standardise, nothing to copy"
