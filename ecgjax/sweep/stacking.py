"""How many cells that train their encoders go into one program, by their sizes and the devices' memory.

Small encoders leave a device idle most of the time, so several are trained on each; a large one fills a device, so each
device trains one cell; what does not fit takes all devices for its batches (`ecgjax.training.mesh`).
"""

import json
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.chips import find
from ecgjax.models.encoder import Encoder
from ecgjax.sweep.cells import Cell, hashed
from ecgjax.sweep.encoder_facts import remembered
from ecgjax.sweep.units import Stacking

LARGE = 50_000_000
"""Parameters from which a cell has a device to itself: the transformers of 85 million and more. The others have up to
31 million (Net1D)."""
LARGE_ON_CPU = 1_000_000
"""The same for a CPU, whose cores a large cell keeps busy by itself. Small ones gain the compilations: 4 of width 32
compile in 26 s instead of 60 (S4) and in 71 instead of 132 (ECG-CPC), and then take 0.9 and 1.4 times the processor
time (`benchmarks/stacked.py`, on two busy cores)."""
MOST_PER_DEVICE = 8
SHARE = 0.5
"""Of a device's memory, for the cells; signals take up to `ecgjax.data.device_dataset.SHARE`."""
COPIES = 5
"""Of the weights: themselves, their gradients, Adam's two moments, and the best epoch's."""

_OWN = ("learning_rate", "rate_factor", "weight_decay", "data.seed", "data.crops", "save_crops")


class Sizes(NamedTuple):
    """Bytes.

    Attributes:
        parameters: number, not bytes.
        variables: of all variables.
        activations: what one window leaves for the backward pass, before XLA fuses anything.
    """

    parameters: int
    variables: int
    activations: int


def stacking(devices: Sequence[jax.Device] | None = None) -> Stacking:
    """The rule for these devices, None: all of this process; see `ecgjax.sweep.units.units`."""
    devices = jax.local_devices() if devices is None else devices
    memory, large = memory_of(devices), LARGE_ON_CPU if devices[0].platform == "cpu" else LARGE

    def rule(cell: Cell) -> tuple[str, int] | None:
        most = stack_size(cell, memory, len(devices), large)
        return (common(cell), most) if most > 1 else None

    return rule


def stack_size(cell: Cell, memory: float, devices: int, large: int = LARGE) -> int:
    """Cells like this one in a program; 1: it is trained alone, on all devices.

    Args:
        cell: one that trains its encoder.
        memory: of a device, bytes.
        devices: how many.
        large: parameters from which a cell has a device to itself.
    """
    sizes = sizes_of(cell.model, json.dumps(cell.identity["arguments"], sort_keys=True))
    needed = COPIES * sizes.variables + cell.settings["batch_size"] * sizes.activations
    per_device = min(int(SHARE * memory / needed), MOST_PER_DEVICE if sizes.parameters < large else 1)
    return max(devices * per_device, 1)


def common(cell: Cell) -> str:
    """Hash of what cells of one program have in common: shapes, records, number of batches; not weights or rates."""
    identity = cell.identity
    config = {
        key: value for key, value in identity["config"].items() if key not in _OWN and not key.startswith("interval.")
    }
    if config["data.ratio"] == 1:
        del config["seed"]  # else it chooses the records
    return hashed({"config": config, **{key: identity[key] for key in ("numerics", "arguments", "data", "run")}})


def memory_of(devices: Sequence[jax.Device]) -> float:
    """Bytes of one device: what it says, else what its kind has; virtual ones share the host's."""
    from os import sysconf

    stated = (devices[0].memory_stats() or {}).get("bytes_limit")
    chip = find(devices[0].device_kind)
    if stated is not None or chip is not None:
        return float(stated if stated is not None else chip.memory)  # type: ignore[union-attr]
    return sysconf("SC_PAGE_SIZE") * sysconf("SC_PHYS_PAGES") / len(devices)


@cache
def sizes_of(model: str, arguments: str) -> Sizes:
    """Sizes of an encoder, by its arguments as JSON."""
    return remembered("sizes", Sizes, _measure, model, arguments)


def _measure(encoder: Encoder) -> Sizes:
    variables = encoder.shapes()

    def residuals(variables: Any, x: jax.Array) -> Any:
        params = variables["params"]
        rest = {name: value for name, value in variables.items() if name != "params"}
        apply = partial(encoder.apply, x=x, train=True, key=jax.random.key(0))
        return jax.vjp(lambda params: apply({"params": params, **rest})[0].pooled, params)[1]

    # Weights are among what is kept: of two windows and of one, the difference is what a window adds.
    one, two = (
        _bytes(jax.eval_shape(residuals, variables, jax.ShapeDtypeStruct((n, encoder.samples, 12), jnp.float32)))
        for n in (1, 2)
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return Sizes(parameters, _bytes(variables), two - one)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
