"""Streaming a laboratory table of MIMIC-IV's form against reading it whole with pandas: rows/s and peak memory.

    python -m benchmarks.mimic_events [--rows=2000000] [--repeats=3] [--output=FILE]

Both give the values of the targets' items near 2,000 ECGs. Each runs in processes of its own, in turns; medians.
"""

import argparse
import gzip
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.timing import Times, asked, ratio, save, summary, timed

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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--run", choices=("stream", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        found: list[int] = []
        taken = timed(lambda: found.extend({"stream": stream, "pandas": whole}[options.run](options.folder)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"times": taken, "megabytes": peak, "rows": found[0], "values": found[1]}))
        return
    runs: dict[str, list[dict[str, Any]]] = {"stream": [], "pandas": []}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows)
        for _ in range(options.repeats):
            for name in runs:
                shutil.rmtree(Path(folder) / "cache", ignore_errors=True)
                command = [sys.executable, "-m", "benchmarks.mimic_events", f"--run={name}", f"--folder={folder}"]
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                runs[name].append(json.loads(answer.splitlines()[-1]))
    times = {name: [Times(*run["times"]) for run in ran] for name, ran in runs.items()}
    megabytes = {name: statistics.median(run["megabytes"] for run in ran) for name, ran in runs.items()}
    for name, ran in runs.items():
        rate = statistics.median(run["rows"] / run["times"][0] for run in ran)
        print(f"{name:8} {rate:12,.0f} rows/s {megabytes[name]:8,.0f} MB peak  {ran[0]['values']} values near an ECG")
    what = f"laboratory table of {options.rows:,} rows: pandas / streaming"
    memory = {"median": megabytes["pandas"] / megabytes["stream"]}
    ratios = {what: {**ratio(times["pandas"], times["stream"]), "memory": memory}}
    seconds = {name: summary(taken) for name, taken in times.items()}
    found_ = {"options": asked(options), "seconds": seconds, "megabytes": megabytes, "ratios": ratios}
    save(options.output, "mimic_events", found_)


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
