"""Stacked runs on virtual devices against the runs alone; `tests/training/test_stacked.py` starts it.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.training.stacked_devices STORE CASE ...

Prints one JSON object: for each case and quantity, the largest difference of any run.
"""

import json
import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.batches import evaluation_iterator
from ecgjax.data.cutter import make_cutter
from ecgjax.data.store import open_store
from ecgjax.models import registry
from ecgjax.models.model import load_model
from ecgjax.training import fused_heads, stacked, supervised
from ecgjax.training.mesh import DATA, RUNS, batch_sharding, make_mesh

BATCH, STEPS = 8, 3
ALONE = (1, 7)
"""Runs that are trained alone too. Run 0 diverges: the others must know nothing of it."""

registry._MODELS["tiny"] = "tests.jobs.tiny_model"
jax.config.update("jax_numpy_rank_promotion", "raise")


def grid(rows: int, columns: int) -> Mesh:
    devices = np.array(jax.devices()[: rows * columns]).reshape(rows, columns)
    return Mesh(devices, (RUNS, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


TINY = ("tiny", "{}", "finetune")
# model, arguments, mode; runs, mesh, form, placement
CASES: dict[str, tuple[tuple[str, str, str], int, Callable[[], Mesh], str | None, str]] = {
    "one per device": (TINY, 8, lambda: make_mesh(8, BATCH), None, "device"),
    "data too": (TINY, 8, lambda: grid(4, 2), "map", "device"),
    "data too, vmap": (TINY, 8, lambda: grid(4, 2), "vmap", "host"),
    "four per device": (TINY, 8, lambda: make_mesh(8, BATCH, jax.devices()[:2]), "map", "device"),
    "padded": (TINY, 5, lambda: grid(2, 1), "unrolled", "host"),
    "one device": (TINY, 2, lambda: make_mesh(2, BATCH, jax.devices()[:1]), "vmap", "device"),
    "s4": (("s4", '{"width": 16, "layers": 1}', "scratch"), 2, lambda: make_mesh(2, BATCH), None, "device"),
    "ecg_cpc": (("ecg_cpc", '{"width": 16, "layers": 1}', "finetune"), 2, lambda: grid(1, 1), "vmap", "device"),
    "net1d": (("net1d", '{"widths": [64, 64], "blocks": [1, 1]}', "scratch"), 2, lambda: grid(2, 1), None, "device"),
}
SAVED = STEPS - 1


class Setting:
    """What the runs of one model train on."""

    def __init__(self, folder: str, name: str, arguments: str, count: int) -> None:
        self.store = open_store(folder)
        plain = {key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(arguments).items()}
        targets = self.store.targets("joint")
        targets = [targets[:, order] for order in ([1, 2, 3, 0], [3, 2, 1, 0])]  # classes, then the measured value
        self.runs = [
            stacked.Run(
                load_model(name, None, i, **plain), 1e-2 / 2**i if i else math.inf, 1 / (i + 2), 0.3 * i, 10 + i,
                targets[i % 2],
            )
            for i in range(count)
        ]  # fmt: skip
        self.train, self.test = self.store.rows("train"), self.store.rows("test")

    def cutter(self, placement: str, mesh: Mesh) -> Any:
        spec = self.runs[0].model.spec
        return make_cutter(
            self.store,
            np.concatenate([self.train, self.test]),
            seconds=spec.seconds,
            sampling_rate=spec.sampling_rate,
            placement=placement,  # type: ignore[arg-type]
            sharding=batch_sharding(mesh),
        )

    def plan(self, run: stacked.Run, window: int) -> BatchPlan:
        lengths = self.store.records["samples"].to_numpy()
        return BatchPlan(self.train, lengths, window=window, batch_size=BATCH, seed=run.seed, epochs=2)


setting = cache(Setting)


@cache
def alone(folder: str, model: tuple[str, str, str], i: int) -> dict[str, Any]:
    """Losses; the last state and the state after `SAVED` steps, and the predictions of both."""
    own = setting(folder, *model[:2], 8 if model == TINY else 2)
    run, cutter = own.runs[i], own.cutter("device", grid(1, 1))
    program = supervised.build(
        run.model,
        supervised.MODES[model[2]],
        n_classification=3,
        n_regression=1,
        learning_rate=run.learning_rate,
        rate_factor=run.rate_factor,
        weight_decay=run.weight_decay,
        seed=run.seed,
    )
    plan, state, targets, losses = own.plan(run, cutter.window), program.state, jnp.asarray(run.targets), []
    for step in range(STEPS):
        if step == SAVED:
            saved = jax.tree.map(jnp.copy, state)
        state, loss = program.step(state, program.frozen, cutter, plan[step], targets)
        losses.append(float(loss))
    items = list(evaluation_iterator(own.store, own.test, cutter, batch_size=BATCH))
    scores = [[program.predict(s, program.frozen, cutter, item) for item in items] for s in (state, saved)]
    return {"losses": losses, "scores": scores, "states": (state, saved)}


def compare(folder: str, case: str) -> dict[str, float]:
    model, count, make, form, placement = CASES[case]
    own, mesh = setting(folder, *model[:2], 8 if model == TINY else 2), make()
    runs, cutter = own.runs[:count], own.cutter(placement, mesh)
    mode = supervised.MODES[model[2]]
    together = stacked.build(runs, mode, n_classification=3, n_regression=1, mesh=mesh, form=form)
    batches = stacked.batches(own.store, [own.plan(run, cutter.window) for run in runs], cutter, mesh)
    state, losses = together.state, []
    everyone_but_last = np.arange(count) < count - 1
    for step in range(STEPS):
        if step == SAVED:
            state = together.keep(state, everyone_but_last)
        state, loss = together.step(state, cutter, next(batches))
        losses.append(np.asarray(loss))
    state = together.keep(state, ~everyone_but_last)  # the last run's best is its end
    sharding = stacked.evaluation_sharding(mesh)
    items = list(evaluation_iterator(own.store, own.test, cutter, batch_size=BATCH, sharding=sharding))
    found = [[together.predict(state, cutter, item, best) for item in items] for best in (False, True)]
    for item in found[0]:
        assert [np.asarray(finite).all() for _, finite in item] == [False] + [True] * (count - 1)

    worst = dict.fromkeys(("loss", "scores", "best", "params", "rest"), 0.0)
    for i in sorted({i for i in ALONE if i < count}):
        reference = alone(folder, model, i)
        mine = np.array([loss[i] for loss in losses])
        worst["loss"] = max(worst["loss"], float(np.abs(mine / reference["losses"] - 1).max()))
        kept = 0 if i == count - 1 else 1
        for key, which, given in (("scores", 0, 0), ("best", kept, 1)):
            for (scores, _), results in zip(reference["scores"][which], found[given], strict=True):
                worst[key] = max(worst[key], float(np.abs(scores - np.asarray(results[i][0])).max()))
        best, expected = together.one(state, i), jax.device_get(reference["states"][kept])
        for key in ("params", "rest"):
            worst[key] = max(worst[key], _distance(best[key], getattr(expected, key)))
    return worst


def compare_fused(folder: str) -> dict[str, float]:
    """Heads on one frozen encoder over all devices against the same on one: eight linear, and three with attention."""
    own = setting(folder, *TINY[:2], 8)
    modes = ["linear"] * 8 + ["frozen"] * 3
    runs = [
        fused_heads.Head(supervised.MODES[mode], 3, 1, 1e-2 / (i + 1), 0.1 * i, i, own.runs[i % 2].targets)
        for i, mode in enumerate(modes)
    ]
    plan, found = own.plan(own.runs[0], 250), []
    for sharding in (None, batch_sharding(make_mesh(1, BATCH))):
        cutter = own.cutter("device", grid(1, 1) if sharding is None else make_mesh(1, BATCH))
        program = fused_heads.build(own.runs[0].model, runs, sharding)
        state, losses = program.state, []
        for item in [jax.device_put(plan[step], sharding) for step in range(STEPS)]:
            state, loss = program.step(state, cutter, item)
            losses.append(np.asarray(loss))
        state = program.keep(state, np.arange(len(runs)) != 4)
        scores = program.predict(state, cutter, item, True)
        found.append((np.array(losses), scores, [program.one(state, i)["params"] for i in range(len(runs))]))
    kernel = state[0].params["head"]["kernel"]  # linear heads lie apart, one on each device
    assert (len(kernel.sharding.device_set), kernel.addressable_shards[0].data.shape[0]) == (8, 1)
    (losses, scores, params), (its_losses, its_scores, its_params) = found
    return {
        "loss": float(np.abs(its_losses / losses - 1).max()),
        "scores": max(float(np.abs(a[0] - np.asarray(b[0])).max()) for a, b in zip(scores, its_scores, strict=True)),
        "params": max(_distance(a, b) for a, b in zip(its_params, params, strict=True)),
    }


def _distance(a: Any, b: Any) -> float:
    """Relative, of all values as one vector."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)] or [np.ones(1)]) for tree in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


if __name__ == "__main__":
    compared = {case: compare(sys.argv[1], case) for case in sys.argv[2:] or CASES if case in CASES}
    if "fused" in sys.argv[2:] or not sys.argv[2:]:
        compared["fused"] = compare_fused(sys.argv[1])
    print(json.dumps(compared))
