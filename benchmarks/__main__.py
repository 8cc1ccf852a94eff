"""Runs the benchmarks one after the other, keeps what they find in one JSON file, and makes a page of it.

    python -m benchmarks [--only=NAME,NAME] [--json=docs/benchmarks.json]
    python -m benchmarks --render [--json=docs/benchmarks.json]
    python -m benchmarks --list

Each benchmark (`benchmarks/suite.py`) is a process of its own. Its entry is written when it has ended and replaces the
one that the file has; others stay. `--only=models` is all of "models/...". Entries say on what machine, under what load
and with what versions they were made. `--render` writes the page and its plots beside the JSON. For the comparison with
torch, torch must be importable: `pip install --target=DIR torch`, then PYTHONPATH=DIR.

The whole takes hours on two cores. The exit status is 1 where a benchmark failed.
"""

import argparse
import importlib.util
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.suite import SUITE, Benchmark
from ecgjax.atomic import write_json

PACKAGES = ("ecgjax", "jax", "jaxlib", "flax", "optax", "numpy", "torch")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names, or what stands before their slash, with commas between")
    parser.add_argument("--json", type=Path, default=Path("docs/benchmarks.json"))
    parser.add_argument("--render", action="store_true", help="make the page; run nothing")
    parser.add_argument("--list", action="store_true", help="print names and commands; run nothing")
    options = parser.parse_args()
    names = choose(options.only)
    if names is None:
        known = sorted({name.partition("/")[0] for name in SUITE})
        parser.error(f"--only={options.only}: no such benchmark; expected of {', '.join(known)} (--list shows all)")
    if options.list:
        for name in names:
            print(f"{name:22} {command(SUITE[name])}")
        return 0
    if options.render:
        if not options.json.exists():
            parser.error(f"--json={options.json}: no such file; run some benchmarks first")
        for path in page.write(options.json):
            print(path)
        return 0
    failed = [name for name in names if not run(name, options.json)]
    if failed:
        print(f"not run to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def choose(only: str | None) -> list[str] | None:
    """The names meant, in the order of the suite; None: one is unknown."""
    if only is None:
        return list(SUITE)
    wanted = only.split(",")
    found = {part: [name for name in SUITE if part in (name, name.partition("/")[0])] for part in wanted}
    if not all(found.values()):
        return None
    return [name for name in SUITE if any(name in names for names in found.values())]


def command(benchmark: Benchmark) -> str:
    """As one types it."""
    return shlex.join(["python", "-m", f"benchmarks.{benchmark.module}", *benchmark.arguments])


def run(name: str, file: Path) -> bool:
    """Runs one and writes its entry; whether there is one."""
    benchmark = SUITE[name]
    missing = [package for package in benchmark.packages if importlib.util.find_spec(package) is None]
    print(f"== {name}: {command(benchmark)}", flush=True)
    if missing:
        print(f"needs {', '.join(missing)}, which is not installed", file=sys.stderr)
        return False
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        line = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *benchmark.arguments, f"--output={output}"]
        date, began, before = datetime.now(UTC), time.perf_counter(), os.getloadavg()[0]
        status = subprocess.run(line, check=False).returncode
        seconds, after = time.perf_counter() - began, os.getloadavg()[0]
        if status or not output.exists():
            print(f"{name}: exit status {status}{'' if output.exists() else ', no output'}", file=sys.stderr)
            return False
        found = json.loads(output.read_text())
    entry = {
        "command": command(benchmark),
        "date": date.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "load": [round(before, 1), round(after, 1)],
        "machine": machine(),
        "versions": versions(),
        "result": found,
    }
    entries = json.loads(file.read_text())["entries"] if file.exists() else {}  # read now: another may have written
    entries[name] = entry
    file.parent.mkdir(parents=True, exist_ok=True)
    known = [other for other in SUITE if other in entries]
    write_json(file, {"format": 1, "entries": {other: entries[other] for other in known}})
    return True


def machine() -> dict[str, Any]:
    """What it ran on. JAX's device is in the results: asking here would take it from the benchmarks."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
