r"""Fewer leads: models x lead sets x policies on a task, trained, validated and tested on those leads.

    python -m ecgjax.main --config=configs/sweep_leads.py:ptbxl_super --workdir=runs/leads \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]
    python -m ecgjax.main --config=configs/robustness.py --config.runs=runs/leads

The second command draws the curves against the number of leads. Any task can be named, and what is compared:
:TASK,models=merl_vit:linear_exact+s4:scratch,sets=6+3+I,policies=zero+derive.
"""

from ml_collections import ConfigDict

from configs import choice
from configs.sweep_paper import PRETRAINED
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

SETS = ("6", "3", "2", "I", "V2")
"""Below twelve; the limb leads, the Challenge's three and two, a watch's, one chest lead."""
POLICIES = ("zero", "repeat", "derive", "dropout")

FILE = "configs/sweep_leads.py"


def get_config(wanted: str = "") -> ConfigDict:
    """The config of "TASK,models=...,sets=...,policies=..."; what is left out is ptbxl_super and all of them."""
    defaults = {
        "task": "ptbxl_super",
        "models": "+".join(("s4:scratch", *PRETRAINED)),
        "sets": "+".join(SETS),
        "policies": "+".join(POLICIES),
    }
    chosen = choice.parse(wanted, defaults, FILE, alone="task")
    policies = choice.some_of(chosen["policies"], POLICIES, FILE)
    leads = chain(
        fixed({"signal.leads": "12"}),
        # One model for any leads: trained with dropout, tested on each of the sets.
        fixed({"signal.leads": "12", "signal.policy": "dropout"}) if "dropout" in policies else (),
        product(axis("signal.leads", chosen["sets"].split("+")), axis("signal.policy", policies)),
    )
    config = sweep_config(product(fixed({"task": chosen["task"]}), choice.models(chosen["models"]), leads))
    config.weights = "weights"
    config.stores = "stores"
    return config
