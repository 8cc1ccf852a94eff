"""Whether the dispatch of a step from Python costs anything with small models: steps one by one against a scan.

    python -m benchmarks.dispatch [--width=32 --batch=16 --steps=8 --rounds=8]

The pretraining update of ECG-CPC and the training step of the S4 baseline, both of 2 layers, on a data set in device
memory, cut as the jobs do. "loop" calls the jitted step `--steps` times on batches that are there already, "scan" is
one program of as many. In turns; medians over the rounds, and the ratio of scan to loop in steps per second of elapsed
and of processor time ("cpu": other work on the machine disturbs it less). "dispatch" is the time until a call of the
step returns, which the device's work hides unless it is shorter. Prints one line of JSON for each model.

On a CPU a scan can win for another reason: each program asks for its temporary memory anew. `ecgjax.host_memory` has it
kept, here as in the jobs (`benchmarks.host_memory`).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import asked, in_turns, ratio, save, summary
from ecgjax import host_memory
from ecgjax.data.batches import training_iterator
from ecgjax.data.embedded import synthetic_store
from ecgjax.data.store import open_store
from ecgjax.models import registry
from ecgjax.models.model import Model
from ecgjax.pretraining import registry as objectives
from ecgjax.pretraining import step as pretraining
from ecgjax.pretraining.objective import Setup
from ecgjax.training import optimiser, supervised

Step = Callable[[Any, Any, Any], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 32), ("batch", 16), ("steps", 8), ("rounds", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    host_memory.keep_freed()
    jax.config.update("jax_default_matmul_precision", "highest")
    found, ratios = {}, {}
    for name, prepare in (("ecg_cpc", _pretraining), ("s4", _supervised)):
        found[name] = compare(*prepare(options), steps=options.steps, rounds=options.rounds)
        print(json.dumps({"model": name, **asked(options), **found[name]}), flush=True)
        what = f"step of {name}, width {options.width}: one by one / in a scan of {options.steps}"
        ratios[what] = found[name]["ratio"]
    save(options.output, "dispatch", {"options": asked(options), "models": found, "ratios": ratios})


def compare(step: Step, state: Any, cutter: Any, items: list[Any], *, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step both ways; `step` is (state, cutter, item) -> state, `items` as many batches as steps."""
    one = jax.jit(step, donate_argnums=0)
    returned: list[float] = []

    @jax.jit
    def stacked(*items: Any) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *items)

    def several(state: Any, cutter: Any, items: Any) -> Any:
        return jax.lax.scan(lambda state, item: (step(state, cutter, item), None), state, items)[0]

    together = jax.jit(several, donate_argnums=0)

    def loop(state: Any) -> Any:
        for item in items:
            began = time.perf_counter()
            state = one(state, cutter, item)
            returned.append(time.perf_counter() - began)
        return state

    def scan(state: Any) -> Any:
        return together(state, cutter, stacked(*items))

    def block(call: Callable[[Any], Any]) -> Callable[[], None]:
        def run() -> None:
            nonlocal state
            state = jax.block_until_ready(call(state))

        return run

    times = in_turns({"loop": block(loop), "scan": block(scan)}, rounds)
    return {
        "ms": {name: summary(taken, 1e3 / steps) for name, taken in times.items()},
        "ratio": ratio(times["loop"], times["scan"]),
        "dispatch_ms": 1e3 * statistics.median(returned[steps:]),
    }


def _batches(encoder: Any, options: argparse.Namespace) -> tuple[Any, list[Any]]:
    store = open_store(synthetic_store())
    batches, cutter = training_iterator(
        store,
        store.rows("train"),
        seconds=encoder.spec.seconds,
        sampling_rate=encoder.spec.sampling_rate,
        batch_size=options.batch,
        seed=0,
        epochs=1000,
        placement="device",
    )
    return cutter, [next(batches) for _ in range(options.steps)]


def _pretraining(options: argparse.Namespace) -> tuple[Step, Any, Any, list[Any]]:
    encoder = registry.create("ecg_cpc", width=options.width, layers=2)
    mixture = objectives.create("cpc", Setup(encoder, encoder.samples, 1))
    params, rest, _ = pretraining.init_params(mixture, jax.random.key(0))
    adamw = optimiser.adamw(jax.tree.map(lambda _: "all", params), {"all": 1e-3}, 1e-3)
    update = pretraining.make_update(mixture, adamw, 3.0)
    state = pretraining.init(mixture, adamw, params, rest, jax.random.key(1))
    return update, state, *_batches(encoder, options)


def _supervised(options: argparse.Namespace) -> tuple[Step, Any, Any, list[Any]]:
    encoder = registry.create("s4", width=options.width, layers=2)
    model = Model(encoder, encoder.init(jax.random.key(0)))
    program = supervised.build(
        model,
        supervised.get_mode("scratch"),
        n_classification=71,
        n_regression=0,
        learning_rate=1e-3,
        rate_factor=0.1,
        weight_decay=1e-3,
        seed=0,
    )
    store = open_store(synthetic_store())
    targets = jnp.zeros((len(store), 71))

    def step(state: Any, cutter: Any, item: Any) -> Any:
        return program.step(state, program.frozen, cutter, item, targets)[0]

    return step, program.state, *_batches(encoder, options)


if __name__ == "__main__":
    main()
