"""The whole benchmark: ten models, fourteen trainings, each pretrained model fine-tuned, frozen and linear.

    python -m ecgjax.main --config=configs/sweep_paper.py --workdir=runs/paper \
        --config.weights=WEIGHTS --config.stores=STORES [--config.dry_run=True]

WEIGHTS holds a folder of converted weights for each pretrained model (WEIGHTS/ecg_founder, python -m convert_weights),
or the workdir of its pretraining; STORES a store for each data source (STORES/ptbxl, python -m ecgjax.prepare). With
--config.skip_missing=True what is not there is left out. --config=configs/sweep_paper.py:3 has three seeds.
On a SLURM array: --config.shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT, numbered from 1.
"""

from ml_collections import ConfigDict

from ecgjax.errors import UserError
from ecgjax.sweep.axes import axis, chain, product
from ecgjax.sweep.settings import sweep_config

PRETRAINED = ("ecg_founder", "ecg_jepa", "st_mem", "merl_resnet", "ecgfm_ked", "hubert_ecg", "ecg_fm", "ecg_cpc")
SUPERVISED = ("s4", "net1d")
RUNS = (
    *("ptb", "ningbo", "cpsc2018", "cpsc_extra", "georgia", "chapman", "sph", "code15_diag"),
    *("ptbxl_super", "ptbxl_sub", "ptbxl_all", "echonext", "zzu_pecg", "mimic"),
)


def get_config(seeds: str = "1") -> ConfigDict:
    """The config with a number of seeds."""
    if not (seeds.isdecimal() and int(seeds) > 0):
        raise UserError(f"configs/sweep_paper.py:{seeds}: expected a number of seeds, such as 3")
    models = chain(
        product(axis("model", PRETRAINED), axis("mode", ["finetune", "frozen", "linear"])),
        product(axis("model", SUPERVISED), axis("mode", ["scratch"])),
    )
    config = sweep_config(product(axis("seed", range(int(seeds))), axis("task", RUNS), models))
    config.weights = "weights"
    config.stores = "stores"
    return config
