"""Repair of gaps and outliers as the benchmark does it for MIMIC-IV-ECG and HEEDB (datasets.md, section 1.2)."""

import numpy as np


def repair(signal: np.ndarray, clip: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Fills gaps by straight lines along time, then clips.

    The fill runs forward only: a gap at the end repeats the last value, a gap at the start and a lead without any value
    stay NaN. The lines are drawn before clipping, so an outlier beside a gap bends them. This is the default of
    pandas' `interpolate()`.

    Args:
        signal: (samples, leads) float32, mV, NaN where a value is missing. It is not changed.
        clip: mV; the result lies within +-clip.

    Returns:
        The repaired signal (samples, leads) float32, and the number of missing values per lead before the repair
        (leads,) int64.
    """
    missing = np.isnan(signal)
    counts = missing.sum(axis=0)
    repaired = np.array(signal, np.float32)
    time = np.arange(len(signal))
    for lead in np.flatnonzero((counts > 0) & (counts < len(signal))):
        known = np.flatnonzero(~missing[:, lead])
        gaps = np.flatnonzero(missing[:, lead])
        gaps = gaps[gaps > known[0]]
        repaired[gaps, lead] = np.interp(time[gaps], known, signal[known, lead])
    return np.clip(repaired, -clip, clip, out=repaired), counts
