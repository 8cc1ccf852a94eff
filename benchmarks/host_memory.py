"""What it brings on a CPU that a step's freed memory stays with the process (`ecgjax.host_memory`), and what it costs.

    python -m benchmarks.host_memory [--models=s4,ecg_cpc,merl_resnet,merl_vit] [--batch=8] [--steps=5] [--rounds=3]
        [--output=FILE]

Fine-tuning steps as in `benchmarks.models`, in fresh processes that take turns: "kept" as ecgjax's jobs do, "returned"
as glibc does by itself (MALLOC_ARENA_MAX at its own default, which the jobs leave alone). Milliseconds of processors,
those of the system among them, pages handed to the process in a step, and its peak resident memory, compilation
included. "s4" and "ecg_cpc" have width 32 and 2 layers, the others are the published ones.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import Times, asked, ratio, save, summary

SMALL = {"s4": {"width": 32, "layers": 2}, "ecg_cpc": {"width": 32, "layers": 2}}
WAYS = ("returned", "kept")


def child(name: str, batch: int, steps: int) -> dict[str, Any]:
    """Figures of every step, after two to warm up."""
    from ecgjax import host_memory

    kept = host_memory.keep_freed()
    import jax
    import numpy as np

    from benchmarks.models import OUTPUTS, programs
    from benchmarks.timing import timed
    from ecgjax.models import registry

    jax.config.update("jax_default_matmul_precision", "highest")
    encoder = registry.create(name, **SMALL.get(name, {}))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, encoder.samples, 12)).astype(np.float32)
    step, _ = programs(encoder, x, (rng.random((batch, OUTPUTS)) > 0.5).astype(np.float32))["finetune"]
    step()
    step()
    times, system, pages = [], [], []
    for _ in range(steps):
        before = resource.getrusage(resource.RUSAGE_SELF)
        times.append(timed(step))
        after = resource.getrusage(resource.RUSAGE_SELF)
        system.append(after.ru_stime - before.ru_stime)
        pages.append(after.ru_minflt - before.ru_minflt)
    return {"kept": kept, "times": times, "system": system, "pages": pages, "peak": after.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="s4,ecg_cpc,merl_resnet,merl_vit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.batch, options.steps)))
        return
    found: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in options.models.split(","):
            runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
            for number in range(options.rounds):
                for way in sorted(WAYS, reverse=number % 2 == 1):
                    runs[way].append(_run(name, way, cache, options))
            found[name], ratios[f"fine-tuning step of {name}, batch {options.batch}: returned / kept"] = _compare(runs)
            for way, row in found[name].items():
                print(
                    f"{name:12} {way:9} {row['ms']['cpu']['median']:7.0f} ms of processors, the system's "
                    f"{row['system_ms']:5.0f}; {row['pages']:8,.0f} pages a step; peak {row['peak_megabytes']:,.0f} MB",
                    flush=True,
                )
    save(options.output, "host_memory", {"options": asked(options), "models": found, "ratios": ratios})


def _run(name: str, way: str, cache: str, options: argparse.Namespace) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
    if way == "returned":
        environment["MALLOC_ARENA_MAX"] = str(8 * (os.cpu_count() or 1))
    command = [sys.executable, "-m", "benchmarks.host_memory", f"--child={name}"]
    command += [f"--batch={options.batch}", f"--steps={options.steps}"]
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    run = json.loads(answer.splitlines()[-1])
    if run["kept"] != (way == "kept"):
        raise SystemExit("not on this system: ecgjax.host_memory needs Linux with glibc")
    return run


def _compare(runs: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of both ways, and the ratio of the rounds' medians."""
    found, medians = {}, {}
    for way, ran in runs.items():
        times = [[Times(*one) for one in run["times"]] for run in ran]
        medians[way] = [Times(*(statistics.median(values) for values in zip(*one, strict=True))) for one in times]
        found[way] = {
            "ms": summary([one for run in times for one in run], 1e3),
            "system_ms": 1e3 * statistics.median(value for run in ran for value in run["system"]),
            "pages": statistics.median(value for run in ran for value in run["pages"]),
            "peak_megabytes": statistics.median(run["peak"] for run in ran),
        }
    memory = found["returned"]["peak_megabytes"] / found["kept"]["peak_megabytes"]
    return found, {**ratio(medians["returned"], medians["kept"]), "memory": {"median": memory}}


if __name__ == "__main__":
    main()
