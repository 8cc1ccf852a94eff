"""Random 2.5 s crops per second from a store of several GB, against other ways to keep the same signals.

    python -m benchmarks.crops [--gigabytes=2] [--folder=DIR] [--output=FILE]

A crop is 1250 samples at a random place of a random 10 s record (500 Hz, 12 leads), as a fresh float32 array in
millivolts. `--gigabytes` is the size of the store; float32 is twice as much, and the folder needs five times as much.

    store           ecgjax.open_store: int16 memory maps, opened once
    reopened        one float32 memory map, opened and closed for every crop, as the benchmark's reference does
    hdf5            one contiguous int16 data set (if h5py is installed)
    arrayrecord     one int16 record per recording, uncompressed, one per group (if array_record is installed)

The ways take turns; medians of the rounds. Ratios are a way's time over the store's. The page cache is warm as far as
memory goes: the files were just written.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import Times, in_turns, ratio, save, summary
from ecgjax.data.recording import Recording
from ecgjax.data.store import Store, open_store
from ecgjax.data.store_writer import StoreWriter

SAMPLES, WINDOW, LEADS = 5000, 1250, 12
RECORD_BYTES = SAMPLES * LEADS * 2
CROPS, ROUNDS = 2000, 6

Crop = Callable[[int, int], np.ndarray]
"""(record, first sample) -> (WINDOW, LEADS) float32."""


def write_store(path: Path, records: int) -> Store:
    rng = np.random.default_rng(0)
    different = [rng.integers(-1000, 1000, (SAMPLES, LEADS)).astype(np.float32) * np.float32(1e-3) for _ in range(64)]
    with StoreWriter(path, source="random numbers", sampling_rate=500.0) as writer:
        for i in range(records):
            recording = Recording(f"r{i}", np.roll(different[i % 64], i, axis=0), 500.0, microvolt_per_bit=1.0)
            writer.add(recording, patient_id=f"p{i}", fold=0)
        writer.finish()
    return open_store(path)


def from_store(store: Store) -> Crop:
    scale = np.float32(store.records["microvolt_per_bit"].iloc[0] / 1000)
    return lambda record, start: store.raw(record, start, start + WINDOW) * scale


def reopened(folder: Path, store: Store) -> Crop:
    path = folder / "float32.dat"
    with open(path, "wb") as file:
        for record in range(len(store)):
            (store.raw(record) * np.float32(1e-3)).tofile(file)
    rows = len(store) * SAMPLES

    def crop(record: int, start: int) -> np.ndarray:
        first = record * SAMPLES + start
        return np.array(np.memmap(path, np.float32, "r", shape=(rows, LEADS))[first : first + WINDOW])

    return crop


def hdf5(folder: Path, store: Store) -> Crop:
    import h5py

    with h5py.File(folder / "signals.h5", "w") as file:
        signals = file.create_dataset("signals", (len(store) * SAMPLES, LEADS), "<i2")
        for record in range(len(store)):
            signals[record * SAMPLES : (record + 1) * SAMPLES] = store.raw(record)
    opened = h5py.File(folder / "signals.h5", "r")["signals"]

    def crop(record: int, start: int) -> np.ndarray:
        first = record * SAMPLES + start
        return opened[first : first + WINDOW] * np.float32(1e-3)

    return crop


def arrayrecord(folder: Path, store: Store) -> Crop:
    from array_record.python import array_record_module

    path = str(folder / "signals.array_record")
    writer = array_record_module.ArrayRecordWriter(path, "group_size:1,uncompressed")
    for record in range(len(store)):
        writer.write(store.raw(record).tobytes())
    writer.close()
    reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")

    def crop(record: int, start: int) -> np.ndarray:
        signal = np.frombuffer(reader.read([record])[0], "<i2").reshape(SAMPLES, LEADS)
        return signal[start : start + WINDOW] * np.float32(1e-3)

    return crop


def ways(folder: Path, store: Store) -> dict[str, Crop]:
    found = {"store": from_store(store), "reopened": reopened(folder, store)}
    for make in (hdf5, arrayrecord):
        try:
            found[make.__name__] = make(folder, store)
        except ImportError as error:
            print(f"{make.__name__} is left out: {error}")
    return found


def measure(found: dict[str, Crop], records: int) -> dict[str, list[Times]]:
    rng = np.random.default_rng(1)
    expected = found["store"](3, 17)
    for name, crop in found.items():
        np.testing.assert_allclose(crop(3, 17), expected, atol=1e-6, err_msg=name)
    times: dict[str, list[Times]] = {name: [] for name in found}
    for _ in range(ROUNDS):  # other places in each, or the second round would find them in the processor's cache
        drawn = rng.integers(records, size=CROPS), rng.integers(SAMPLES - WINDOW + 1, size=CROPS)
        round_ = [(int(record), int(start)) for record, start in zip(*drawn, strict=True)]
        for name, taken in in_turns({name: partial(_cut, crop, round_) for name, crop in found.items()}, 1, 0).items():
            times[name] += taken
    return times


def _cut(crop: Crop, places: list[tuple[int, int]]) -> None:
    for record, start in places:
        crop(record, start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where the files go; removed afterwards")
    parser.add_argument("--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    records = max(4, round(arguments.gigabytes * 1e9 / RECORD_BYTES))
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        times = measure(ways(folder, write_store(folder / "store", records)), records)
    finally:
        shutil.rmtree(folder)
    rates = {
        name: summary([Times(*(CROPS / seconds for seconds in one)) for one in taken]) for name, taken in times.items()
    }
    for name, rate in rates.items():
        print(f"{name:12} {rate['wall']['median']:9,.0f} crops/s, {rate['cpu']['median']:9,.0f} per processor second")
    ratios = {
        f"random crops from {arguments.gigabytes:g} GB: {name}'s time / the store's": ratio(taken, times["store"])
        for name, taken in times.items()
        if name != "store"
    }
    save(arguments.output, "crops", {"records": records, "crops_per_second": rates, "ratios": ratios})


if __name__ == "__main__":
    main()
