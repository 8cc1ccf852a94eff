"""What a sweep costs beyond the training in its cells, with cells that do nothing but leave a result.

    python -m benchmarks.sweep_overhead [--cells=3000] [--folder=DIR] [--output=FILE]

    plan        names of all cells, per cell, after the first of each model (ms)
    cell        lock, config, log, summary, status, collection of garbage: from one cell to the next (ms)
    resume      the same command again on the finished sweep, in a new process: start of Python, imports, planning,
                looking at every cell, tables (s; elapsed and CPU)

Fake cells write a config.json, results.json and DONE as an evaluation does; that is in "cell" as well. Targets: plan
and cell together below 50 ms, resume below 5 s. Means over the cells, of one run.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from benchmarks.timing import asked, save
from ecgjax.jobs import sweep
from ecgjax.sweep import plan as planning
from ecgjax.sweep import runner, summary
from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.settings import sweep_config
from ecgjax.sweep.status import Status

TARGET_CELL_MS, TARGET_RESUME_S = 50.0, 5.0
RESUME = (
    "import sys\nfrom pathlib import Path\nfrom ecgjax.jobs import sweep\n"
    "from benchmarks.sweep_overhead import config\n"
    "sweep.run(config(int(sys.argv[1])), Path(sys.argv[2]))"
)


def config(cells: int) -> ConfigDict:
    models = axis("model", ["ecg_cpc", "s4", "net1d", "merl_resnet", "ecg_founder"])
    rates = axis("learning_rate", [1e-4 * 2**i for i in range(10)])
    seeds = axis("seed", range(-(-cells // 100)))
    return sweep_config(product(fixed({}), models, axis("mode", ["linear", "frozen"]), rates, seeds)[:cells])


def fake(config: ConfigDict, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    labels = {f"label {i}": {"value": 0.7, "low": 0.6, "high": 0.8, "known": 10, "positives": 5} for i in range(70)}
    result = {"value": 0.7, "low": 0.6, "high": 0.8, "labels": labels}
    results = {
        "model": config.model,
        "arguments": {},
        "mode": config.mode,
        "records": {"train": 400},
        "seconds": {"training": 1.0},
        "best": {"score": 0.7},
        "tasks": {"synthetic": {"auroc": result}},
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "DONE").write_text("")


def measure(cells: int, folder: Path) -> dict[str, float]:
    importlib.import_module("ecgjax.jobs.evaluate")  # a real sweep has imported it when its cells run
    made = config(cells)
    planning.make(config(100))  # models are built and stores opened once
    started = time.perf_counter()
    plan = planning.make(made)
    planned = time.perf_counter() - started
    planning.claim(folder, made, plan)
    store = folder / sweep.CELLS
    started = time.perf_counter()
    with Status(plan.cells, folder / "status.json", stream=open(os.devnull, "w")) as status:
        runner.run(plan.cells, store, status, run_cell=fake)
    ran = time.perf_counter() - started
    assert all(summary.finished(store / cell.name) for cell in plan.cells)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    shown = subprocess.run([sys.executable, "-c", RESUME, str(cells), str(folder)], stdout=subprocess.PIPE, text=True)
    resumed = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shown.returncode == 0, shown.stdout
    assert f"{cells:,} cells; {cells:,} done already" in shown.stdout
    return {
        "plan_ms": 1e3 * planned / cells,
        "cell_ms": 1e3 * ran / cells,
        "resume_s": resumed,
        "resume_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(arguments.cells, Path(folder))
    print(f"{arguments.cells:,} cells, {os.cpu_count()} processors, jax {jax.__version__}")
    print(f"plan     {found['plan_ms']:8.2f} ms per cell")
    print(f"cell     {found['cell_ms']:8.2f} ms per cell   (with plan below {TARGET_CELL_MS:g})")
    print(f"resume   {found['resume_s']:8.2f} s, {found['resume_cpu_s']:.2f} s of CPU   (below {TARGET_RESUME_S:g})")
    share = {"wall": {"median": (found["plan_ms"] + found["cell_ms"]) / TARGET_CELL_MS}}
    ratios = {f"sweep of {arguments.cells:,} cells: plan and cell / the {TARGET_CELL_MS:g} ms allowed": share}
    save(arguments.output, "sweep_overhead", {"options": asked(arguments), **found, "ratios": ratios})


if __name__ == "__main__":
    main()
