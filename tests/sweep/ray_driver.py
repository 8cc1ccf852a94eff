"""A sweep on a Ray cluster in a process of its own: python -m tests.sweep.ray_driver WORKDIR STORE ADDRESS.

Its cells write to WORKDIR/runs.txt when they begin and end, and that of seed 1 ends only when WORKDIR/release is there.
"""

import os
import sys
import time
from pathlib import Path

from ecgjax.jobs import sweep
from ecgjax.training.interrupt import Interrupt
from tests.sweep import stub


def run_cell(config, folder):
    workdir = folder.parents[1]
    _write(workdir, "begin", folder)
    with Interrupt() as interrupt:
        while config.seed == 1 and not (workdir / "release").exists():
            if interrupt.signal is not None:
                (folder / "saved").write_text(str(interrupt.exit_code))
                raise SystemExit(interrupt.exit_code)
            time.sleep(0.02)
    stub.run_cell(config, folder)
    _write(workdir, "end", folder)


def _write(workdir, what, folder):
    import ray

    with open(workdir / "runs.txt", "a") as file:
        file.write(f"{what} {folder.name} {os.getpid()} {ray.get_runtime_context().get_node_id()}\n")


def config(store, address, **changes):
    return stub.config(store, **{"executor": "ray", "ray.address": address, **changes})


if __name__ == "__main__":
    sweep.run(config(sys.argv[2], sys.argv[3]), Path(sys.argv[1]), run_cell)
