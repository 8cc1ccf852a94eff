"""Crops cut and resampled on the device, against resampy in a loader.

    python -m benchmarks.resampling [--output=FILE]

Both produce batches of 64 crops of 12 leads from the same int16 records at 500 Hz. The loader cuts one crop, makes it
float32 millivolts and calls `resampy.resample`, as the benchmark's reference does in each worker process; ecgjax runs
one jitted program per batch, as it does inside a training step. The two take turns; medians of the rounds.
"wall" compares elapsed time (XLA uses all cores, one loader process uses one), "cpu" the CPU time of the process.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import resampy

from benchmarks.timing import Times, in_turns, ratio, save, summary
from ecgjax import host_memory
from ecgjax.data.cutter import Cutter
from ecgjax.data.device_dataset import DeviceDataset

BATCH, RATE, RECORDS, SAMPLES = 64, 500.0, 128, 5000
CASES = ((2.5, 240.0), (2.5, 100.0), (10.0, 240.0), (10.0, 100.0))
ROUNDS = 5


def compare(signals: np.ndarray, seconds: float, rate_out: float) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    window = int(seconds * RATE)
    record = rng.integers(0, RECORDS, BATCH).astype(np.int32)
    start = rng.integers(0, SAMPLES - window + 1, BATCH).astype(np.int32)
    first = np.arange(RECORDS, dtype=np.int32) * SAMPLES
    dataset = DeviceDataset(jnp.asarray(signals.reshape(-1, 12)), jnp.asarray(first), jnp.full(RECORDS, 1e-3))
    cutter = Cutter(dataset, window, RATE, rate_out)
    cut = jax.jit(lambda cutter, item: cutter(item))
    item = {"record": record, "start": start}

    def device(repeats: int = 10) -> np.ndarray:
        for _ in range(repeats):
            crops = jax.block_until_ready(cut(cutter, item))
        return np.asarray(crops)

    def loader() -> np.ndarray:
        crops = []
        for r, s in zip(record, start, strict=True):
            crop = signals[r, s : s + window].astype(np.float32) * np.float32(1e-3)
            crops.append(resampy.resample(crop, RATE, rate_out, axis=0))
        return np.stack(crops)

    difference = float(np.abs(device() - loader()).max())  # the first call compiles both
    times = in_turns({"ecgjax": device, "resampy": loader}, ROUNDS, warm=0)
    times["ecgjax"] = [Times(*(seconds / 10 for seconds in one)) for one in times["ecgjax"]]
    return {
        "seconds": seconds,
        "rate_out": rate_out,
        "max_difference_mv": difference,
        "crops_per_second": {
            name: summary([Times(*(BATCH / seconds for seconds in one)) for one in taken])
            for name, taken in times.items()
        },
        "ratio": ratio(times["resampy"], times["ecgjax"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="device-side cropping and resampling against resampy in a loader")
    parser.add_argument("--output", type=Path, help="JSON")
    output = parser.parse_args().output
    signals = np.random.default_rng(0).integers(-1000, 1000, (RECORDS, SAMPLES, 12)).astype(np.int16)
    host_memory.keep_freed()
    rows = [compare(signals, *case) for case in CASES]
    print(
        f"{'crop':>8} {'500 ->':>8} {'ecgjax crops/s':>15} {'resampy crops/s':>16} {'wall ratio':>11} {'cpu ratio':>10}"
    )
    for row in rows:
        rates = [row["crops_per_second"][name]["wall"]["median"] for name in ("ecgjax", "resampy")]
        wall, cpu = (row["ratio"][clock]["median"] for clock in ("wall", "cpu"))
        case = f"{row['seconds']:6.1f} s {row['rate_out']:5.0f} Hz"
        print(f"{case} {rates[0]:15,.0f} {rates[1]:16,.0f} {wall:10.1f}x {cpu:9.1f}x")
    ratios = {
        f"crops of {row['seconds']:g} s, 500 to {row['rate_out']:g} Hz: resampy's time / ecgjax's": row["ratio"]
        for row in rows
    }
    save(output, "resampling", {"rows": rows, "ratios": ratios})


if __name__ == "__main__":
    main()
