r"""Worse signals: models trained on recordings as they are, tested under noise, losses and swapped electrodes.

    python -m ecgjax.main --config=configs/sweep_noise.py:ptbxl_super --workdir=runs/noise \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]
    python -m ecgjax.main --config=configs/robustness.py --config.runs=runs/noise

Fine-tuned models need not be trained again for each condition: configs/retest.py tests finished runs.
The second command draws the curves against the signal-to-noise ratio. Any task can be named, and what is compared:
:TASK,models=merl_vit:linear_exact+s4:scratch,ratios=24+12+0,kinds=powerline+missing.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import choice
from configs.sweep_paper import PRETRAINED
from ecgjax.errors import UserError
from ecgjax.sweep.axes import Axes, axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

RATIOS = (24.0, 18.0, 12.0, 6.0, 0.0, -6.0)
"""dB; those of MIT-BIH's noise stress test (Moody, Muldrow, Mark, Computers in Cardiology 1984)."""
SHARES = (0.1, 0.25, 0.5)
SWAPS = ("RA/LA", "RA/LL", "LA/LL", "V1/V2", "V2/V3")
NOISE = ("baseline_wander", "powerline", "electrode_motion")
FILE = "configs/sweep_noise.py"
DEFAULTS = {"ratios": "+".join(f"{ratio:g}" for ratio in RATIOS), "kinds": "+".join((*NOISE, "missing", "swap"))}


def get_config(wanted: str = "") -> ConfigDict:
    """The config of "TASK,models=...,ratios=...,kinds=..."; what is left out is ptbxl_super and all of them."""
    chosen = choice.parse(
        wanted, {"task": "ptbxl_super", "models": "+".join(("s4:scratch", *PRETRAINED)), **DEFAULTS}, FILE, alone="task"
    )
    conditions = chain(fixed({}), disturbances(chosen, wanted, FILE))
    config = sweep_config(product(fixed({"task": chosen["task"]}), choice.models(chosen["models"]), conditions))
    config.weights = "weights"
    config.stores = "stores"
    return config


def disturbances(chosen: Mapping[str, str], wanted: str, file: str) -> Axes:
    """Every disturbance by itself, at every strength.

    Args:
        chosen: with "ratios" and "kinds", see `DEFAULTS`.
        wanted: what was written, for the error.
        file: the config's, likewise.

    Raises:
        UserError: a ratio that is no number, or an unknown kind.
    """
    try:
        ratios = [float(ratio) for ratio in chosen["ratios"].split("+")]
    except ValueError as error:
        raise UserError(f"{file}:{wanted}: ratios={chosen['ratios']}; expected numbers (dB), such as 24+0") from error
    values = {**dict.fromkeys(NOISE, ratios), "missing": SHARES, "swap": SWAPS}
    return chain(
        *(axis(f"signal.{kind}", values[kind]) for kind in choice.some_of(chosen["kinds"], tuple(values), file))
    )
