"""What each difference between the benchmark's code and what was meant does to one model's value on one task.

    python -m ecgjax.main --config=configs/audit.py:model=st_mem,task=ptbxl_super,mode=finetune,seeds=3 \
        --config.weights=WEIGHTS --config.stores=STORES --workdir=runs/audit [--config.dry_run=True]

is a sweep (all its fields and habits, docs/sweeps.md) of the model under protocol "fixed", with each switch set to the
paper's choice by itself, under "paper", and, where the model has one, all of it with its authors' input contract. Then
audit.md, audit.csv and audit.json say by how much each value differs from that of "fixed", with intervals on the same
resamples of the same test records. As it stands it takes the embedded synthetic ECGs. What the switches are, and which
differences cannot be switches: docs/audit.md.
"""

from ml_collections import ConfigDict

from configs.choice import parse
from ecgjax.errors import UserError
from ecgjax.evaluation import audit
from ecgjax.sweep.axes import axis, product
from ecgjax.sweep.settings import sweep_config


def get_config(choice: str = "") -> ConfigDict:
    """The config of "model=...,task=...,mode=...,seeds=..."; what is left out is st_mem, synthetic, finetune, 1."""
    defaults = {"model": "st_mem", "task": "synthetic", "mode": "finetune", "seeds": "1"}
    chosen = parse(choice, defaults, "configs/audit.py")
    seeds = chosen.pop("seeds")
    if not (seeds.isdecimal() and int(seeds) > 0):
        raise UserError(f"configs/audit.py:{choice}: seeds={seeds}; expected a number of seeds, such as 3")
    variants = [{**chosen, **variant.fields} for variant in audit.variants(**chosen)]
    config = sweep_config(product(axis("seed", range(int(seeds))), tuple(variants)))
    config.job = "audit"
    config.interval = ConfigDict({"level": 0.95, "replicates": 1000, "kind": "percentile", "unit": "record", "seed": 0})
    return config
