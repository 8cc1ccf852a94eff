r"""Fewer leads: models x lead sets x policies on a task, trained, validated and tested on those leads.

    python -m ecgjax.main --config=configs/sweep_leads.py:ptbxl_super --workdir=runs/leads \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]
    python -m ecgjax.main --config=configs/robustness.py --config.runs=runs/leads

The second command draws the curves against the number of leads. Any task can be named.
"""

from ml_collections import ConfigDict

from configs.sweep_paper import PRETRAINED
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

SETS = ("6", "3", "2", "I", "V2")
"""Below twelve; the limb leads, the Challenge's three and two, a watch's, one chest lead."""
POLICIES = ("zero", "repeat", "derive", "dropout")


def get_config(task: str = "ptbxl_super") -> ConfigDict:
    """The config of a task."""
    models = chain(
        fixed({"model": "s4", "mode": "scratch"}), product(axis("model", PRETRAINED), axis("mode", ["linear"]))
    )
    leads = chain(
        fixed({"signal.leads": "12"}),
        # One model for any leads: trained with dropout, tested on each of the sets.
        fixed({"signal.leads": "12", "signal.policy": "dropout"}),
        product(axis("signal.leads", SETS), axis("signal.policy", POLICIES)),
    )
    config = sweep_config(product(fixed({"task": task}), models, leads))
    config.weights = "weights"
    config.stores = "stores"
    return config
