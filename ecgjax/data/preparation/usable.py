"""Whether a recording can be used: its shape, its rate, and what the source says must not be."""

from collections.abc import Sequence

import numpy as np

from ecgjax.data.leads import CANONICAL
from ecgjax.data.recording import Recording

REASONS = {
    "all_nan": "every value is NaN",
    "nan": "holds NaN",
    "flat": "all leads are flat",
    "zero": "every value is zero",
}
"""What `Facts.skip` names, as it is written to rejected.csv."""


def why_unusable(recording: Recording, skip: Sequence[str], sampling_rate: float | None = None) -> str | None:
    """The reason to leave a recording out, or None.

    Args:
        recording: as a source read it.
        skip: see `Facts.skip`; leads that the source does not have are not looked at.
        sampling_rate: Hz that it must have.
    """
    signal = recording.signal
    if signal.ndim != 2 or signal.shape[1] != len(CANONICAL) or not len(signal):
        return f"signal of shape {signal.shape}; expected (samples, {len(CANONICAL)})"
    if sampling_rate is not None and recording.sampling_rate != sampling_rate:
        return f"{recording.sampling_rate:g} Hz; expected {sampling_rate:g} Hz"
    missing = np.isnan(signal)
    if np.isinf(signal).any():
        return "infinite values in the signal"
    recorded = [lead not in recording.missing for lead in CANONICAL]
    if "all_nan" in skip and missing[:, recorded].all():
        return REASONS["all_nan"]
    if "nan" in skip and missing.any():
        return REASONS["nan"]
    if "zero" in skip and not np.any(signal[~missing]):
        return REASONS["zero"]
    if "flat" in skip and _flat(signal[:, recorded], missing[:, recorded]):
        return REASONS["flat"]
    return None


def _flat(signal: np.ndarray, missing: np.ndarray) -> bool:
    low = np.min(signal, axis=0, initial=np.inf, where=~missing)
    high = np.max(signal, axis=0, initial=-np.inf, where=~missing)
    return bool((high <= low).all())
