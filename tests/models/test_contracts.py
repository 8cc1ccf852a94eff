"""Input contracts against scipy and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from ecgjax.errors import UserError
from ecgjax.models import contracts, registry
from ecgjax.models.encoder import CANONICAL_LEADS
from ecgjax.models.median_filter import median_filter
from tests.models.golden import relative

RNG = np.random.default_rng(0)


def recording(samples: int, batch: int = 2) -> np.ndarray:
    """mV with beats, hum, noise and a wandering baseline off zero."""
    t = np.arange(samples) / 500
    beats = np.exp(-0.5 * (((t % 0.8) - 0.4) / 0.02) ** 2)
    wander = np.cumsum(RNG.normal(0, 0.01, (batch, samples, 12)), 1)
    gains = RNG.normal(0, 1, (batch, 1, 12))
    hum = 0.1 * np.sin(2 * np.pi * 50 * t)[None, :, None]
    return (gains * beats[None, :, None] + wander + hum + RNG.normal(0, 0.02, wander.shape) + 1.5).astype(np.float32)


def founder(x: np.ndarray) -> np.ndarray:
    """The authors' preparation, step by step in float64."""
    y = x.astype(np.float64)
    y = signal.filtfilt(*signal.iirnotch(50, 30, fs=500), y, axis=1)
    y = signal.filtfilt(*signal.butter(4, [0.67, 40], "bandpass", fs=500), y, axis=1)
    y = y - np.stack([[signal.medfilt(lead, 201) for lead in record.T] for record in y]).transpose(0, 2, 1)
    return (y - y.mean((1, 2), keepdims=True)) / (y.std((1, 2), keepdims=True) + 1e-8)


prepared = jax.jit(contracts.prepare, static_argnums=(1, 2, 3))


def prepare(model: str, x: np.ndarray, **arguments: str) -> jax.Array:
    spec = registry.create(model, contract="authors", **arguments).spec
    return prepared(x, spec.leads, spec.steps, spec.sampling_rate)


def test_ecg_founder() -> None:
    x = recording(1250)
    x[0, 30:40, 3] = np.nan
    assert relative(prepare("ecg_founder", x), founder(np.nan_to_num(x))) < 2e-5


def test_ecg_founder_with_one_lead() -> None:
    x = recording(1250)
    assert relative(prepare("ecg_founder", x, leads="1"), founder(x[..., :1])) < 2e-5


def test_merl_resnet() -> None:
    x = recording(500)
    y = np.asarray(prepare("merl_resnet", x))
    swapped = x[..., [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]]
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    np.testing.assert_allclose(y, (swapped - low) / (high - low + 1e-8), atol=1e-6)
    assert y.min((1, 2)).tolist() == [0, 0]
    assert y.max() <= 1


def test_ecgfm_ked() -> None:
    spec = registry.create("ecgfm_ked", contract="authors").spec
    assert (spec.sampling_rate, spec.seconds) == (100.0, 10.0)
    x = recording(100)
    np.testing.assert_array_equal(prepare("ecgfm_ked", x)[..., 4], x[..., CANONICAL_LEADS.index("aVF")])


@pytest.mark.parametrize("model", ["ecg_founder", "ecgfm_ked", "merl_resnet", "net1d"])
def test_the_benchmark_feeds_millivolts(model: str) -> None:
    spec = registry.create(model).spec
    x = recording(300)
    y = contracts.prepare(jnp.asarray(x), spec.leads, spec.steps, spec.sampling_rate)
    np.testing.assert_array_equal(y, x)
    assert spec.contract == "benchmark"


def zero_phase(x: np.ndarray, b: np.ndarray, a: np.ndarray) -> jax.Array:
    return jax.jit(lambda x: contracts.zero_phase(x, b, a))(x)


@pytest.mark.parametrize(("samples", "fs"), [(300, 100.0), (1251, 500.0)])
def test_filters_are_filtfilt(samples: int, fs: float) -> None:
    x = recording(samples)
    b, a = signal.butter(2, [1.0, 30.0], "bandpass", fs=fs)
    assert relative(zero_phase(x, b, a), signal.filtfilt(b, a, x.astype(np.float64), axis=1)) < 1e-5
    b, a = signal.butter(3, 20.0, fs=fs)
    assert relative(zero_phase(x, b, a), signal.filtfilt(b, a, x.astype(np.float64), axis=1)) < 1e-5


def test_a_constant_goes_through_a_low_pass_and_not_through_a_band_pass() -> None:
    x = jnp.full((1, 400, 1), 3.0)
    np.testing.assert_allclose(contracts.zero_phase(x, *signal.butter(3, 20.0, fs=500)), x, rtol=1e-5)
    np.testing.assert_allclose(contracts.band_pass(x, 500.0, 0.67, 40.0, 4), 0, atol=1e-5)


def test_a_signal_too_short_for_its_filter_is_refused() -> None:
    with pytest.raises(UserError, match="27 samples; expected more than the 27"):
        contracts.band_pass(jnp.ones((1, 27, 12)), 500.0, 0.67, 40.0, 4)


@pytest.mark.filterwarnings("ignore:kernel_size exceeds volume extent")
@pytest.mark.parametrize(("samples", "width"), [(1, 1), (2, 3), (17, 5), (64, 65), (300, 201)])
def test_median_filter(samples: int, width: int) -> None:
    x = RNG.standard_normal((2, samples, 3)).astype(np.float32)
    x[1] = np.round(x[1])  # ties
    expected = np.stack([[signal.medfilt(lead, width) for lead in record.T] for record in x]).transpose(0, 2, 1)
    np.testing.assert_array_equal(jax.jit(median_filter, static_argnums=1)(x, width), expected)


def test_a_flat_record_stays_finite() -> None:
    x = np.zeros((2, 1250, 12), np.float32)
    for model in ("ecg_founder", "merl_resnet"):
        np.testing.assert_array_equal(prepare(model, x), 0)


@pytest.mark.parametrize("model", ["ecg_founder", "ecgfm_ked", "merl_resnet"])
def test_an_unknown_contract_or_window_is_refused(model: str) -> None:
    with pytest.raises(UserError, match=f"model {model}: contract is 'author'; expected 'benchmark' or 'authors'"):
        registry.create(model, contract="author")
    with pytest.raises(UserError, match=f"model {model}: seconds is 0; expected a number, at least one sample"):
        registry.create(model, seconds=0)
    with pytest.raises(UserError, match=f"model {model}: dtype is 'float16'"):
        registry.create(model, dtype="float16")
    assert registry.create(model, contract="authors", seconds=5.0).spec.seconds == 5.0
