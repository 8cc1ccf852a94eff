"""Deterministic weights and inputs of the golden data: every tensor follows from its name and a seed."""

import zlib
from typing import Any

import numpy as np


def draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal float64 values for a name."""
    return np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32).standard_normal(tuple(shape))


def tensors(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All tensors of a manifest by their names in the torch checkpoint."""
    return {entry["name"]: _fill(entry, manifest["seed"], arrays) for entry in manifest["tensors"]}


def _fill(entry: dict[str, Any], seed: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
    name, shape, rule = entry["name"], tuple(entry["shape"]), entry["rule"]
    if rule == "constant":
        return np.full(shape, entry["value"], dtype=entry["dtype"])
    if rule == "stored":
        # Golden files keep one channel of tensors that are equal for all.
        return np.broadcast_to(arrays["param/" + name], shape)
    x = draw(name, shape, seed)
    x = np.abs(x) if rule == "positive" else x
    return (entry.get("offset", 0.0) + entry.get("scale", 1.0) * x).astype(entry["dtype"])


def make_input(shape: tuple[int, ...], seed: int, scale: float = 0.5) -> np.ndarray:
    """The golden input of a shape."""
    return (scale * draw("input", shape, seed)).astype(np.float32)
