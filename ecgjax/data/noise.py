"""Disturbances of a recording, as pure functions of a key and of time since the recording's start.

Each is made at nine electrodes and taken through the leads' definitions, so that the six limb leads stay consistent,
as what a real electrode picks up is. A record's noise is a function of time: models with other windows and sampling
rates read other samples of one and the same wave, scaled to their own window.

Signal-to-noise ratio: in each of the leads I, II, V1-V6 and in each window, the variance of the clean signal over the
mean square of the noise, 10 log10, dB. III, aVR, aVL, aVF are then computed from I and II, as a recorder does, and have
the ratio that follows. A lead without variance stays as it is.

Baseline wander and hum are sums of sines. Electrode motion is a model of our own: abrupt stretches of the skin, about
one per second and electrode, that rise within 20 to 60 ms, decay within 0.15 to 0.5 s and have heavy-tailed
amplitudes; it shares band and look with what is known as electrode motion, but is no recording such as MIT-BIH NSTDB's.
"""

from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ecgjax.data.electrode_swaps import independent_from_electrodes
from ecgjax.data.lead_sets import INDEPENDENT, limb_coefficients
from ecgjax.data.leads import CANONICAL

MAINS_HARMONIC = 3, 0.2
"""The harmonic beside the fundamental, and its amplitude."""

_WANDER_HZ = (0.05, 0.5)
_WANDER_SINES = 4
_MOTION_SECONDS = 2.0  # after which a stretch is forgotten: four of the longest time constants
_COLUMNS = np.array([CANONICAL.index(lead) for lead in INDEPENDENT])
_TO_LEADS = independent_from_electrodes()
_TO_TWELVE = limb_coefficients()
_EXACT = jax.lax.Precision.HIGHEST


def baseline_wander(key: Array, time: Array) -> Array:
    """Slow drift, as of breathing and sweat: four sines of 0.05 to 0.5 Hz, weaker the faster they are.

    Args:
        key: of the record.
        time: (samples,) seconds since its start.

    Returns:
        (samples, 8), leads I, II, V1-V6, of no particular scale.
    """
    drawn = uniform(key, _WANDER_SINES * (1 + 2 * 9))
    low, high = _WANDER_HZ
    frequency = low + (high - low) * drawn[:_WANDER_SINES]
    weights = _normal(drawn[_WANDER_SINES:]).reshape(2, _WANDER_SINES, 9) / jnp.sqrt(frequency / low)[None, :, None]
    angle = 2 * jnp.pi * frequency[None, :] * time[:, None]
    electrodes = _product(jnp.sin(angle), weights[0]) + _product(jnp.cos(angle), weights[1])
    return _product(electrodes, jnp.asarray(_TO_LEADS, jnp.float32))


def hum(key: Array, time: Array, mains: float, nyquist: float) -> tuple[Array, Array]:
    """Power-line interference: the fundamental and its third harmonic, with a phase for each electrode.

    What lies at or above `nyquist` is left out, as the resampling filter would; see `hum_frequencies`.

    Args:
        key: of the record.
        time: (samples,) seconds.
        mains: 50 or 60 Hz.
        nyquist: half of the lower of the data's and the model's sampling rate, Hz.

    Returns:
        (samples, 8), and (8,) its mean square before anything was left out.
    """
    harmonic, amplitude = MAINS_HARMONIC
    weights = _normal(uniform(key, 2 * 2 * 9)).reshape(2, 2, 9) * jnp.array([1.0, amplitude])[None, :, None]
    leads = jnp.einsum("pfe,el->pfl", weights, jnp.asarray(_TO_LEADS, jnp.float32), precision=_EXACT)
    wave = jnp.zeros((*time.shape, 8))
    for place, frequency in enumerate((mains, harmonic * mains)):
        if frequency < nyquist:
            angle = 2 * jnp.pi * frequency * time[:, None]
            wave += jnp.sin(angle) * leads[0, place][None] + jnp.cos(angle) * leads[1, place][None]
    return wave, (leads**2).sum((0, 1)) / 2


def hum_frequencies(mains: float, nyquist: float) -> list[float]:
    """What of the hum a model can see, Hz; with none, "powerline" changes nothing."""
    return [frequency for frequency in (mains, MAINS_HARMONIC[0] * mains) if frequency < nyquist]


def electrode_motion(key: Array, time: Array, seconds: float) -> Array:
    """Abrupt stretches of the skin under the electrodes, see above.

    Args:
        key: of the record.
        time: (samples,) seconds, ascending.
        seconds: what `time` spans at most.

    Returns:
        (samples, 8) of no particular scale.
    """
    # One stretch in each whole second of the recording: which second it is, not where a window begins, decides.
    cells = ceil(seconds) + int(_MOTION_SECONDS) + 2
    second = jnp.floor(time[0] - _MOTION_SECONDS) + jnp.arange(cells)
    drawn = jax.vmap(lambda second: uniform(jax.random.fold_in(key, second), 4 * 9))(second.astype(jnp.int32))

    def add(total: Array, cell: tuple[Array, Array]) -> tuple[Array, None]:
        second, (size, place, rising, decaying) = cell[0], cell[1].reshape(4, 9)
        amplitude = jnp.sign(size - 0.5) * -jnp.log1p(-jnp.abs(2 * size - 1))  # Laplace's distribution
        begin, rise, decay = second + place, 0.02 + 0.04 * rising, 0.15 + 0.35 * decaying
        since = jnp.maximum(time[:, None] - begin[None], 0.0)
        shape = (1 - jnp.exp(-since / rise[None])) * jnp.exp(-since / decay[None])
        return total + amplitude[None] * jnp.where(since < _MOTION_SECONDS, shape, 0.0), None

    electrodes, _ = jax.lax.scan(add, jnp.zeros((*time.shape, 9)), (second, drawn))
    return _product(electrodes, jnp.asarray(_TO_LEADS, jnp.float32))


def scaled(clean: Array, wave: Array, snr: Array | float, power: Array | None = None) -> Array:
    """The noise of twelve leads that a clean recording has at a signal-to-noise ratio.

    Args:
        clean: (samples, 12).
        wave: (samples, 8) noise of the leads I, II, V1-V6, of any scale.
        snr: dB.
        power: (8,) mean square of the wave; None: of its samples.

    Returns:
        (samples, 12), to be added.
    """
    signal = clean[:, _COLUMNS].var(axis=0)
    power = jnp.mean(wave**2, axis=0) if power is None else power
    wanted = signal / 10.0 ** (jnp.asarray(snr, jnp.float32) / 10)
    gain = jnp.where(power > 0, jnp.sqrt(wanted / jnp.where(power > 0, power, 1.0)), 0.0)
    return _product(wave * gain[None], jnp.asarray(_TO_TWELVE, jnp.float32))


def gap(key: Array, samples: int, share: Array | float) -> Array:
    """Where all leads are lost: one stretch of a share of the samples, anywhere; (samples,) bool, True where lost."""
    length = jnp.round(jnp.asarray(share, jnp.float32) * samples)
    begin = jnp.floor(uniform(key, 1)[0] * (samples - length + 1))
    place = jnp.arange(samples, dtype=jnp.float32)
    return (place >= begin) & (place < begin + length)


def uniform(key: Array, number: int) -> Array:
    """Numbers between 0 and 1, both left out.

    XLA would else draw them again for every sample that they are multiplied into: the barrier keeps the compilation of
    a kind of noise at a second or two.
    """
    return jax.lax.optimization_barrier(jax.random.uniform(key, (number,), minval=1e-7, maxval=1 - 1e-7))


def _normal(uniform: Array) -> Array:
    return jax.scipy.special.ndtri(uniform)


def _product(a: Any, b: Any) -> Array:
    return jnp.matmul(a, b, precision=_EXACT)
