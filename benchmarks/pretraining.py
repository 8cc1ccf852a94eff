"""Pretraining records/s from a store on disk, against the same update on one batch that is cut already.

    python -m benchmarks.pretraining [--store=DIR] [--placement=host] [--paper] [--rounds=8] [--steps=8] [--output=FILE]

Without --store, 1,000 random records of 10 s at 500 Hz are written to a temporary store (120 MB int16). Blocks of steps
of both kinds alternate in one process: "data" draws a batch, reads and cuts it from int16 signals, resamples 500 to
240 Hz and updates, as the job does; "constant" updates on finished crops. `--placement=device` has the signals in the
device's memory, `host` reads every batch from the files' memory maps, in the background. The aim is a ratio of 0.95 or
more. Processor time is of all threads: that of the reading is in it, which elapsed time hides where a core is free.
--paper: width 512, 4 layers, crops of 10 s, batch 64. The page cache is warm.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.pipeline import write_store
from benchmarks.timing import Times, asked, in_turns, ratio, save, summary
from configs.cpc_pretrain import get_config
from ecgjax import host_memory
from ecgjax.data.batches import training_iterator
from ecgjax.data.store import Store, open_store
from ecgjax.models import registry
from ecgjax.pretraining import registry as objectives
from ecgjax.pretraining import step as pretraining
from ecgjax.pretraining.objective import Setup
from ecgjax.training import optimiser


def constant_cutter(item: jax.Array) -> jax.Array:
    return item


def measure(store: Store, options: argparse.Namespace) -> dict[str, Any]:
    config = get_config("paper" if options.paper else "reduced")
    batches, cutter = training_iterator(
        store,
        np.arange(len(store)),
        seconds=config.data.seconds,
        sampling_rate=240.0,
        batch_size=config.batch_size,
        seed=0,
        epochs=10_000,
        placement=options.placement,
    )
    encoder = registry.create("ecg_cpc", **config.model, l_max=-(-cutter.samples // 2))
    mixture = objectives.create("cpc", Setup(encoder, cutter.samples, 1))
    params, rest, _ = pretraining.init_params(mixture, jax.random.key(0))
    transform = optimiser.adamw(jax.tree.map(lambda _: "all", params), {"all": 1e-3}, 1e-3)
    update = pretraining.make_update(mixture, transform, config.data.clip)
    finished = jax.jit(lambda cutter, item: cutter(item))(cutter, next(batches))
    same = jax.tree_util.Partial(constant_cutter)
    state = pretraining.init(mixture, transform, params, rest, jax.random.key(1))

    def block(cutter: Any, item: Callable[[], Any]) -> Callable[[], None]:
        def steps() -> None:
            nonlocal state
            for _ in range(options.steps):
                state = update(state, cutter, item())
            jax.block_until_ready(state)

        return steps

    kinds = {"data": block(cutter, lambda: next(batches)), "constant": block(same, lambda: finished)}
    times = in_turns(kinds, options.rounds)
    batches.close()
    records = options.steps * config.batch_size
    return {
        "batch_size": config.batch_size,
        "width": config.model.width,
        "records": len(store),
        "records_per_second": {
            name: summary([Times(records / one.wall, records / one.cpu) for one in taken])
            for name, taken in times.items()
        },
        "ratio": ratio(times["constant"], times["data"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--placement", default="device", choices=["device", "host"])
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    host_memory.keep_freed()
    jax.config.update("jax_default_matmul_precision", "highest")
    with tempfile.TemporaryDirectory() as folder:
        path = options.store or Path(folder) / "store"
        if options.store is None:
            write_store(path)
        found = measure(open_store(path), options)
    for name, rates in found["records_per_second"].items():
        print(f"{name:9} {rates['wall']['median']:8.1f} records/s, {rates['cpu']['median']:8.1f} per processor second")
    print("ratio     " + ", ".join(f"{clock} {r['median']:.3f} ({r['low']:.3f} to {r['high']:.3f})"
                                   for clock, r in found["ratio"].items()))  # fmt: skip
    save(options.output, "pretraining", {"options": asked(options), **found})


if __name__ == "__main__":
    main()
