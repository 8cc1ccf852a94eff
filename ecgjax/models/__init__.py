"""Encoders, heads and their weights. `registry` is the only place that lists models."""

from ecgjax.models.encoder import CANONICAL_LEADS, Encoder, Features, ModelSpec
from ecgjax.models.registry import create, names

__all__ = ["CANONICAL_LEADS", "Encoder", "Features", "ModelSpec", "create", "names"]
