"""The programs that ecgjax's jobs run, with descriptions of their arguments in place of arrays.

They are built by the functions that the jobs call, so what is compiled here is what runs. Data set, state and weights
lie whole on every device; batches are spread over all devices.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ecgjax.data.cutter import Cutter, Item
from ecgjax.data.device_dataset import DeviceDataset
from ecgjax.models import registry
from ecgjax.models.encoder import Encoder
from ecgjax.models.model import Model
from ecgjax.pretraining import registry as objectives
from ecgjax.pretraining import step as pretraining
from ecgjax.pretraining.objective import Mixture, Setup
from ecgjax.training import fused_heads, mesh, optimiser, supervised
from ecgjax.training.fused_heads import Head

STEPS = ("features", "linear", "fused", "finetune")
RECORDS, RATE, SECONDS = 21_799, 500.0, 10.0
"""The data set in device memory is of PTB-XL's size."""

CLASSES = 71
FUSED = 48
"""Heads of the fused step: half linear, half attention."""


class Compilable(NamedTuple):
    """A program and its arguments.

    Attributes:
        name: "model step".
        function: to be compiled.
        arguments: trees of `jax.ShapeDtypeStruct` with their shardings.
        donated: positions of the arguments that are.
        records: in a batch; 0 where there is none.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donated: tuple[int, ...]
    records: int


class Place(NamedTuple):
    """Where arguments lie.

    Attributes:
        whole: sharding of what every device holds.
        split: sharding of batches.
    """

    whole: NamedSharding
    split: NamedSharding


def place(devices: Sequence[Any], batch_size: int | None = None) -> Place:
    """Batches over all devices that can share one evenly."""
    grid = mesh.make_mesh(1, batch_size, devices)
    return Place(mesh.sharded(grid), mesh.sharded(grid, (mesh.RUNS, mesh.DATA)))


def of_model(
    name: str, step: str, batch_size: int, where: Place, dtype: str = "float32", remat: bool = False
) -> Compilable:
    """One of a model's programs at full size.

    Args:
        name: of the model.
        step: "features" (signals to sequence and pooled), "linear" (a linear head's training step on the frozen
            encoder), "fused" (`FUSED` heads' step), or "finetune" (as in mode "finetune", or "scratch" where the model
            is not pretrained).
        batch_size: over all devices.
        where: they are.
        dtype: of the activations, where the model has a choice.
        remat: blocks are computed again in the backward pass.
    """
    encoder = replace(_encoder(name, dtype), remat=remat)
    build = {"features": _features, "linear": _step, "fused": _fused, "finetune": _step}[step]
    function, parts, donated = build(encoder, step)
    known = {
        "variables": lambda: _on(where.whole, encoder.shapes()),
        "cutter": lambda: _on(where.whole, _cutter(encoder)),
        "signals": lambda: _array(where.split, (batch_size, encoder.samples, 12)),
        "item": lambda: {key: _array(where.split, (batch_size,), jnp.int32) for key in ("record", "start")},
        "targets": lambda: _array(where.whole, (RECORDS, CLASSES)),
        "nothing": dict,
    }
    described = tuple(known[part]() if isinstance(part, str) else _on(where.whole, part) for part in parts)
    return Compilable(f"{name} {step}", function, described, donated, batch_size)


def pretraining_step(batch_size: int, where: Place, dtype: str = "float32", remat: bool = False) -> Compilable:
    """The update of configs/cpc_pretrain.py:paper on crops of 10 s, data-parallel.

    Args:
        batch_size: over all devices.
        where: they are.
        dtype: of the activations, where the model has a choice.
        remat: blocks are computed again in the backward pass.
    """
    encoder = replace(_encoder("ecg_cpc", dtype, seconds=SECONDS, l_max=1200), remat=remat)
    mixture = objectives.create("cpc", Setup(encoder, encoder.samples, 1))
    adamw, state = _captured(lambda: _pretraining_state(mixture))
    update = pretraining.make_update(mixture, adamw, 3.0)
    item = {key: _array(where.split, (batch_size,), jnp.int32) for key in ("record", "start")}
    described = (_on(where.whole, state), _on(where.whole, _cutter(encoder)), item)
    return Compilable("ecg_cpc pretraining", update, described, (0,), batch_size)


def bootstrap_block(where: Place, records: int = 2200, rare: int = 550, replicates: int = 128) -> Compilable:
    """One block of replicates of one class's AUROC by comparison, the form for accelerators.

    Args:
        where: the first device is used.
        records: of the test set.
        rare: of them on the smaller side.
        replicates: of a block.
    """
    from ecgjax.evaluation import weighted_auroc as auroc

    one = jax.sharding.SingleDeviceSharding(next(iter(where.whole.device_set)))
    rng = np.random.default_rng(0)
    order = rng.permutation(records)
    table = auroc._level(rng.random(records), order[:rare], order[rare:], records)
    described = (_array(one, (records + 1, replicates), jnp.uint8), _on(one, jax.eval_shape(lambda: table)))
    return Compilable("bootstrap block", auroc._compare, described, (), 0)


def _encoder(name: str, dtype: str, **arguments: Any) -> Encoder:
    has = "dtype" in registry.create(name).arguments
    return registry.create(name, **arguments, **({"dtype": dtype} if has else {}))


_Built = tuple[Callable[..., Any], tuple[Any, ...], tuple[int, ...]]


def _features(encoder: Encoder, step: str) -> _Built:
    def features(variables: Any, x: Any) -> Any:
        found = encoder.apply(variables, x)[0]
        return found.sequence, found.pooled

    return features, ("variables", "signals"), ()


def _step(encoder: Encoder, step: str) -> _Built:
    mode = supervised.MODES["linear" if step == "linear" else "scratch" if encoder.spec.supervised else "finetune"]
    program, state = _captured(lambda: _supervised_state(encoder, mode))
    frozen = "nothing" if mode.trains_encoder else "variables"
    return program.step, (state, frozen, "cutter", "item", "targets"), (0,)


def _fused(encoder: Encoder, step: str) -> _Built:
    targets = np.zeros((RECORDS, CLASSES), np.float32)
    modes = [supervised.MODES[name] for name in ("linear", "frozen")]
    heads = [Head(modes[i % 2], CLASSES, 0, 1e-3, 1e-3, i, targets) for i in range(FUSED)]

    def state() -> Any:
        return fused_heads.build(_model(encoder), heads).state

    def train(state: Any, variables: Any, cutter: Cutter, item: Item) -> Any:
        return fused_heads.build(Model(encoder, variables), heads).step(state, cutter, item)

    return train, (jax.eval_shape(state), "variables", "cutter", "item"), (0,)


def _captured(make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """What `make` returns: functions as they are, the state described and not computed."""
    functions: list[Any] = []

    def state() -> Any:
        function, found = make()
        functions.append(function)
        return found

    described = jax.eval_shape(state)
    return functions[0], described


def _supervised_state(encoder: Encoder, mode: supervised.Mode) -> tuple[Any, Any]:
    program = supervised.build(
        _model(encoder),
        mode,
        n_classification=CLASSES,
        n_regression=0,
        learning_rate=1e-3,
        rate_factor=0.1,
        weight_decay=1e-3,
        seed=0,
    )
    return program, program.state


def _pretraining_state(mixture: Mixture) -> tuple[Any, Any]:
    params, rest, _ = pretraining.init_params(mixture, jax.random.key(0))
    labels, _ = optimiser.rate_groups(params, (("all", ("head/", "encoder/")),), {"all": 1e-3})
    adamw = optimiser.adamw(labels, {"all": 1e-3}, 1e-3)
    return adamw, pretraining.init(mixture, adamw, params, rest, jax.random.key(1))


def _model(encoder: Encoder) -> Model:
    return Model(encoder, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), encoder.shapes()))


def _cutter(encoder: Encoder) -> Cutter:
    samples = int(RECORDS * SECONDS * RATE)
    dataset = DeviceDataset(
        jax.ShapeDtypeStruct((samples, 12), jnp.int16),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((RECORDS,), jnp.int32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((RECORDS,), jnp.float32),  # type: ignore[arg-type]
    )
    return Cutter(dataset, int(encoder.spec.seconds * RATE), RATE, encoder.spec.sampling_rate)


def _array(sharding: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _on(sharding: Any, tree: Any) -> Any:
    return jax.tree.map(partial(_placed, sharding), tree)


def _placed(sharding: Any, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
