r"""Worse signals: models trained on recordings as they are, tested under noise, losses and swapped electrodes.

    python -m ecgjax.main --config=configs/sweep_noise.py:ptbxl_super --workdir=runs/noise \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]
    python -m ecgjax.main --config=configs/robustness.py --config.runs=runs/noise

The second command draws the curves against the signal-to-noise ratio. Any task can be named.
"""

from ml_collections import ConfigDict

from configs.sweep_paper import PRETRAINED
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

RATIOS = (24.0, 18.0, 12.0, 6.0, 0.0, -6.0)
"""dB; those of MIT-BIH's noise stress test (Moody, Muldrow, Mark, Computers in Cardiology 1984)."""
SHARES = (0.1, 0.25, 0.5)
SWAPS = ("RA/LA", "RA/LL", "LA/LL", "V1/V2", "V2/V3")


def get_config(task: str = "ptbxl_super") -> ConfigDict:
    """The config of a task."""
    models = chain(
        fixed({"model": "s4", "mode": "scratch"}), product(axis("model", PRETRAINED), axis("mode", ["linear"]))
    )
    conditions = chain(
        fixed({}),
        *(axis(f"signal.{kind}", RATIOS) for kind in ("baseline_wander", "powerline", "electrode_motion")),
        axis("signal.missing", SHARES),
        axis("signal.swap", SWAPS),
    )
    config = sweep_config(product(fixed({"task": task}), models, conditions))
    config.weights = "weights"
    config.stores = "stores"
    return config
