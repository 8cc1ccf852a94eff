import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecgjax
from ecgjax.errors import UserError
from ecgjax.evaluation import cka
from tests.conftest import load_golden


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "minibatch_16", "minibatch_32"])
def test_golden(estimator: str) -> None:
    manifest, golden = load_golden("cka")
    features = [golden[f"features/{i}"] for i in range(5)]
    name, _, batch = estimator.partition("_")
    found = [[ecgjax.cka.linear(x, y, name, int(batch) if batch else None) for y in features] for x in features]
    np.testing.assert_allclose(found, golden[f"cka/{estimator}"], rtol=0, atol=manifest["tolerance"])
    wide = cka.matrix([x.astype(np.float32) for x in features], None, name, int(batch) if batch else None)
    np.testing.assert_allclose(wide, found, rtol=0, atol=1e-5)


def by_gram_matrices(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC_1 as Song et al. 2012 write it, equation 5."""

    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        n, ones = len(x), np.ones(len(x))
        k, m = x @ x.T, y @ y.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        cross = ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)
        return float((np.trace(k @ m) + cross) / (n * (n - 3)))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


WIDTHS = st.sampled_from((1, 9, 40))  # few, since every shape is compiled


@settings(deadline=None, max_examples=15)
@given(st.sampled_from((8, 30)), WIDTHS, WIDTHS, st.integers(0, 2**32 - 1))
def test_definitions(records: int, width: int, other: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(records, width))
    y = rng.normal(size=(records, other)) + x[:, :1]
    assert ecgjax.cka.linear(x, y, "unbiased") == pytest.approx(by_gram_matrices(x, y), abs=1e-9)
    centred, other_centred = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(other_centred.T @ centred) ** 2
    expected /= np.linalg.norm(centred.T @ centred) * np.linalg.norm(other_centred.T @ other_centred)
    assert ecgjax.cka.linear(x, y) == pytest.approx(expected, abs=1e-9)
    # Rotations, a scale and a shift change nothing; the whole set is one batch.
    turned = 3.0 * x @ np.linalg.qr(rng.normal(size=(width, width)))[0] + 1000.0
    for estimator in ("biased", "unbiased"):
        assert ecgjax.cka.linear(turned, y, estimator) == pytest.approx(ecgjax.cka.linear(x, y, estimator), abs=1e-6)
    one_batch = ecgjax.cka.linear(x, y, "minibatch", records)
    assert one_batch == pytest.approx(ecgjax.cka.linear(x, y, "unbiased"), abs=1e-9)


def test_unrelated_representations() -> None:
    rng = np.random.default_rng(1)
    values = [
        (ecgjax.cka.linear(x, y, "unbiased"), ecgjax.cka.linear(x, y))
        for x, y in (rng.normal(size=(2, 40, 60)) for _ in range(30))
    ]
    unbiased, biased = np.mean(values, axis=0)
    assert abs(unbiased) < 0.02
    assert biased > 0.5


def test_a_constant_layer_has_no_alignment() -> None:
    found = cka.matrix([np.ones((10, 3), np.float32), np.eye(10, dtype=np.float32)], None, "biased")
    assert np.isnan(found[0]).all()
    assert found[1, 1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((5, 2)), np.zeros((6, 2))), "5 and 6 records"),
        ((np.zeros(5), np.zeros((5, 2))), r"shape \(5,\); expected \(records, features\)"),
        ((np.zeros((3, 2)), np.zeros((3, 2)), "unbiased"), "CKA of 3 records; expected at least 4"),
        ((np.full((5, 2), np.nan), np.zeros((5, 2))), "NaN or infinite"),
        ((np.zeros((5, 2)), np.zeros((5, 2)), "kernel"), "kernel"),
        ((np.zeros((5, 2)), np.zeros((5, 2)), "minibatch"), "batch is None for the minibatch estimator"),
        ((np.zeros((5, 2)), np.zeros((5, 2)), "biased", 4), "batch is 4 for the biased estimator"),
        ((np.zeros((5, 2)), np.zeros((5, 2)), "minibatch", 6), "batch of 6 out of 5"),
    ],
)
def test_bad_input(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ecgjax.cka.linear(*arguments)
