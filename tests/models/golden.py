"""What the golden tests of models share: a case with its encoder and its variables."""

from typing import Any, NamedTuple

import numpy as np

from convert_weights import mapping, names
from ecgjax.models import registry
from ecgjax.models.encoder import Encoder, Variables
from tests import kit
from tests.conftest import load_golden


class Case(NamedTuple):
    """A golden case; `x` is (batch, samples, 12), `heads` what the checkpoint holds beside the encoder."""

    manifest: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]
    encoder: Encoder
    variables: Variables
    heads: dict[str, Any]
    x: np.ndarray

    def draw(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor of the kit under this case's seed."""
        return kit.draw(name, shape, self.manifest["seed"])


def load(name: str, stored_in: str | None = None, **arguments: Any) -> Case:
    """Reads a case and fills the model through the name map, as a conversion would.

    `stored_in` is another case whose arrays hold this one's stored tensors.
    """
    manifest, arrays = load_golden(name)
    tensors = kit.tensors(manifest, load_golden(stored_in)[1] if stored_in else arrays)
    rules = names.get(manifest["model"])
    encoder = registry.create(manifest["model"], **{**mapping.arguments(rules, tensors), **arguments})
    shape = manifest.get("input", manifest.get("procedure", {}).get("input"))["shape"]
    return Case(
        manifest,
        arrays,
        tensors,
        encoder,
        mapping.to_variables(rules, encoder, tensors),
        mapping.to_heads(rules, encoder, tensors),
        channels_last(kit.make_input(tuple(shape), manifest["seed"])),
    )


def channels_last(x: Any) -> np.ndarray:
    """(batch, channels, time) <-> (batch, time, channels)."""
    return np.asarray(x).swapaxes(1, 2)


def relative(found: Any, expected: Any) -> float:
    """Relative L2 distance."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def thin(x: Any, axis: int, stored: np.ndarray) -> np.ndarray:
    """Every k-th entry of `x`, as many as `stored` holds of that axis."""
    n = x.shape[axis]
    step = -(-n // stored.shape[axis])
    return np.take(np.asarray(x), np.arange(0, n, step), axis)
