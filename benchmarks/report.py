"""Seconds for the report of a whole benchmark: 10 models x 14 head runs x 3 modes x 2 seeds = 840 runs.

    python -m benchmarks.report [--models=10] [--seeds=2] [--records=2000] [--labels=40] [--figures] [--profile]

The runs are made up (about 0.65 MB of predictions each). "first" computes 1,000 replicates of every label of every run;
"second" is the same report again, which finds them in its cells/; "kept" is a first report of runs that kept them, as
evaluate leaves them; "figures" is the second with figures and page. One run of each: they change what they find.
"""

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from benchmarks.timing import Times, asked, ratio, save, timed
from configs.report import get_config
from ecgjax import host_memory, metrics, tasks
from ecgjax.evaluation import cell_values
from ecgjax.evaluation.collect import REPORT_CELLS
from ecgjax.jobs import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("models", 10), ("seeds", 2), ("records", 2000), ("labels", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    host_memory.keep_freed()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = time.perf_counter()
        count = _make(folder / "runs", arguments)
        print(f"{count} runs made in {time.perf_counter() - started:.1f} s")
        _make(
            folder / "warm", argparse.Namespace(models=1, seeds=1, records=arguments.records, labels=arguments.labels)
        )
        _report(folder / "warm", figures=False)
        seconds: dict[str, Times] = {}
        for name in ("first", "second", "kept", *(["figures"] if arguments.figures else [])):
            if name == "kept":
                _move_replicates(folder / "runs")
            with cProfile.Profile() if arguments.profile else nullcontext() as profile:
                seconds[name] = taken = timed(lambda name=name: _report(folder / "runs", name == "figures"))
            print(f"{name:8s} {taken.wall:6.1f} s wall, {taken.cpu:6.1f} s of processors", flush=True)
            if profile is not None:
                pstats.Stats(profile).sort_stats("tottime").print_stats(15)
        sizes = {
            path.name: path.stat().st_size / 1e6 for path in (folder / "runs" / "report").iterdir() if path.is_file()
        }
        print(", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))
    ratios = {
        f"report of {count} runs: first / {words} (one run each)": ratio([seconds["first"]], [seconds[name]])
        for name, words in (("second", "again"), ("kept", "of runs that kept their replicates"))
    }
    found = {"runs": count, "seconds": {name: taken._asdict() for name, taken in seconds.items()}, "ratios": ratios}
    save(arguments.output, "report", {"options": asked(arguments), **found})


def _report(folder: Path, figures: bool) -> None:
    config = get_config()
    config.runs, config.figures = str(folder), figures
    with redirect_stdout(StringIO()):
        report.run(config, None)


def _move_replicates(folder: Path) -> None:
    """From the report to the runs."""
    found = json.loads((folder / "report" / "results.json").read_text())
    for file, run in {row["cells"][0]: row["run"] for row in found["rows"] if row["role"] != "mean"}.items():
        target = folder.parent / run / cell_values.REPLICATES
        target.mkdir()
        (folder / "report" / REPORT_CELLS / file).rename(target / file)


def _make(folder: Path, arguments: argparse.Namespace) -> int:
    head_runs = list(dict.fromkeys(task.run for task in tasks.reported() if task.row))
    rng = np.random.default_rng(0)
    count = 0
    for head_run in head_runs:
        reported = [task for task in tasks.reported() if task.run == head_run]
        labels, kinds, carved = _labels(reported, arguments.labels)
        shape = arguments.records, len(labels)
        targets = (rng.random(shape) < np.geomspace(0.3, 0.005, len(labels))).astype(np.float32)
        targets[:2] = [[1], [0]]
        for model in range(arguments.models):
            for mode in ("finetune", "frozen", "linear"):
                for seed in range(arguments.seeds):
                    logits = targets * (1 + 0.05 * model) + rng.standard_normal(shape, dtype=np.float32)
                    path = folder / f"model{model}" / head_run / mode / str(seed)
                    _write(path, f"model{model}", head_run, mode, seed, targets, logits, labels, kinds, carved)
                    count += 1
    return count


def _labels(reported: list[tasks.Task], most: int) -> tuple[list[str], list[str], dict[str, list[int]]]:
    """As many labels as wanted, shared between the tasks carved from a head run."""
    kinds = ["classification"] * (most - 5) + ["regression"] * 5 if reported[0].run == "mimic" else []
    kinds = kinds or ["classification"] * most
    carved = {}
    for k, task in enumerate(reported):
        columns = [i for i, kind in enumerate(kinds) if (kind == "regression") == (task.metric == "mae")]
        carved[task.name] = columns if k == 0 else columns[k % 2 :: 2] or columns
    return [f"label_{i}" for i in range(most)], kinds, carved


def _write(path, model, head_run, mode, seed, targets, logits, labels, kinds, carved) -> None:
    path.mkdir(parents=True)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    values = metrics.auroc(targets, scores)
    summaries = {}
    for name, columns in carved.items():
        metric = "auroc" if kinds[columns[0]] == "classification" else "mae"
        value = np.mean(values[columns]) if metric == "auroc" else np.mean(np.abs(scores - targets)[:, columns])
        task = tasks.TASKS[name]
        by_label = {labels[i]: {"value": values[i]} for i in columns}
        summaries[name] = {
            "row": task.row,
            "category": task.category,
            metric: {"value": float(value), "labels": by_label},
        }
    data = {"source": head_run, "fingerprint": head_run, "label_set": "all", "sampling_rate": 500.0, "synthetic": False}
    results = {"format": 1, "model": model, "arguments": {}, "weights": model, "seen": False, "task": head_run}
    results |= {"run": head_run, "mode": mode, "protocol": "fixed", "absent": "skip", "seed": seed, "ecgjax": "0"}
    results |= {"data": data, "records": {"test": len(targets)}, "parameters": {"trained": 1, "total": 1}}
    results |= {"seconds": {"training": 3600.0, "testing": 10.0}, "tasks": summaries}
    config = {"job": "evaluate", "model": model, "task": head_run, "mode": mode, "seed": seed, "epochs": 100}
    environment = {"versions": {"ecgjax": "0"}, "devices": ["TPU v5 lite"]}
    for name, content in (("results", results), ("config", config), ("environment", environment)):
        (path / f"{name}.json").write_text(json.dumps(content))
    ids = np.array([f"{k:08d}" for k in range(len(targets))])
    arrays = {"record_id": ids, "patient_id": ids, "labels": np.array(labels), "kinds": np.array(kinds)}
    np.savez(path / "predictions.npz", targets=targets, scores=scores, **arrays)
    (path / "DONE").write_text("")


if __name__ == "__main__":
    main()
