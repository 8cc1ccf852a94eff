"""Descriptors against scipy's statistics and Kaldi's MFCC."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ecgjax.errors import UserError
from ecgjax.pretraining import descriptors

statistics = jax.jit(descriptors.statistics)


def by_hand(x: np.ndarray) -> list[float]:
    x = np.float64(x)
    spectrum = np.abs(np.fft.fft(x)) ** 2 / len(x)
    rms = np.sqrt(np.mean(x**2))
    shape = [np.abs(x).max() / rms, *([stats.skew(x), stats.kurtosis(x)] if np.ptp(x) else [0, 0])]
    return [
        *(x.min(), x.max(), x.mean(), rms, x.var(), x.std(), rms**2, np.abs(x).max(), np.ptp(x), *shape),
        *(spectrum.max(), spectrum.sum(), spectrum.mean(), spectrum.var()),
    ]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 30.0]), st.sampled_from([0.0, 1.0]))
def test_statistics(seed, scale, offset):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(2, 3, 64)) ** 3 * scale + offset * scale).astype(np.float32)
    x[0, 0] = scale
    found = statistics(x)
    assert found.shape == (2, 3, len(descriptors.STATISTICS))
    for place in np.ndindex(2, 3):
        expected = by_hand(x[place])
        np.testing.assert_allclose(found[place], expected, rtol=2e-4, atol=2e-6 * scale)
    # Turned upside down only these change, and how is known.
    other = dict(zip(descriptors.STATISTICS, np.moveaxis(statistics(-x), -1, 0), strict=True))
    same = dict(zip(descriptors.STATISTICS, np.moveaxis(found, -1, 0), strict=True))
    np.testing.assert_allclose(other["min"], -same["max"])
    for name in ("mean", "skewness"):
        np.testing.assert_allclose(other[name], -same[name], rtol=1e-4, atol=1e-5)
    for name in ("variance", "peak", "crest", "kurtosis", "spectrum_max", "spectrum_variance"):
        np.testing.assert_allclose(other[name], same[name], rtol=1e-4, atol=1e-5)


def test_odd_lengths_and_silence():
    x = np.random.default_rng(0).normal(size=(1, 25)).astype(np.float32)
    np.testing.assert_allclose(statistics(x)[0], by_hand(x[0]), rtol=2e-4)
    assert not np.any(statistics(np.zeros((1, 25), np.float32)))


# kaldi-native-fbank 1.23: 100 Hz, frame of 640 ms, no dither, 23 bands from 20 Hz, 13 coefficients, no energy.
KALDI = [
    [-57.16147, 53.323757, 32.55548, -0.3971845, -4.848576, 5.7760143, 5.105705, -0.5582214, 0.7434435, 1.5475854,
     -2.725275, -3.4214659, 1.1548444],
    [-42.12297, -22.351616, -74.53132, 41.795452, 22.796537, -40.637405, -8.26648, 17.437616, -4.0354176, -7.1403966,
     -1.6667185, 3.6517324, 3.7979522],
    [3.567842, 7.4789076, -15.969012, 1.9328309, -8.225222, 6.147161, -6.4304423, -15.466333, -18.05669, 18.787777,
     16.50672, -6.203661, 10.500303],
    [-76.45701, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
]  # fmt: skip


def test_mfcc_of_kaldi():
    n = np.arange(64)
    beat = 1.2 * np.exp(-(((n - 30) / 2.0) ** 2) / 2) - 0.2 * np.exp(-(((n - 36) / 2.0) ** 2) / 2)
    x = [
        beat + 0.1 * np.sin(2 * np.pi * n / 50),
        0.3 * np.sin(2 * np.pi * 11 * n / 100) + 0.05 * np.cos(2 * np.pi * 37 * n / 100),
        (n * n * 7 % 64) / 64 - 0.5,
        np.full(64, 0.25),
    ]
    found = jax.jit(lambda x: descriptors.mfcc(x, 100.0))(np.float32(x))
    np.testing.assert_allclose(found, KALDI, rtol=0, atol=2e-2)
    np.testing.assert_allclose(found[2:], KALDI[2:], rtol=0, atol=1e-3)


def test_pieces_of_hubert_ecg():
    x = np.random.default_rng(1).normal(size=(2, 500, 12)).astype(np.float32)
    found = np.asarray(descriptors.pieces(jnp.asarray(x)))
    assert found.shape == (2, 93, 64)
    for b in range(2):
        joined = np.concatenate([x[b, 2:498, lead] for lead in range(12)])
        np.testing.assert_array_equal(found[b].ravel(), joined)


def test_refusals():
    with pytest.raises(UserError, match="12 leads of 501 - 4 samples in pieces of 64; expected a whole"):
        descriptors.pieces(jnp.zeros((1, 501, 12)))
    with pytest.raises(UserError, match="MFCC at 40 Hz; expected more than 40"):
        descriptors.mfcc(jnp.zeros((1, 64)), 40.0)
