"""What cells will cost: estimates of arithmetic and memory, and of time where a throughput was measured.

Arithmetic is XLA's count for one window's forward pass through the encoder, before optimisation, in the formulation
that the first device's kind gets; a training step of an encoder counts three times that (forward, and twice as much
backward). Heads are left out: they are small. Memory is what certainly lies on the device: weights, and where they are
trained gradients and both of Adam's moments; signals, if they fit; activations come on top. Time is
never guessed: it takes the windows per second of finished cells of the same model, arguments and mode on this device.
What a chip needs at least follows from its peak (`ecgjax.chips`) and is called so.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.chips import Chip
from ecgjax.models.encoder import Encoder
from ecgjax.sweep import summary
from ecgjax.sweep.cells import Cell, hashed, meta
from ecgjax.sweep.encoder_facts import encoder_of, remembered
from ecgjax.training.supervised import MODES

_WEIGHT_TRAFFIC = 8
"""Times the weights that a training step moves: read forward and backward; weights and moments read and written."""


class Splits(NamedTuple):
    """Windows of each split."""

    train: float
    validation: float
    test: float


class Work(NamedTuple):
    """What a program does at least: FLOPs in `dtype`, and bytes from and to the device's memory."""

    flops: float
    bytes: float
    dtype: str


@dataclass(frozen=True)
class Cost:
    """Of one cell; estimates.

    Attributes:
        parameters: of the encoder.
        forward: FLOPs of one window through the encoder.
        tokens: of one window, `channels` wide.
        channels: width of the features.
        windows: that training sees in an epoch, and that are evaluated.
        whole: the same for all records of the store.
        work: of training, validation and test.
        memory: bytes on the device at least, without activations.
        seconds: of training and validation; None: nothing was measured.
    """

    parameters: int
    forward: float
    tokens: int
    channels: int
    windows: Splits
    whole: Splits
    work: Work
    memory: float
    seconds: float | None


def of_cell(cell: Cell, measured: Mapping[str, float]) -> Cost:
    """The cost of a cell.

    Args:
        cell: of a plan.
        measured: windows per second by `measured_key`, from `throughputs`.
    """
    arguments = json.dumps(cell.identity["arguments"], sort_keys=True)
    encoder, size = encoder_of(cell.model, arguments), _size(cell.model, arguments)
    trained = MODES[cell.mode].trains_encoder
    about = meta(cell.identity["run"]["source"], cell.settings["data.store"])
    whole = _whole(about, encoder.spec.seconds)
    ratio, batch = cell.settings["data.ratio"], cell.settings["batch_size"]
    in_batches = whole.train * ratio // batch * batch
    windows = Splits(
        in_batches, whole.validation * (ratio if cell.settings["data.validation"] == "cut" else 1), whole.test
    )
    epochs = cell.settings["epochs"]
    if MODES[cell.mode].exact:  # every window that fits, once
        epochs, in_batches = 1, whole.train * ratio * max(floor(_seconds(about) / encoder.spec.seconds), 1)
        windows = windows._replace(train=in_batches)
    passes = epochs * in_batches * (3 if trained else 1) + epochs * windows.validation + windows.test
    weights = 4.0 * size.parameters
    moved = weights * (epochs * in_batches * (_WEIGHT_TRAFFIC if trained else 1) + epochs * windows.validation) / batch
    signals = about["samples"] * len(about["leads"]) * (2 if about["dtype"] == "int16" else 4)
    rate = measured.get(measured_key(cell))
    return Cost(
        size.parameters,
        size.forward,
        size.tokens,
        size.channels,
        windows,
        whole,
        Work(size.forward * passes, moved, encoder.dtype),
        weights * (4 if trained else 1) + signals,
        epochs * in_batches / rate if rate else None,
    )


def least_seconds(work: Work, chip: Chip) -> float:
    """What a chip needs at its peak, or at its memory's bandwidth, whichever is more: a lower bound (roofline)."""
    return max(work.flops / getattr(chip, work.dtype), work.bytes / chip.bandwidth)


def same_windows(cell: Cell) -> bool:
    """Whether training sees the same in every epoch: fixed crops, or records of exactly one window, of fixed leads."""
    if cell.identity["config"].get("signal.policy") == "dropout":
        return False
    arguments = json.dumps(cell.identity["arguments"], sort_keys=True)
    about = meta(cell.identity["run"]["source"], cell.settings["data.store"])
    window = int(encoder_of(cell.model, arguments).spec.seconds * about["sampling_rate"])
    return cell.settings["data.crops"] == "fixed" or about["samples"] == about["records"] * window


def _whole(about: Mapping[str, Any], seconds: float) -> Splits:
    """Of a store, from the mean length of its records; training sees one window of a record."""
    folds = {int(fold): count for fold, count in about["records_per_fold"].items()}
    test, validation = (folds[fold] for fold in (*sorted(folds, reverse=True), *[max(folds)] * 2)[:2])
    windows = max(floor(_seconds(about) / seconds), 1)
    return Splits(about["records"] - test - validation, validation * windows, test * windows)


def _seconds(about: Mapping[str, Any]) -> float:
    return about["samples"] / about["records"] / about["sampling_rate"]


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


class _Size(NamedTuple):
    forward: float
    parameters: int
    tokens: int
    channels: int


@cache
def _size(model: str, arguments: str) -> _Size:
    """FLOPs of one window's forward pass, and sizes."""
    return remembered("flops", _Size, _measure, model, arguments)


def _measure(encoder: Encoder) -> _Size:
    variables = encoder.shapes()
    x = jax.ShapeDtypeStruct((1, encoder.samples, 12), jnp.float32)
    lowered = jax.jit(lambda variables, x: encoder.apply(variables, x)[0].pooled).lower(variables, x)
    counted = lowered.cost_analysis() or {}
    features = jax.eval_shape(lambda variables, x: encoder.apply(variables, x)[0], variables, x)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return _Size(float(counted.get("flops", 0.0)), parameters, *features.sequence.shape[1:])
