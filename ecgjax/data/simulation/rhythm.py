"""When the heart beats: sinus rhythm with its variability, atrial fibrillation, premature beats."""

from typing import NamedTuple

import numpy as np

REFRACTORY = 0.32
"""Shortest interval between two ventricular beats (s)."""


class Rhythm(NamedTuple):
    """Ventricular beats, from some before the recording to some after it.

    Attributes:
        times: onset of QRS, seconds from the first sample, ascending.
        ectopic: True for premature ventricular beats.
        sinus: when QRS of each sinus beat begins or would begin: P precedes these even where an ectopic beat hides it.
        mean_rr: of the underlying rhythm (s).
    """

    times: np.ndarray
    ectopic: np.ndarray
    sinus: np.ndarray
    mean_rr: float


def sinus(rng: np.random.Generator, rate: float, seconds: float, breathing: float) -> np.ndarray:
    """Beat times of sinus rhythm at `rate` per minute; breathing, 0.1 Hz (Mayer) waves and chance modulate RR."""
    mean = 60.0 / rate
    count = int((seconds + 5.0) / mean * 1.1) + 3
    at = np.arange(count) * mean
    # Variability falls with rate; healthy respiratory arrhythmia reaches 14 %, enough to be taken for something else.
    depth = min(rng.gamma(1.6, 0.024), 0.14) * min(mean / 0.8, 1.2) ** 1.5
    change = depth * np.sin(2 * np.pi * breathing * at + rng.uniform(0, 2 * np.pi))
    change += 0.6 * depth * np.sin(2 * np.pi * 0.1 * at + rng.uniform(0, 2 * np.pi)) + rng.normal(0.0, 0.006, count)
    return _place(rng, mean * (1.0 + change), mean, seconds)


def fibrillation(rng: np.random.Generator, rate: float, seconds: float) -> np.ndarray:
    """Beat times of conducted atrial fibrillation: independent intervals, spread by 10-26 %."""
    mean = 60.0 / rate
    count = int((seconds + 5.0) / mean * 1.4) + 8
    spread = rng.uniform(0.10, 0.26)
    rr = np.maximum(mean * np.exp(rng.normal(0.0, spread, count) - 0.5 * spread**2), REFRACTORY)
    return _place(rng, rr, mean, seconds)


def with_premature_beats(
    rng: np.random.Generator, beats: np.ndarray, seconds: float, coupling: float, count: int, mean_rr: float
) -> Rhythm:
    """Replaces up to `count` beats, no two neighbours, by earlier ectopic ones; the next beat comes when it would have.

    The sinus node is not reset: the two intervals round an ectopic beat add up to two normal ones (compensatory pause).
    """
    times, ectopic = beats.copy(), np.zeros(len(beats), bool)
    early = beats[:-1] + np.clip(coupling * np.diff(beats), REFRACTORY, 0.88 * np.diff(beats))
    for k in rng.permutation(np.flatnonzero((early > 0.3) & (early < seconds - 0.6)) + 1):
        if ectopic.sum() < count and not ectopic[max(k - 1, 0) : k + 2].any():
            times[k], ectopic[k] = early[k - 1], True
    return Rhythm(times, ectopic, beats, mean_rr)


def _place(rng: np.random.Generator, rr: np.ndarray, mean: float, seconds: float) -> np.ndarray:
    # The rate in the recording is the rate asked for: limits of rate are what some labels mean.
    times = np.concatenate([[0.0], np.cumsum(rr)])
    inside = max(round(seconds / mean), 1)
    times *= mean * (inside + 2) / times[inside + 2]
    times += rng.uniform(0.0, 1.0) * mean - 2.0 * mean
    return times[times < seconds + 1.5]
