"""Gradients of slow float64 definitions, for the tests of objectives."""

from collections.abc import Callable

import numpy as np


def finite_differences(
    function: Callable[[np.ndarray], float], x: np.ndarray, entries: int = 40, step: float = 1e-5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of a scalar function at some entries of x, or at all if these are fewer.

    Returns:
        Flat indices of the entries, and the differences, float64.
    """
    x = np.array(x, np.float64)
    chosen = np.random.default_rng(seed).permutation(x.size)[:entries]
    slopes = np.empty(len(chosen))
    for i, place in enumerate(chosen):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved.reshape(-1)[place] += sign * step
            values.append(function(moved))
        slopes[i] = (values[0] - values[1]) / (2 * step)
    return chosen, slopes


def assert_gradient(found, function: Callable[[np.ndarray], float], x: np.ndarray, tolerance: float = 2e-5, **options):
    """The float32 gradient `found` equals finite differences, relative to the largest of these."""
    chosen, expected = finite_differences(function, x, **options)
    assert np.abs(expected).max() > 0
    found = np.asarray(found, np.float64).reshape(-1)[chosen]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
