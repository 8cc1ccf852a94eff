"""What cells will cost: estimates of arithmetic and memory, and of time where a throughput was measured.

Arithmetic is XLA's count for one window's forward pass through the encoder, before optimisation, in the formulation
that the first device's kind gets; a training step of an encoder counts three times that (forward, and twice as much
backward). Heads are left out: they are small. Memory is what certainly lies on the device: weights, and where they are
trained gradients and both of Adam's moments; signals, if they fit; activations come on top. Time is
never guessed: it takes the windows per second of finished cells of the same model, arguments and mode on this device.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import floor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import ecgjax
from ecgjax import atomic, models, numerics
from ecgjax.data.embedded import cache_folder
from ecgjax.models.encoder import Encoder
from ecgjax.sweep import summary
from ecgjax.sweep.cells import Cell, hashed, meta
from ecgjax.training.supervised import MODES


@dataclass(frozen=True)
class Cost:
    """Of one cell; estimates.

    Attributes:
        parameters: of the encoder.
        flops: of training, validation and test.
        memory: bytes on the device at least, without activations.
        seconds: of training and validation; None: nothing was measured.
    """

    parameters: int
    flops: float
    memory: float
    seconds: float | None


def of_cell(cell: Cell, measured: Mapping[str, float]) -> Cost:
    """The cost of a cell.

    Args:
        cell: of a plan.
        measured: windows per second by `measured_key`, from `throughputs`.
    """
    encoder = _encoder(cell.model, json.dumps(cell.identity["arguments"], sort_keys=True))
    forward, size = _forward(cell.model, json.dumps(cell.identity["arguments"], sort_keys=True))
    trained = MODES[cell.mode].trains_encoder
    about = meta(cell.identity["run"]["source"], cell.settings["data.store"])
    seconds = about["samples"] / about["records"] / about["sampling_rate"]
    folds = {int(fold): count for fold, count in about["records_per_fold"].items()}
    test, validation = (folds[fold] for fold in (*sorted(folds, reverse=True), *[max(folds)] * 2)[:2])
    train = (about["records"] - test - validation) * cell.settings["data.ratio"]
    if cell.settings["data.validation"] == "cut":
        validation *= cell.settings["data.ratio"]
    epochs, windows = cell.settings["epochs"], max(floor(seconds / encoder.spec.seconds), 1)
    trained_windows = epochs * (train // cell.settings["batch_size"]) * cell.settings["batch_size"]
    evaluated_windows = (epochs * validation + test) * windows
    flops = forward * (trained_windows * (3 if trained else 1) + evaluated_windows)
    signals = about["samples"] * len(about["leads"]) * (2 if about["dtype"] == "int16" else 4)
    rate = measured.get(measured_key(cell))
    return Cost(size, flops, 4.0 * size * (4 if trained else 1) + signals, trained_windows / rate if rate else None)


def measured_key(cell: Cell) -> str:
    """What a throughput is looked up by: model, arguments, mode and this device's kind."""
    return _key(cell.model, cell.identity["arguments"], cell.mode, jax.devices()[0].device_kind)


def throughputs(stores: Iterable[Path]) -> dict[str, float]:
    """Windows per second (the median) of finished cells in folders of cells, by model, arguments, mode and device."""
    found: dict[str, list[float]] = {}
    for store in stores:
        for path in sorted(store.glob(f"*/{summary.FILE}")) if store.is_dir() else ():
            measured = summary.read(path.parent)["measured"]
            if measured:
                key = _key(measured["model"], measured["arguments"], measured["mode"], measured["device"])
                found.setdefault(key, []).append(measured["windows_per_second"])
    return {key: sorted(rates)[len(rates) // 2] for key, rates in found.items()}


def _key(model: str, arguments: Mapping[str, Any], mode: str, device: str | None) -> str:
    return hashed([model, dict(arguments), mode, device])


@cache
def _encoder(model: str, arguments: str) -> Encoder:
    plain = json.loads(arguments).items()
    return models.create(model, **{key: tuple(value) if isinstance(value, list) else value for key, value in plain})


@cache
def _forward(model: str, arguments: str) -> tuple[float, int]:
    """FLOPs of one window's forward pass, and number of parameters; kept in the cache folder, as tracing takes time."""
    encoder = _encoder(model, arguments)
    key = hashed([model, arguments, numerics.VERSION, ecgjax.__version__, jax.__version__, jax.default_backend()])
    path = cache_folder() / "flops" / f"{key}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept["flops"], kept["parameters"]
    except (OSError, ValueError, KeyError):
        pass
    variables = encoder.shapes()
    x = jax.ShapeDtypeStruct((1, encoder.samples, 12), jnp.float32)
    lowered = jax.jit(lambda variables, x: encoder.apply(variables, x)[0].pooled).lower(variables, x)
    counted = lowered.cost_analysis() or {}
    flops, size = float(counted.get("flops", 0.0)), sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, {"flops": flops, "parameters": size})
    return flops, size
