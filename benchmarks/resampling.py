"""Crops cut and resampled on the device, against resampy in a loader.

    python -m benchmarks.resampling [--output=FILE.json]

Both produce batches of 64 crops of 12 leads from the same int16 records at 500 Hz. The loader cuts one crop, makes it
float32 millivolts and calls `resampy.resample`, as the benchmark's reference does in each worker process; ecgjax runs
one jitted program per batch, as it does inside a training step. The two take turns, and the best of the rounds counts.
"wall" compares elapsed time (XLA uses all cores, one loader process uses one), "cpu" the CPU time of the process.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import resampy

from ecgjax.data.cutter import Cutter
from ecgjax.data.device_dataset import DeviceDataset

BATCH, RATE, RECORDS, SAMPLES = 64, 500.0, 128, 5000
CASES = ((2.5, 240.0), (2.5, 100.0), (10.0, 240.0), (10.0, 100.0))
ROUNDS = 5


def timed(function: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(signals: np.ndarray, seconds: float, rate_out: float) -> dict[str, float]:
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
    device_times, loader_times = [], []
    for _ in range(ROUNDS):
        device_times.append(timed(device))
        loader_times.append(timed(loader))
    (device_wall, device_cpu), (loader_wall, loader_cpu) = (
        np.min(times, axis=0) for times in (device_times, loader_times)
    )
    return {
        "seconds": seconds,
        "rate_out": rate_out,
        "max_difference_mv": difference,
        "device_crops_per_s": 10 * BATCH / device_wall,
        "resampy_crops_per_s": BATCH / loader_wall,
        "ratio_wall": 10 * loader_wall / device_wall,
        "ratio_cpu": 10 * loader_cpu / device_cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="device-side cropping and resampling against resampy in a loader")
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    output = parser.parse_args().output
    signals = np.random.default_rng(0).integers(-1000, 1000, (RECORDS, SAMPLES, 12)).astype(np.int16)
    rows = [compare(signals, *case) for case in CASES]
    print(
        f"{'crop':>8} {'500 ->':>8} {'ecgjax crops/s':>15} {'resampy crops/s':>16} {'wall ratio':>11} {'cpu ratio':>10}"
    )
    for row in rows:
        print(
            f"{row['seconds']:6.1f} s {row['rate_out']:5.0f} Hz {row['device_crops_per_s']:15,.0f}"
            f" {row['resampy_crops_per_s']:16,.0f} {row['ratio_wall']:10.1f}x {row['ratio_cpu']:9.1f}x"
        )
    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} host cores, {platform.machine()}"
    text = json.dumps({"benchmark": "resampling", "device": device, "rows": rows}, indent=2)
    print(text)
    if output is not None:
        output.write_text(text + "\n")


if __name__ == "__main__":
    main()
