"""k-means against scikit-learn from the same start, and against its own definition."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning

from ecgjax.errors import UserError
from ecgjax.pretraining import k_means


def blobs(rng: np.random.Generator, rows: int, width: int, groups: int, offset: float = 0.0) -> np.ndarray:
    centres = rng.normal(size=(groups, width)) * 2
    return (centres[rng.integers(groups, size=rows)] + rng.normal(size=(rows, width)) + offset).astype(np.float32)


def sklearn(x: np.ndarray, centres: np.ndarray, iterations: int = 300, tolerance: float = 1e-4) -> KMeans:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(
            len(centres), init=np.float64(centres), n_init=1, max_iter=iterations, tol=tolerance, algorithm="lloyd"
        ).fit(np.float64(x))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_the_clusters_of_scikit_learn(offset):
    x = blobs(np.random.default_rng(0), 1000, 7, 9, offset)
    centres = np.asarray(k_means.seed(jax.random.key(0), x, 12))
    found = k_means.lloyd(x, centres, tolerance=0.0, block=128)
    expected = sklearn(x, centres, tolerance=0)
    np.testing.assert_allclose(found.centres, expected.cluster_centers_, rtol=1e-6, atol=1e-5)
    labels, distances = k_means.assign(x, found.centres, block=128)
    np.testing.assert_array_equal(labels, expected.labels_)
    np.testing.assert_allclose(found.inertia, expected.inertia_, rtol=1e-4)
    np.testing.assert_allclose(distances.sum(), found.inertia, rtol=1e-6)
    # Not converged, and stopped by the tolerance.
    for iterations, tolerance in ((3, 0.0), (300, 0.01)):
        found = k_means.lloyd(x, centres, iterations, tolerance, block=128)
        expected = sklearn(x, centres, iterations, tolerance)
        np.testing.assert_allclose(found.centres, expected.cluster_centers_, rtol=1e-6, atol=1e-5)
        assert found.iterations == expected.n_iter_


def test_empty_clusters_are_filled_as_scikit_learn_does():
    x = blobs(np.random.default_rng(1), 1000, 7, 5)
    centres = x[:12].copy()
    centres[[2, 5, 6]] = 100 * np.eye(7)[:3]
    for iterations in (1, 2, 300):
        found = k_means.lloyd(x, centres, iterations, 0.0, block=128)
        np.testing.assert_allclose(found.centres, sklearn(x, centres, iterations, 0).cluster_centers_, atol=1e-5)


def test_fewer_distinct_rows_than_clusters():
    x = np.repeat(np.float32([[0, 1], [5, 5]]), 4, 0)
    found = k_means.fit(jax.random.key(0), x, 4)
    assert np.isfinite(found.centres).all()
    assert found.inertia == 0


# One shape, one compilation.
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-3, 1.0, 50.0]))
def test_iterations_never_raise_the_inertia(seed, spread):
    rng = np.random.default_rng(seed)
    x = np.float32(np.round(rng.normal(size=(40, 2)) * spread))  # many equal rows, up to all
    key = jax.random.key(seed % 2**31)
    centres = k_means.seed(key, x, 6)
    assert all((x == centre).all(-1).any() for centre in np.asarray(centres))
    inertias = [float(k_means.lloyd(x, centres, i, 0.0, block=16).inertia) for i in (0, 1, 2, 100)]
    assert np.isfinite(inertias).all()
    assert (np.diff(inertias) <= 1e-5 * inertias[0]).all()

    found = k_means.lloyd(x, centres, 100, 0.0, block=16)
    labels, distances = (np.asarray(a) for a in k_means.assign(x, found.centres, block=16))
    brute = np.square(np.float64(x)[:, None] - np.float64(found.centres)[None]).sum(-1)
    np.testing.assert_allclose(distances, brute.min(-1), rtol=1e-5, atol=1e-8)
    for label in np.unique(labels):
        np.testing.assert_allclose(found.centres[label], x[labels == label].mean(0), rtol=1e-5, atol=1e-6)


def test_block_sizes_do_not_matter():
    x = blobs(np.random.default_rng(2), 333, 5, 4)
    centres = x[:6]
    results = [k_means.lloyd(x, centres, 5, 0.0, block) for block in (100, 5000)]
    for found in results[1:]:
        np.testing.assert_allclose(found.centres, results[0].centres, atol=1e-5)
        np.testing.assert_allclose(found.inertia, results[0].inertia, rtol=1e-6)


def test_seeds_are_drawn_by_squared_distance():
    x = np.float32([[0], [1], [3], [7]])
    seeds = jax.vmap(lambda key: k_means.seed(key, jnp.asarray(x), 2, trials=1))(
        jax.random.split(jax.random.key(3), 8000)
    )
    first, second = np.asarray(seeds)[..., 0].T
    for a in x[:, 0]:
        assert np.mean(first == a) == pytest.approx(0.25, abs=0.025)
        for b in x[:, 0]:
            expected = (a - b) ** 2 / np.square(x[:, 0] - a).sum()
            assert np.mean(second[first == a] == b) == pytest.approx(expected, abs=0.05)


def test_greedy_seeds_are_as_good_as_those_of_scikit_learn():
    x = blobs(np.random.default_rng(3), 500, 3, 30)

    def inertia(centres):
        return np.square(x[:, None] - centres[None]).sum(-1).min(-1).sum()

    found = [inertia(np.asarray(k_means.seed(key, x, 30))) for key in jax.random.split(jax.random.key(4), 30)]
    expected = [inertia(kmeans_plusplus(x, 30, random_state=i)[0]) for i in range(30)]
    single = [inertia(np.asarray(k_means.seed(key, x, 30, 1))) for key in jax.random.split(jax.random.key(5), 30)]
    error = np.sqrt((np.var(found) + np.var(expected)) / 30)
    assert abs(np.mean(found) - np.mean(expected)) < 4 * error
    assert np.mean(found) < np.mean(single) - 4 * error


def test_mini_batches_of_scikit_learn():
    rng = np.random.default_rng(5)
    batches = [blobs(np.random.default_rng(6), 100, 4, 6) for _ in range(1)] + [
        np.float32(rng.normal(size=(100, 4)) * 2) for _ in range(6)
    ]
    centres = batches[0][:8]
    expected = MiniBatchKMeans(8, init=np.float64(centres), n_init=1, reassignment_ratio=0.0)
    state = k_means.start(centres)
    for batch in batches:
        expected.partial_fit(np.float64(batch))
        state = k_means.update(state, batch, block=32)
        np.testing.assert_allclose(state.centres, expected.cluster_centers_, atol=1e-5)
        np.testing.assert_array_equal(state.counts, expected._counts)


def test_small_clusters_are_reassigned():
    x = np.float32(np.random.default_rng(7).normal(size=(10, 2)))
    state = k_means.MiniBatch(jnp.full((5, 2), 9.0), jnp.int32([1000, 3, 200, 0, 50]))
    moved = k_means.reassign(jax.random.key(0), state, x, 0.01)
    np.testing.assert_array_equal(moved.counts, [1000, 50, 200, 50, 50])
    np.testing.assert_array_equal(moved.centres[jnp.array([0, 2, 4])], 9.0)
    rows = [np.flatnonzero((x == np.asarray(moved.centres[i])).all(-1)) for i in (1, 3)]
    assert [len(row) for row in rows] == [1, 1]
    assert rows[0] != rows[1]
    # At most half of the batch, for the lowest counts.
    moved = k_means.reassign(jax.random.key(0), state, x[:2], 0.5)
    np.testing.assert_array_equal(moved.counts, [1000, 3, 200, 3, 50])


def test_refuses_fewer_rows_than_clusters():
    with pytest.raises(UserError, match="5 clusters of 3 rows"):
        k_means.fit(jax.random.key(0), jnp.zeros((3, 2)), 5)
