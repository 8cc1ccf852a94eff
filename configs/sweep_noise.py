r"""Worse signals: models trained on recordings as they are, tested under noise, losses and swapped electrodes.

    python -m ecgjax.main --config=configs/sweep_noise.py:ptbxl_super --workdir=runs/noise \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]
    python -m ecgjax.main --config=configs/robustness.py --config.runs=runs/noise

The second command draws the curves against the signal-to-noise ratio. Any task can be named, and what is compared:
:TASK,models=merl_vit:linear_exact+s4:scratch,ratios=24+12+0,kinds=powerline+missing.
"""

from ml_collections import ConfigDict

from configs import choice
from configs.sweep_paper import PRETRAINED
from ecgjax.errors import UserError
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

RATIOS = (24.0, 18.0, 12.0, 6.0, 0.0, -6.0)
"""dB; those of MIT-BIH's noise stress test (Moody, Muldrow, Mark, Computers in Cardiology 1984)."""
SHARES = (0.1, 0.25, 0.5)
SWAPS = ("RA/LA", "RA/LL", "LA/LL", "V1/V2", "V2/V3")
NOISE = ("baseline_wander", "powerline", "electrode_motion")
FILE = "configs/sweep_noise.py"


def get_config(wanted: str = "") -> ConfigDict:
    """The config of "TASK,models=...,ratios=...,kinds=..."; what is left out is ptbxl_super and all of them."""
    defaults = {
        "task": "ptbxl_super",
        "models": "+".join(("s4:scratch", *PRETRAINED)),
        "ratios": "+".join(f"{ratio:g}" for ratio in RATIOS),
        "kinds": "+".join((*NOISE, "missing", "swap")),
    }
    chosen = choice.parse(wanted, defaults, FILE, alone="task")
    try:
        ratios = [float(ratio) for ratio in chosen["ratios"].split("+")]
    except ValueError as error:
        raise UserError(f"{FILE}:{wanted}: ratios={chosen['ratios']}; expected numbers (dB), such as 24+0") from error
    values = {**dict.fromkeys(NOISE, ratios), "missing": SHARES, "swap": SWAPS}
    kinds = choice.some_of(chosen["kinds"], tuple(values), FILE)
    conditions = chain(fixed({}), *(axis(f"signal.{kind}", values[kind]) for kind in kinds))
    config = sweep_config(product(fixed({"task": chosen["task"]}), choice.models(chosen["models"]), conditions))
    config.weights = "weights"
    config.stores = "stores"
    return config
