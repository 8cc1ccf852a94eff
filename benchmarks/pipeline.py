"""Random 2.5 s crops per second from a store on disk, resampled 500 -> 240 Hz, for both placements of the signals.

    python -m benchmarks.pipeline [--store=DIR] [--output=FILE]

Without --store, 1,000 random 10 s records are written to a temporary store (120 MB int16). Batches of 64; medians of
five rounds taken in turn:

    host read       plan and crops from the memory maps, int16, nothing on the device
    host path       training iterator with placement="host": read, transfer in the background, cut and resample
    device path     training iterator with placement="device"
    same batch      the device path's program on one and the same batch: what it would reach if planning cost nothing

Ratios are to "same batch". The page cache is warm: the store was just written, or read in the first round.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from benchmarks.timing import Times, in_turns, ratio, save, summary
from ecgjax import host_memory
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


def measure(store: Store) -> dict[str, list[Times]]:
    """Seconds per crop of every way."""
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
    times = in_turns(ways, ROUNDS)  # the round before them compiles and fills the page cache
    host_batches.close()
    return {
        name: [Times(*(seconds / (steps * BATCH) for seconds in one)) for one in taken] for name, taken in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="random crops per second from a store")
    parser.add_argument(
        "--store", type=Path, help="a store with at least 64 records of 2.5 s; a random one is written without"
    )
    parser.add_argument("--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    host_memory.keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.store
        if path is None:
            path = Path(folder) / "store"
            write_store(path)
        times = measure(open_store(path))
    rates = {
        name: summary([Times(*(1 / seconds for seconds in one)) for one in taken]) for name, taken in times.items()
    }
    ratios = {
        f"{name}, to one and the same batch": ratio(times["same batch"], times[name]) for name in list(times)[:-1]
    }
    print(f"{'':12} {'crops/s':>9} {'per processor s':>16}")
    for name, rate in rates.items():
        print(f"{name:12} {rate['wall']['median']:9,.0f} {rate['cpu']['median']:16,.0f}")
    save(arguments.output, "pipeline", {"crops_per_second": rates, "ratios": ratios})


if __name__ == "__main__":
    main()
