"""A recording at another sampling rate."""

import dataclasses

import numpy as np

from ecgjax.data.recording import Recording
from ecgjax.data.resampling_host import resample_signal


def resampled(recording: Recording, rate: float) -> Recording:
    """The recording at another rate.

    Gaps are bridged by straight lines before and cut out again after, so that a missing sample costs its own place
    instead of everything under the filter.
    """
    if recording.sampling_rate == rate:
        return recording
    signal, ratio = recording.signal.copy(), recording.sampling_rate / rate
    gaps = np.isnan(signal)
    places = np.arange(len(signal))
    for lead in np.flatnonzero(gaps.any(axis=0) & ~gaps.all(axis=0)):
        gap = gaps[:, lead]
        signal[gap, lead] = np.interp(places[gap], places[~gap], signal[~gap, lead])
    out = resample_signal(signal, recording.sampling_rate, rate)
    if gaps.any():
        centre, half = np.arange(len(out)) * ratio, max(ratio, 1.0) / 2
        first = np.clip(np.ceil(centre - half), 0, len(signal) - 1).astype(int)
        last = np.clip(np.floor(centre + half), 0, len(signal) - 1).astype(int)
        before = np.concatenate([np.zeros((1, 12), int), np.cumsum(gaps, axis=0)])
        out[before[last + 1] > before[first]] = np.nan
    return dataclasses.replace(recording, signal=out, sampling_rate=float(rate), microvolt_per_bit=None)
