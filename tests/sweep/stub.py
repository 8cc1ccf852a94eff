"""What stands for an evaluation where only the sweep around it is tested.

python -m tests.sweep.stub WORKDIR STORE SECONDS runs the sweep `config` with it, in a process of its own.
"""

import json
import os
import sys
import time
from pathlib import Path

from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.settings import sweep_config

S4 = {"model": "s4", "mode": "scratch", "model_arguments.width": 8, "model_arguments.layers": 1}
CPC = {"model": "ecg_cpc", "model_arguments.width": 8, "model_arguments.layers": 1}


def config(store, axes=None, **changes):
    axes = product(fixed(S4), axis("seed", range(6))) if axes is None else axes
    made = sweep_config(axes)
    small = {"common.data.store": str(store), "common.data.labels": "labels", "common.epochs": 1}
    made.update_from_flattened_dict({**small, **changes})
    return made


def run_cell(config, folder, value=0.75):
    """Leaves what the sweep reads of a run."""
    plain = json.loads(json.dumps(config.to_dict()))
    results = {
        "model": config.model,
        "arguments": {},
        "mode": config.mode,
        "records": {"train": 64},
        "seconds": {"training": 2.0},
        "best": {"score": value + config.seed / 100},
        "tasks": {"synthetic": {"auroc": {"value": value, "low": value - 0.1, "high": value + 0.1}}},
    }
    (folder / "config.json").write_text(json.dumps(plain))
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "DONE").write_text("")


def main(workdir, store, seconds):
    from ecgjax.jobs import sweep

    def slow(config, folder):
        with open(f"{workdir}-runs.txt", "a") as file:
            file.write(f"{os.getpid()} {folder.name}\n")
        time.sleep(float(seconds))
        run_cell(config, folder)

    sweep.run(config(store), Path(workdir), slow)


if __name__ == "__main__":
    main(*sys.argv[1:])
