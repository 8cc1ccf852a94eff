"""Disturbances: their ratio, their band, and that a record's is one function of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.data import noise
from ecgjax.data.lead_sets import INDEPENDENT
from ecgjax.data.leads import CANONICAL

RATE = 250.0
TIME = jnp.arange(2500) / RATE
COLUMNS = [CANONICAL.index(lead) for lead in INDEPENDENT]


def _wave(kind, key=0, time=TIME, nyquist=RATE / 2):
    key = jax.random.key(key)
    if kind == "powerline":
        return np.asarray(noise.hum(key, time, 50.0, nyquist)[0])
    if kind == "baseline_wander":
        return np.asarray(noise.baseline_wander(key, time))
    return np.asarray(noise.electrode_motion(key, time, 10.0))


KINDS = ("baseline_wander", "powerline", "electrode_motion")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("snr", [-6.0, 0.0, 24.0])
def test_ratio_is_that_of_every_independent_lead(kind, snr):
    clean = np.random.default_rng(0).standard_normal((2500, 12)).astype(np.float32) * np.linspace(0.1, 2, 12) + 3
    added = np.asarray(noise.scaled(jnp.asarray(clean, jnp.float32), jnp.asarray(_wave(kind)), snr))
    for lead in COLUMNS:
        found = 10 * np.log10(clean[:, lead].var() / np.mean(added[:, lead] ** 2))
        assert found == pytest.approx(snr, abs=0.01)
    one, two, three, avr, avl, avf = added[:, :6].T
    np.testing.assert_allclose(three, two - one, atol=1e-5)
    np.testing.assert_allclose((avr, avl, avf), (-(one + two) / 2, one - two / 2, two - one / 2), atol=1e-5)


def test_a_lead_without_signal_gets_no_noise():
    clean = np.random.default_rng(0).standard_normal((2500, 12)).astype(np.float32)
    clean[:, [0, 7]] = 0.25
    added = np.asarray(noise.scaled(jnp.asarray(clean), jnp.asarray(_wave("baseline_wander")), 0.0))
    assert not added[:, [0, 7]].any()
    assert added[:, 8].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_has_one_wave_whatever_the_window_and_rate(kind):
    whole = _wave(kind)
    later = _wave(kind, time=2.0 + jnp.arange(500) / RATE)
    np.testing.assert_allclose(later, whole[500:1000], atol=2e-3 * np.abs(whole).max())
    slower = _wave(kind, time=jnp.arange(1250) / 125.0)
    np.testing.assert_allclose(slower, whole[::2], atol=2e-3 * np.abs(whole).max())
    assert np.abs(_wave(kind, key=1) - whole).max() > 0.1


def test_bands():
    def share(kind, low, high):
        spectrum = np.abs(np.fft.rfft(_wave(kind) - _wave(kind).mean(0), axis=0)) ** 2
        frequency = np.fft.rfftfreq(len(TIME), 1 / RATE)
        return spectrum[(frequency >= low) & (frequency <= high)].sum() / spectrum.sum()

    assert share("baseline_wander", 0, 1) > 0.98
    assert share("powerline", 49.9, 50.1) > 0.99  # its harmonic, 150 Hz, is beyond 125 Hz
    assert share("electrode_motion", 0, 10) > 0.95
    assert share("electrode_motion", 1, 10) > 0.2


def test_hum_that_the_model_cannot_see_is_left_out():
    assert not _wave("powerline", nyquist=50.0).any()
    assert noise.hum_frequencies(50.0, 50.0) == []
    assert noise.hum_frequencies(60.0, 120.0) == [60.0]
    assert noise.hum_frequencies(60.0, 250.0) == [60.0, 180.0]
    # Of what is left the amplitude is that which it has beside the rest.
    wave, power = noise.hum(jax.random.key(0), TIME, 50.0, 125.0)
    time = jnp.arange(10_000) / 1000.0
    np.testing.assert_allclose(
        np.mean(noise.hum(jax.random.key(0), time, 50.0, 500.0)[0] ** 2, axis=0), power, rtol=0.01
    )
    kept = np.mean(np.asarray(wave) ** 2, axis=0)
    assert (kept < power).all()
    assert (kept > 0.5 * np.asarray(power)).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_gap_is_one_stretch_of_its_share(share):
    for key in range(5):
        lost = np.asarray(noise.gap(jax.random.key(key), 600, share))
        assert lost.sum() == round(share * 600)
        assert np.count_nonzero(np.diff(lost.astype(int))) <= 2
