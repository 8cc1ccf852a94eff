"""A model's features of a fixed input, kept on the card of its weights: whoever loads them elsewhere can compare."""

from typing import Any

import numpy as np

from ecgjax.errors import UserError
from ecgjax.models.encoder import CANONICAL_LEADS, ModelSpec
from ecgjax.models.model import Model

# Relative to the features' root mean square; float32 on another chip or compiler stays well below.
TOLERANCE = 1e-3
_SHOWN = 8
INPUT = "sine waves: lead l (from 0) is 0.5 sin(2 pi (l + 1) t / 2) + 0.1 cos(2 pi 7 t + l) mV, t in seconds"


def fixed_input(spec: ModelSpec) -> np.ndarray:
    """The input that `INPUT` describes: (1, samples, 12), one window of the model, float32."""
    t = np.arange(round(spec.seconds * spec.sampling_rate))[:, None] / spec.sampling_rate
    lead = np.arange(len(CANONICAL_LEADS))
    x = 0.5 * np.sin(np.pi * (lead + 1) * t) + 0.1 * np.cos(14 * np.pi * t + lead)
    return x[None].astype(np.float32)


def compute(model: Model) -> dict[str, Any]:
    """The self-check of a model: a few numbers of its features, and their size."""
    features = model.features(fixed_input(model.spec))
    pooled, sequence = np.asarray(features.pooled[0], np.float64), np.asarray(features.sequence[0], np.float64)
    return {
        "input": INPUT,
        "pooled": pooled[:_SHOWN].round(7).tolist(),
        "pooled_rms": float(np.sqrt(np.mean(pooled**2))),
        "sequence_shape": list(sequence.shape),
        "sequence_rms": float(np.sqrt(np.mean(sequence**2))),
    }


def compare(found: dict[str, Any], stored: Any) -> float:
    """The greatest difference between two self-checks, relative to the features' root mean square.

    Raises:
        UserError: what is stored is no self-check, or they differ by more than `TOLERANCE`.
    """
    if not isinstance(stored, dict) or not set(found) <= set(stored):
        raise UserError("the card has no self-check; expected weights that convert_weights wrote")
    if stored["sequence_shape"] != found["sequence_shape"]:
        raise UserError(
            f"features have shape {found['sequence_shape']}; expected {stored['sequence_shape']} as on the card"
        )
    wanted = np.array([*stored["pooled"], stored["pooled_rms"]], np.float64)
    difference = np.abs(np.array([*found["pooled"], found["pooled_rms"]]) - wanted).max() / max(
        stored["pooled_rms"], 1e-30
    )
    difference = max(
        difference, abs(found["sequence_rms"] - stored["sequence_rms"]) / max(stored["sequence_rms"], 1e-30)
    )
    if not difference <= TOLERANCE:
        raise UserError(
            f"features of the fixed input differ by {difference:.2g} of their size from the card; "
            f"expected at most {TOLERANCE:g}"
        )
    return float(difference)
