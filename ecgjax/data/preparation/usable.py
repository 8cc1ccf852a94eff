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
    recorded = signal[:, [lead not in recording.missing for lead in CANONICAL]]
    # The ufuncs that pass over NaN: nan where there is nothing else.
    low, high = np.fmin.reduce(recorded, axis=0), np.fmax.reduce(recorded, axis=0)
    if np.isinf(low).any() or np.isinf(high).any():
        return "infinite values in the signal"
    if "all_nan" in skip and np.isnan(low).all():
        return REASONS["all_nan"]
    if "nan" in skip and np.isnan(signal).any():
        return REASONS["nan"]
    if "zero" in skip and not np.nan_to_num(low).any() and not np.nan_to_num(high).any():
        return REASONS["zero"]
    if "flat" in skip and not (high > low).any():
        return REASONS["flat"]
    return None
