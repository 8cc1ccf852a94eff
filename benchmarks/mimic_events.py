"""Streaming a laboratory table of MIMIC-IV's form against reading it whole with pandas: rows/s and peak memory.

    python -m benchmarks.mimic_events [--rows=2000000]

Both give the values of the targets' items near 2,000 ECGs. Each runs in a process of its own.
"""

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

T0 = 6_600_000_000
COLUMNS = (
    "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,valuenum,"
    "valueuom,ref_range_lower,ref_range_upper,flag,priority,comments\n"
)
# Two of five rows of labevents are of the items that targets need.
ITEMS = (50912, 51222, *range(40001, 40004))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--run", choices=("stream", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        began = time.perf_counter()
        rows, found = {"stream": stream, "pandas": whole}[options.run](options.folder)
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{options.run:8} {rows / seconds:12,.0f} rows/s {peak:8,.0f} MB peak  {found} values near an ECG")
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows)
        for run in ("stream", "pandas"):
            subprocess.run(
                [sys.executable, "-m", "benchmarks.mimic_events", f"--run={run}", f"--folder={folder}"], check=True
            )


def ecgs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(10_000_000, 10_002_000, 2000), T0 + rng.integers(0, 5 * 86400, 2000)


def write(folder: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "d_labitems.csv.gz").write_bytes(gzip.compress(b"itemid,label\n50912,Creatinine\n51222,Hemoglobin\n"))
    with gzip.open(folder / "labevents.csv.gz", "wt", compresslevel=6) as file:
        file.write(COLUMNS)
        for first in range(0, rows, 100_000):
            n = min(100_000, rows - first)
            subject, item = np.sort(rng.integers(10_000_000, 10_002_000, n)), rng.choice(ITEMS, n)
            store = pd.to_datetime(T0 + rng.integers(0, 5 * 86400, n), unit="s").strftime("%Y-%m-%d %H:%M:%S")
            value = np.round(rng.gamma(4, 3, n), 1)
            file.write(
                "".join(
                    f"{first + i},{s},,7,{j},P{s % 89},{t},{t},{v},{v},mg/dL,1.0,9.0,,ROUTINE,___\n"
                    for i, (s, j, t, v) in enumerate(zip(subject, item, store, value, strict=True))
                )
            )


def stream(folder: Path) -> tuple[int, int]:
    from ecgjax.data.sources.mimic_events import Ecgs, extract, moment
    from ecgjax.data.sources.mimic_files import locate
    from ecgjax.data.sources.mimic_tables import tables

    subject, when = ecgs()
    subjects = np.unique(subject)
    near = Ecgs(np.unique(moment(subject, when)), subjects, np.ones(len(subjects), np.int8))
    table = tables(locate(folder), ("omr", "vitalsign", "chartevents"))[0]
    found = extract(table, near, folder / "cache", quiet=True)
    return found.total, len(found.rows)


def whole(folder: Path) -> tuple[int, int]:
    frame = pd.read_csv(folder / "labevents.csv.gz", parse_dates=["storetime"])
    rows = len(frame)
    frame = frame[frame["itemid"].isin(ITEMS[:2])]
    frame["time"] = frame["storetime"].to_numpy("datetime64[s]").astype(np.int64)
    subject, when = ecgs()
    merged = frame.merge(pd.DataFrame({"subject_id": subject, "when": when}), on="subject_id")
    near = merged[(merged["time"] - merged["when"]).abs() <= 3600]
    return rows, near["labevent_id"].nunique()


if __name__ == "__main__":
    main()
