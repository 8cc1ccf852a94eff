"""A whole sweep in minutes, on embedded synthetic ECGs: two small models, three modes, two seeds, two learning rates.

    python -m ecgjax.main --config=configs/sweep_smoke.py --workdir=runs/smoke [--config.dry_run=True]

Kill it and start the same command again: finished cells are not repeated, the one under way is continued. Several
processes may be started in one directory; they share the cells. Copy this file to sweep over anything else: axes are
fields of configs/evaluate.py, put together with `ecgjax.sweep.axes`.
"""

from ml_collections import ConfigDict

from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

SMALL = {"model_arguments.width": 32, "model_arguments.layers": 1}


def get_config() -> ConfigDict:
    """The config."""
    seeds, rates = axis("seed", range(2)), axis("learning_rate", [1e-3, 1e-2])
    config = sweep_config(
        chain(
            product(fixed({"model": "s4", "mode": "scratch", **SMALL}), rates, seeds),
            product(fixed({"model": "ecg_cpc", **SMALL}), axis("mode", ["linear", "frozen"]), rates, seeds),
        )
    )
    config.common.epochs = 2
    config.common.interval.replicates = 200
    return config
