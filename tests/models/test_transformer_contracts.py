"""Input contracts of the transformers against the reference's arrays, scipy and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from ecgjax.errors import UserError
from ecgjax.models import contracts, registry
from ecgjax.models.ecg_jepa import LEADS
from ecgjax.models.encoder import CANONICAL_LEADS
from tests.conftest import load_golden
from tests.models.golden import relative

RNG = np.random.default_rng(0)


def recording(samples: int, batch: int = 2) -> np.ndarray:
    """mV with beats, noise and a wandering baseline off zero."""
    beats = np.exp(-0.5 * (((np.arange(samples) % 200) - 100) / 5) ** 2)
    wander = np.cumsum(RNG.normal(0, 0.01, (batch, samples, 12)), 1)
    gains = RNG.normal(0, 1, (batch, 1, 12))
    return (gains * beats[None, :, None] + wander + RNG.normal(0, 0.02, wander.shape) + 1.5).astype(np.float32)


def prepare(model: str, x, contract: str) -> np.ndarray:
    spec = registry.create(model, contract=contract).spec
    return np.asarray(jax.jit(lambda x: contracts.prepare(x, spec.leads, spec.steps, spec.sampling_rate))(x))


def test_hubert_ecg_as_in_the_benchmark() -> None:
    # Lead 7 is 0, lead 10 constant: both become -1 throughout.
    _, arrays = load_golden("hubert_ecg")
    found = prepare("hubert_ecg", arrays["preprocessing/input_100hz"].T[None], "benchmark")[0].T
    np.testing.assert_allclose(found, arrays["preprocessing/output_100hz"], atol=2e-6)
    np.testing.assert_array_equal(found[[7, 10]], -1)
    # A constant that was resampled bends at its ends, and is scaled up to the full range: alone here rounding shows.
    found = prepare("hubert_ecg", arrays["preprocessing/resampled_500_to_100hz"].T[None], "benchmark")[0].T
    np.testing.assert_allclose(found, arrays["preprocessing/output_from_500hz_benchmark"], atol=5e-6)


def test_hubert_ecg_as_its_authors_do() -> None:
    _, arrays = load_golden("hubert_ecg")
    x = arrays["preprocessing/input_500hz"].T[None]
    step = contracts.STEPS["FIR band-pass 0.05-47 Hz of 0.3 s"]
    np.testing.assert_allclose(step(x, 500.0)[0].T, arrays["preprocessing/filtered_500hz"], atol=1e-5)
    found = prepare("hubert_ecg", x, "authors")
    assert found.shape == (1, 500, 12)
    np.testing.assert_allclose(found[0].T.ravel(), arrays["preprocessing/upstream_flat_100hz"], atol=2e-5)


@pytest.mark.parametrize(("rate", "taps"), [(100.0, "fir_taps_100hz"), (500.0, "fir_taps_500hz")])
def test_taps_of_the_band_pass(rate: float, taps: str) -> None:
    # The middle of the two-pass impulse response is the energy of the taps.
    expected = load_golden("hubert_ecg")[1]["preprocessing/" + taps].astype(np.float64)
    x = np.zeros((1, 2001, 1), np.float32)
    x[0, 1000] = 1
    found = np.asarray(contracts.fir_band_pass(x, rate, 0.05, 47.0))[0, :, 0]
    n = len(expected)
    np.testing.assert_allclose(found[1000 - n + 1 : 1000 + n], np.convolve(expected, expected[::-1]), atol=1e-6)


def test_st_mem() -> None:
    x = recording(2250)
    y = x.astype(np.float64)
    y = signal.filtfilt(*signal.butter(5, 0.67, "highpass", fs=250), y, axis=1)
    y = signal.filtfilt(*signal.butter(5, 40, "lowpass", fs=250), y, axis=1)
    y = (y - y.mean((1, 2), keepdims=True)) / y.std((1, 2), keepdims=True)
    assert relative(prepare("st_mem", x, "authors"), y) < 2e-5
    assert registry.create("st_mem", contract="authors").samples == 2250


@pytest.mark.parametrize("samples", [5000, 5002])
def test_ecg_jepa_halves_the_rate_by_fourier_transform(samples: int) -> None:
    x = recording(samples)[..., :3]
    expected = signal.resample(x.astype(np.float64), samples // 2, axis=1)
    assert relative(contracts.halve_rate(x, 500.0), expected) < 1e-6
    with pytest.raises(UserError, match="5001 samples; expected an even number"):
        contracts.halve_rate(jnp.zeros((1, 5001, 8)), 500.0)


def test_ecg_jepa_takes_eight_leads() -> None:
    x = recording(100)
    rows = [CANONICAL_LEADS.index(lead) for lead in LEADS]
    assert rows == [0, 1, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(prepare("ecg_jepa", x, "benchmark"), x[..., rows])
    assert prepare("ecg_jepa", x, "authors").shape == (2, 50, 8)


def test_ecg_fm_standardises_leads_and_constant_ones_become_0() -> None:
    x = recording(1000)
    x[0, :, 5] = 0.7
    found = prepare("ecg_fm", x, "authors")
    np.testing.assert_array_equal(found[0, :, 5], 0)
    others = np.delete(found.reshape(2, 1000, 12), 5, 2)
    np.testing.assert_allclose(others.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(others.std(1), 1, atol=1e-5)


@pytest.mark.parametrize("model", ["ecg_fm", "merl_vit", "st_mem"])
def test_the_benchmark_feeds_millivolts(model: str) -> None:
    x = recording(300)
    x[0, 3, 4] = np.nan
    np.testing.assert_array_equal(prepare(model, x, "benchmark"), np.nan_to_num(x))


def test_a_flat_record_stays_finite() -> None:
    x = np.zeros((1, 600, 12), np.float32)
    for model in ("ecg_fm", "ecg_jepa", "hubert_ecg", "merl_vit", "st_mem"):
        assert np.isfinite(prepare(model, x, "authors")).all()
