"""A controlled comparison: objectives x encoders x budgets on the same data, in the same evaluation table.

    python -m ecgjax.main --config=configs/pretrain_ablation.py --workdir=runs/ablation

as it stands takes small encoders and the embedded synthetic ECGs, and shows the path: such scores say nothing about
patients. Combinations that make no sense are left out with the reason. The work directory gets pretraining/NAME,
pretraining.csv (recordings seen, FLOPs, spread of the features), evaluation (a sweep) and report. Copy this file to
compare anything else: points of `pretraining` are fields of configs/pretrain.py, those of `evaluation` of
configs/evaluate.py, put together with `ecgjax.sweep.axes`.
"""

from ml_collections import ConfigDict

from ecgjax.errors import UserError
from ecgjax.pretraining import registry
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.settings import sweep_config

# Small, of one width and depth.
ENCODERS = {
    "ecg_cpc": {"width": 64, "layers": 2, "seconds": 2.4},
    "s4": {"width": 64, "layers": 2, "seconds": 2.4},
    "merl_vit": {"width": 64, "layers": 2, "heads": 4, "seconds": 2.4},
    "st_mem": {"width": 64, "layers": 2, "heads": 4, "seconds": 2.4},
}
DECODER = {"width": 32, "layers": 1, "heads": 4}
OPTIONS = {"masked_autoencoder": DECODER, "jepa": DECODER, "masked_clusters": {"clusters": 50}}


def get_config(recordings: str = "2000") -> ConfigDict:
    """The config; "A+B" are the budgets in recordings seen."""
    budgets = recordings.split("+")
    if not all(budget.isdecimal() and int(budget) > 0 for budget in budgets):
        raise UserError(
            f"configs/pretrain_ablation.py:{recordings}: expected recordings seen, such as 2000 or 500+2000"
        )
    points = []
    for objective in registry.names():
        options = {f"options.{objective}.{key}": value for key, value in OPTIONS.get(objective, {}).items()}
        for model, arguments in ENCODERS.items():
            own = {f"model_arguments.{key}": value for key, value in arguments.items()}
            if objective == "cpc" and model in ("s4", "merl_vit"):
                own["model_arguments.causal"] = True
            for budget in map(int, budgets):
                name = f"{model} {objective} {budget}"
                common = {"name": name, "objective": objective, "model": model, "budget.recordings": budget}
                points.append({**common, **own, **options})

    config = ConfigDict({"job": "pretrain_ablation"})
    config.pretraining = chain(product(points, fixed({"seed": 0, "checkpoint_every": 1000})))
    config.evaluation = sweep_config(product(axis("mode", ["linear"]), fixed({"task": "synthetic"}), axis("seed", [0])))
    config.evaluation.common.epochs = 10
    return config
