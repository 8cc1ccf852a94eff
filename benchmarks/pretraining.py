"""Pretraining records/s with the data path, against the same update on one batch that is cut already.

    python -m benchmarks.pretraining [--paper] [--rounds=8] [--steps=8] [--placement=device]

Blocks of steps of both kinds alternate in one process, on the embedded synthetic ECGs: "data" draws a batch, cuts it
from int16 signals, resamples 500 to 240 Hz and updates, as the job does; "constant" updates on finished crops. Prints
one line of JSON; the aim is a ratio of 0.95 or more. "wall" is elapsed time, "cpu" the CPU time of the process, which
other work on the machine disturbs less. --paper: width 512, 4 layers, crops of 10 s, batch 64.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from configs.cpc_pretrain import get_config
from ecgjax.data.batches import training_iterator
from ecgjax.data.embedded import synthetic_store
from ecgjax.data.store import open_store
from ecgjax.models import registry
from ecgjax.pretraining import registry as objectives
from ecgjax.pretraining import step as pretraining
from ecgjax.pretraining.objective import Setup
from ecgjax.training import optimiser


class Rates(NamedTuple):
    """Records per second of elapsed and of CPU time."""

    wall: float
    cpu: float


def constant_cutter(item: jax.Array) -> jax.Array:
    return item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--placement", default="device", choices=["device", "host"])
    options = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    config = get_config("paper" if options.paper else "reduced")
    store = open_store(synthetic_store())
    batches, cutter = training_iterator(
        store,
        store.rows("train"),
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

    def block(state: pretraining.State, cutter: Any, item: Callable[[], Any]) -> tuple[pretraining.State, Rates]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(options.steps):
            state = update(state, cutter, item())
        jax.block_until_ready(state)
        records = options.steps * config.batch_size
        return state, Rates(records / (time.perf_counter() - wall), records / (time.process_time() - cpu))

    kinds = {"data": (cutter, lambda: next(batches)), "constant": (same, lambda: finished)}
    for kind in kinds.values():  # compiles
        state, _ = block(state, *kind)
    rates: dict[str, list[Rates]] = {name: [] for name in kinds}
    for number in range(options.rounds):
        # Alternating which is first: what drifts in the machine then touches both alike.
        for name in sorted(kinds, reverse=number % 2 == 0):
            state, rate = block(state, *kinds[name])
            rates[name].append(rate)

    def ratio(time: str) -> float:
        pairs = zip(rates["data"], rates["constant"], strict=True)
        return statistics.median(getattr(data, time) / getattr(constant, time) for data, constant in pairs)

    print(
        json.dumps(
            {
                "device": jax.devices()[0].device_kind,
                **vars(options),
                "batch_size": config.batch_size,
                "width": config.model.width,
                "records_per_second": {name: statistics.median(r.wall for r in found) for name, found in rates.items()},
                "ratio": {time: ratio(time) for time in Rates._fields},
            }
        )
    )


if __name__ == "__main__":
    main()
