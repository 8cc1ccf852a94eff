"""What only the signals tell, gathered while they are read: amplitudes, Einthoven's and Goldberger's laws, twins.

The three leads of Einthoven's triangle hold two independent voltages, and so do Goldberger's augmented leads:
II = I + III, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2. Wrong names, gains and orders of leads break
this.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ecgjax.data.leads import CANONICAL
from ecgjax.data.recording import Recording

LAWS = {
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}
"""Each lead as weights of I and II."""

COLUMNS = ("_low", "_high", "_digest", "_bad_checksum", *(f"_law_{lead}" for lead in LAWS))


def measure(recording: Recording, stored: np.ndarray) -> dict[str, Any]:
    """Values of `COLUMNS` for one record.

    `_low` and `_high` are in mV, NaN without a value. `_law_LEAD` is the root mean square in microvolts of what is left
    of the law, NaN where one of its leads was not recorded. `_digest` is the same for the same signal.

    Args:
        recording: as read.
        stored: (samples, 12) as it goes to the shard.
    """
    signal = recording.signal
    found: dict[str, Any] = {
        "_low": float(np.fmin.reduce(signal, axis=None)),
        "_high": float(np.fmax.reduce(signal, axis=None)),
        "_digest": hashlib.sha256(stored.tobytes()).hexdigest()[:24],
        "_bad_checksum": "checksum_mismatches" in recording.metadata,
    }
    return found | {f"_law_{lead}": value for lead, value in _residuals(recording).items()}


def _residuals(recording: Recording) -> Mapping[str, float]:
    present = recording.present
    if not {"I", "II"} <= set(present):
        return dict.fromkeys(LAWS, float("nan"))
    limb = np.ascontiguousarray(recording.signal[:, :6].T)
    one, two = limb[:2]
    residuals = {}
    for lead, (of_one, of_two) in LAWS.items():
        residuals[lead] = float("nan")
        if lead in present:
            left = limb[CANONICAL.index(lead)] - np.float32(of_one) * one - np.float32(of_two) * two
            mean = np.mean(np.square(left), dtype=np.float64)
            if np.isnan(mean):
                known = left[~np.isnan(left)]
                mean = np.mean(np.square(known), dtype=np.float64) if len(known) else mean
            residuals[lead] = 1000 * float(np.sqrt(mean))
    return residuals
