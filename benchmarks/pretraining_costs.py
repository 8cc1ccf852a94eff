"""Cost of ECG-CPC's pretraining update against the length of the crops and the batch.

    python -m benchmarks.pretraining_costs [--width=512 --layers=4] [--seconds=2.5,5,10] [--batches=2,4,8]
        [--output=FILE]

Lengths at the smallest batch, batches at the shortest length; 120 tokens per second. The update on finished crops,
float32, all in turns: milliseconds, FLOPs as compiled here, and XLA's account of memory (arguments, temporaries, and
outputs that are no argument's).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import asked, in_turns, save, summary
from ecgjax import host_memory
from ecgjax.models import registry
from ecgjax.pretraining import registry as objectives
from ecgjax.pretraining import step as pretraining
from ecgjax.pretraining.objective import Setup
from ecgjax.training import optimiser

RATE, CLIP = 240, 3.0


def crops(item: jax.Array) -> jax.Array:
    return item


def prepare(seconds: float, batch: int, options: argparse.Namespace) -> tuple[Callable[[], None], dict[str, float]]:
    """What makes one update, and XLA's account of it."""
    samples = int(seconds * RATE)
    encoder = registry.create("ecg_cpc", width=options.width, layers=options.layers, l_max=-(-samples // 2))
    mixture = objectives.create("cpc", Setup(encoder, samples, 1))
    params, rest, _ = pretraining.init_params(mixture, jax.random.key(0))
    adamw = optimiser.adamw(jax.tree.map(lambda _: "all", params), {"all": 1e-3}, 1e-3)
    state = pretraining.init(mixture, adamw, params, rest, jax.random.key(1))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((batch, samples, 12)), jnp.float32)
    arguments = jax.tree_util.Partial(crops), x
    compiled = pretraining.make_update(mixture, adamw, CLIP).lower(state, *arguments).compile()
    memory = compiled.memory_analysis()
    size = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    cost = compiled.cost_analysis() or {}

    def update() -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(state, *arguments))

    account = {"tokens": -(-samples // 2), "gflop_compiled": cost.get("flops", 0.0) / 1e9}
    return update, {**account, "megabytes": (size - memory.alias_size_in_bytes) / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seconds", default="2.5,5,10")
    parser.add_argument("--batches", default="2,4,8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    host_memory.keep_freed()
    jax.config.update("jax_default_matmul_precision", "highest")
    lengths = sorted(float(part) for part in options.seconds.split(","))
    batches = sorted(int(part) for part in options.batches.split(","))
    cases = dict.fromkeys([*((length, batches[0]) for length in lengths), *((lengths[0], batch) for batch in batches)])
    made = {f"{seconds:g} s x {batch}": (seconds, batch, *prepare(seconds, batch, options)) for seconds, batch in cases}
    times = in_turns({name: update for name, (_, _, update, _) in made.items()}, options.repeats)
    rows: list[dict[str, Any]] = []
    for name, (seconds, batch, _, account) in made.items():
        rows.append({"seconds": seconds, "batch": batch, **account, "ms": summary(times[name], 1e3)})
        milliseconds, gflop = rows[-1]["ms"]["cpu"]["median"], account["gflop_compiled"]
        print(f"{name:12} {milliseconds:8.0f} ms of processors, {gflop:7.1f} GFLOP, {account['megabytes']:6.0f} MB")
    save(options.output, "pretraining_costs", {"options": asked(options), "rows": rows})


if __name__ == "__main__":
    main()
