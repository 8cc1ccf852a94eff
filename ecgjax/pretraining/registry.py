"""The one place that lists pretraining objectives, and how several are named at once."""

import importlib
import math
from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder
from ecgjax.pretraining.objective import Mixture, Part, Setup

# Name -> module with OPTIONS (name -> default), check(encoder) and create(setup, options).
_OBJECTIVES = {
    "cpc": "ecgjax.pretraining.cpc",
    "jepa": "ecgjax.pretraining.joint_embedding",
    "masked_autoencoder": "ecgjax.pretraining.masked_autoencoder",
    "masked_clusters": "ecgjax.pretraining.masked_clusters",
    "supervised": "ecgjax.pretraining.supervised",
    "wav2vec": "ecgjax.pretraining.wav2vec",
}


def names() -> tuple[str, ...]:
    """Names of all objectives, sorted."""
    return tuple(sorted(_OBJECTIVES))


def parse(text: str) -> dict[str, float]:
    """Objectives and their weights from "cpc" or "cpc:1+supervised:0.5".

    Raises:
        UserError: an unknown or repeated name, or a weight that is not a positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if name not in _OBJECTIVES:
            close = get_close_matches(name, names(), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"objective {name!r} is unknown{hint}; expected one of {', '.join(names())}")
        try:
            weight = float(number) if colon else 1.0
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf or name in weights:
            raise UserError(f"objective {text!r}: expected each name once, with a positive weight, e.g. {name}:0.5")
        weights[name] = weight
    return weights


def options(name: str) -> dict[str, Any]:
    """The options of an objective with their defaults."""
    return dict(_module(name).OPTIONS)


def segments(text: str) -> int:
    """Consecutive windows of each record that the objectives need."""
    return max(getattr(_module(name), "SEGMENTS", 1) for name in parse(text))


def check(text: str, encoder: Encoder) -> None:
    """Refuses an encoder that one of the objectives cannot train.

    Raises:
        UserError: with the reason, or as `parse`.
    """
    for name in parse(text):
        _module(name).check(encoder)


def create(text: str, setup: Setup, chosen: Mapping[str, Mapping[str, Any]] | None = None) -> Mixture:
    """Builds the objectives.

    Args:
        text: see `parse`.
        setup: what for.
        chosen: options by objective, where they are not the defaults.

    Raises:
        UserError: as `check`, or an option has a value it cannot have.
    """
    check(text, setup.encoder)
    parts = []
    for name, weight in parse(text).items():
        values = {**options(name), **(chosen or {}).get(name, {})}
        parts.append(Part(_module(name).create(setup, values), weight))
    return Mixture(setup.encoder, setup.samples, tuple(parts))


def _module(name: str) -> ModuleType:
    return importlib.import_module(_OBJECTIVES[name])
