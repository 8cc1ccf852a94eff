r"""The trainings of a study of label efficiency as one sweep: shares 1 to 1/128 of the training records.

    python -m ecgjax.main --config=configs/sweep_label_efficiency.py:echonext --workdir=runs/shares \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]
    python -m ecgjax.main --workdir=runs/echonext --config.data.store=STORES/echonext --config.runs=runs/shares \
        --config=configs/label_efficiency.py:task=echonext,models=s4:scratch+ecg_jepa:linear \
        --config.models.ecg_jepa.weights=WEIGHTS/ecg_jepa

The second command finds its trainings in the sweep, whatever processes and machines made them, fits the curves and
draws them; a report of runs/ shows them too. Any task can be named.
"""

from ml_collections import ConfigDict

from configs.sweep_paper import PRETRAINED
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

RATIOS = tuple(2.0**-k for k in range(8))


def get_config(task: str = "echonext") -> ConfigDict:
    """The config of a task."""
    models = chain(
        fixed({"model": "s4", "mode": "scratch"}), product(axis("model", PRETRAINED), axis("mode", ["linear"]))
    )
    shares = product(axis("data.ratio", RATIOS), axis("seed", range(1)))
    config = sweep_config(product(fixed({"task": task}), shares, models))
    config.weights = "weights"
    config.stores = "stores"
    return config
