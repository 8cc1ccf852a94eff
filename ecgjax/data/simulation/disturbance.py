"""What electrodes pick up beside the heart. Made per electrode, so that the leads stay consistent with each other."""

import numpy as np

# Leads I, II, V1-V6 from the electrodes RA, LA, LL, V1-V6; chest leads are against Wilson's central terminal.
_LEADS_FROM_ELECTRODES = np.zeros((8, 9))
_LEADS_FROM_ELECTRODES[0, :2] = -1.0, 1.0
_LEADS_FROM_ELECTRODES[1, [0, 2]] = -1.0, 1.0
_LEADS_FROM_ELECTRODES[2:, :3] = -1.0 / 3.0
_LEADS_FROM_ELECTRODES[2:, 3:] = np.eye(6)


def disturbance(
    rng: np.random.Generator,
    samples: int,
    sampling_rate: float,
    *,
    muscle: float,
    mains: float,
    wander: float,
    breathing: float,
) -> np.ndarray:
    """Disturbance of leads I, II, V1-V6.

    Args:
        rng: source of randomness.
        samples: length.
        sampling_rate: Hz.
        muscle: root mean square of muscle noise at an electrode (mV); it comes in bursts.
        mains: amplitude of power-line hum at an electrode (mV).
        wander: amplitude of slow drift at an electrode (mV).
        breathing: breaths per second; part of the drift follows them.

    Returns:
        (samples, 8) mV.
    """
    time = np.arange(samples)[:, None] / sampling_rate
    slow = np.array([breathing, *rng.uniform(0.04, 0.5, 3)])
    weights = rng.normal(0.0, 0.5 * wander, (8, 9)) / np.sqrt(np.tile(slow / slow.min(), 2))[:, None]
    electrodes = _waves(time, slow) @ weights

    hum = rng.choice([50.0, 60.0]) + rng.normal(0.0, 0.02)
    overtones = np.array([1.0, 0.12, 1.0, 0.12])[:, None]
    electrodes += _waves(time, np.array([hum, 3.0 * hum])) @ (rng.normal(0.0, 0.7 * mains, (4, 9)) * overtones)

    spectrum = np.fft.rfft(rng.standard_normal((samples, 9)), axis=0)
    frequency = np.fft.rfftfreq(samples, 1.0 / sampling_rate)
    band = 1.0 / np.sqrt((1.0 + (20.0 / np.maximum(frequency, 1e-3)) ** 4) * (1.0 + (frequency / 120.0) ** 8))
    noise = np.fft.irfft(spectrum * band[:, None], samples, axis=0)
    bursts = 1.0 + 0.8 * _waves(time, rng.uniform(0.05, 0.4, 2)) @ rng.normal(0.0, 0.5, (4, 9))
    electrodes += muscle * noise / np.sqrt(np.mean(band**2)) * np.abs(bursts) * rng.uniform(0.5, 1.4, 9)
    return electrodes @ _LEADS_FROM_ELECTRODES.T


def _waves(time: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    angle = 2.0 * np.pi * frequencies * time
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
