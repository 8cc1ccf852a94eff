"""Random 2.5 s crops per second from a store on disk, resampled 500 -> 240 Hz, for both placements of the signals.

    python -m benchmarks.pipeline [--store=DIR] [--output=FILE.json]

Without --store, 1,000 random 10 s records are written to a temporary store (120 MB int16). Batches of 64, each row the
best of five rounds taken in turn:

    host read       plan and crops from the memory maps, int16, nothing on the device
    host path       training iterator with placement="host": read, transfer in the background, cut and resample
    device path     training iterator with placement="device"
    same batch      the device path's program on one and the same batch: what it would reach if planning cost nothing

"ratio" is to "same batch". The page cache is warm: the store was just written, or read in the first round.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.batches import training_iterator
from ecgjax.data.cutter import Cutter, HostCrops, Item
from ecgjax.data.recording import Recording
from ecgjax.data.store import Store, open_store
from ecgjax.data.store_writer import StoreWriter

BATCH, SECONDS, RATE_OUT, ROUNDS = 64, 2.5, 240.0, 5


def write_store(path: Path, records: int = 1000) -> None:
    rng = np.random.default_rng(0)
    with StoreWriter(path, source="random numbers", sampling_rate=500.0) as writer:
        for i in range(records):
            signal = rng.integers(-1000, 1000, (5000, 12)).astype(np.float32) * np.float32(1e-3)
            writer.add(Recording(f"r{i}", signal, 500.0, microvolt_per_bit=1.0), patient_id=f"p{i}", fold=0)
        writer.finish({})


def rates(store: Store) -> dict[str, float]:
    rows = np.arange(len(store.records))
    steps = max(4, min(60, len(rows) // BATCH * 4))
    epochs = (ROUNDS + 1) * steps  # more than is read
    cut = jax.jit(lambda cutter, item: cutter(item))

    def iterate(placement: str) -> tuple[Iterator[Item], Cutter]:
        return training_iterator(
            store,
            rows,
            seconds=SECONDS,
            sampling_rate=RATE_OUT,
            batch_size=BATCH,
            seed=0,
            epochs=epochs,
            placement=placement,
        )

    device_batches, device_cutter = iterate("device")
    host_batches, host_cutter = iterate("host")
    lengths = store.records["samples"].to_numpy()
    plan = BatchPlan(rows, lengths, window=device_cutter.window, batch_size=BATCH, seed=1, epochs=epochs)
    read, position, same = HostCrops(store, device_cutter.window), iter(range(len(plan))), next(device_batches)

    def through(batches: Iterator[Item], cutter: Cutter) -> Callable[[], object]:
        return lambda: jax.block_until_ready([cut(cutter, next(batches)) for _ in range(steps)][-1])

    ways: dict[str, Callable[[], object]] = {
        "host read": lambda: [read(plan[next(position)]) for _ in range(steps)],
        "host path": through(host_batches, host_cutter),
        "device path": through(device_batches, device_cutter),
        "same batch": lambda: jax.block_until_ready([cut(device_cutter, same) for _ in range(steps)][-1]),
    }
    best = dict.fromkeys(ways, 0.0)
    for i in range(ROUNDS + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if i:  # the first round compiles and fills the page cache
                best[name] = max(best[name], steps * BATCH / (time.perf_counter() - begin))
    host_batches.close()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="random crops per second from a store")
    parser.add_argument(
        "--store", type=Path, help="a store with at least 64 records of 2.5 s; a random one is written without"
    )
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.store
        if path is None:
            path = Path(folder) / "store"
            write_store(path)
        figures = rates(open_store(path))
    print(f"{'':12} {'crops/s':>9} {'ratio':>6}")
    for name, value in figures.items():
        print(f"{name:12} {value:9,.0f} {value / figures['same batch']:6.2f}")
    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} host cores, {platform.machine()}"
    text = json.dumps({"benchmark": "pipeline", "device": device, "crops_per_s": figures}, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
