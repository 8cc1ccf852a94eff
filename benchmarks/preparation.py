"""Records prepared per second, against reading the same files with the bare wfdb library.

    python -m benchmarks.preparation [--records=2000] [--folder=DIR] [--output=FILE]

Writes WFDB records (format 16, 12 leads, 10 s at 500 Hz, 120 KB each) and a labels.csv, and takes turns at

    bare         wfdb.rdrecord of every record, float64 millivolts, nothing kept, one process
    our reader   the same with ecgjax.read_recording: the file checked first, canonical float32 leads
    workers N    python -m ecgjax.prepare folder: all of it, that is start, listing, reading, int16 shards, checksums,
                 checks, index and labels, for 1 process and for 2

Ratios are to "bare", by elapsed time and by processor time of all processes (on a machine with other work to do the
fairer one); medians of the rounds. The page cache is warm: the files were just written.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from benchmarks.timing import Times, ratio, save, summary
from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording

ROUNDS = 3
RATE, SAMPLES = 500, 5000


def write_files(folder: Path, records: int) -> None:
    """A random walk per lead, in steps of 1 uV; limb leads as Einthoven has them."""
    rng = np.random.default_rng(0)
    (folder / "raw").mkdir(parents=True)
    rows = ["record_id,AFIB"]
    for i in range(records):
        x = np.cumsum(rng.integers(-9, 10, (SAMPLES, 12)), axis=0)
        x -= np.rint(x.mean(axis=0)).astype(x.dtype)
        one, two = x[:, 0], x[:, 1]
        x[:, 2], x[:, 3], x[:, 4], x[:, 5] = two - one, -(one + two) // 2, one - two // 2, two - one // 2
        bits = x.clip(-32000, 32000).astype("<i2")
        bits.tofile(folder / "raw" / f"r{i:06d}.dat")
        sums = bits.sum(axis=0, dtype=np.int64).astype(np.int16)
        lines = [f"r{i:06d} 12 {RATE} {SAMPLES}"]
        lines += [
            f"r{i:06d}.dat 16 1000(0)/mV 16 0 {first} {total} 0 {lead}"
            for lead, first, total in zip(CANONICAL, bits[0], sums, strict=True)
        ]
        (folder / "raw" / f"r{i:06d}.hea").write_text("\n".join(lines) + "\n")
        rows.append(f"r{i:06d},{i % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def seconds(function: Callable[[], object]) -> Times:
    """Elapsed and CPU time, that of processes started included."""
    begin, used = time.perf_counter(), sum(os.times()[:4])
    function()
    return Times(time.perf_counter() - begin, sum(os.times()[:4]) - used)


def prepare(folder: Path, workers: int) -> None:
    line = [sys.executable, "-m", "ecgjax.prepare", "folder", f"--raw={folder / 'raw'}", f"--out={folder / 'store'}"]
    line += [f"--labels={folder / 'labels.csv'}", f"--workers={workers}"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder / "store")


def measure(folder: Path) -> dict[str, list[Times]]:
    files = sorted((folder / "raw").glob("*.hea"))

    def bare() -> None:
        for file in files:
            wfdb.rdrecord(str(file.with_suffix("")))

    def reader() -> None:
        for file in files:
            read_recording(file)

    ways: dict[str, Callable[[], None]] = {
        "bare": bare,
        "our reader": reader,
        "workers 1": lambda: prepare(folder, 1),
        "workers 2": lambda: prepare(folder, 2),
    }
    times: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(seconds(way))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="where the files go; removed afterwards")
    parser.add_argument("--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        write_files(folder, arguments.records)
        times = measure(folder)
    finally:
        shutil.rmtree(folder)
    rates = {
        name: summary([Times(*(arguments.records / seconds for seconds in one)) for one in taken])
        for name, taken in times.items()
    }
    ratios = {
        f"{arguments.records:,} WFDB records, {name}: bare wfdb's time / its own": ratio(times["bare"], taken)
        for name, taken in times.items()
        if name != "bare"
    }
    for name, rate in rates.items():
        print(f"{name:12} {rate['wall']['median']:8.1f} records/s, {rate['cpu']['median']:8.1f} per processor second")
    found = {"records": arguments.records, "wfdb": wfdb.__version__, "records_per_second": rates, "ratios": ratios}
    save(arguments.output, "preparation", found)


if __name__ == "__main__":
    main()
