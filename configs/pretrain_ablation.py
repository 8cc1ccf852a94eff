r"""A controlled comparison: objectives x encoders x budgets on the same data, in the same evaluation table.

    python -m ecgjax.main --config=configs/pretrain_ablation.py --workdir=runs/ablation

as it stands takes small encoders and the embedded synthetic ECGs, and shows the path: such scores say nothing about
patients. Combinations that make no sense are left out with the reason; each encoder without pretraining is compared
too. The work directory gets pretraining/NAME, pretraining.csv (recordings seen, FLOPs, spread of the features),
evaluation (a sweep) and report. What can be chosen, lists joined by +:

    --config=configs/pretrain_ablation.py:recordings=500+2000,objectives=cpc+jepa,encoders=ecg_cpc+merl_vit,\
        seeds=3,tasks=synthetic+folder,mode=linear_exact --config.common.data.stores=STORES/synthetic \
        --config.evaluation.stores=STORES --workdir=runs/ablation

recordings: budgets in recordings seen. seeds: pretrainings of each kind, each from another initialisation, evaluated
with the same seed. Copy this file to compare anything else: points of `pretraining` are fields of configs/pretrain.py,
those of `evaluation` of configs/evaluate.py, put together with `ecgjax.sweep.axes`.
"""

from ml_collections import ConfigDict

from configs import choice, report
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
CHOICES = {
    "recordings": "2000",
    "objectives": "+".join(registry.names()),
    "encoders": "+".join(ENCODERS),
    "seeds": "1",
    "tasks": "synthetic",
    "mode": "linear",
}


def get_config(wanted: str = "") -> ConfigDict:
    """The config of "recordings=A+B,objectives=...,encoders=...,seeds=N,tasks=...,mode=..."; or of "A+B" alone."""
    chosen = _chosen(wanted)
    budgets = [int(budget) for budget in chosen["recordings"].split("+")]
    seeds = range(int(chosen["seeds"]))
    encoders = {name: ENCODERS[name] for name in chosen["encoders"].split("+")}
    points, untrained = [], []
    for model, arguments in encoders.items():
        own = {f"model_arguments.{key}": value for key, value in arguments.items()}
        untrained.append({"name": f"{model} untrained", "model": model, **own})
        for objective in chosen["objectives"].split("+"):
            options = {f"options.{objective}.{key}": value for key, value in OPTIONS.get(objective, {}).items()}
            causal = {"model_arguments.causal": True} if objective == "cpc" and model in ("s4", "merl_vit") else {}
            if causal:
                untrained.append({"name": f"{model} causal untrained", "model": model, **own, **causal})
            for budget in budgets:
                name = f"{model} {objective} {budget}"
                common = {"name": name, "objective": objective, "model": model, "budget.recordings": budget}
                points.append({**common, **own, **causal, **options})

    config = ConfigDict({"job": "pretrain_ablation"})
    config.pretraining = chain(product(points, axis("seed", seeds)))
    config.untrained = chain(product(untrained, axis("seed", seeds)))  # evaluated as they are initialised
    # Fields of configs/pretrain.py for all of them, for those that no point sets.
    config.common = ConfigDict({"data": {"stores": "synthetic"}, "batch_size": 16, "checkpoint_every": 1000})
    config.evaluation = sweep_config(product(axis("task", chosen["tasks"].split("+")), fixed({"mode": chosen["mode"]})))
    config.evaluation.common.epochs = 10
    config.report = report.get_config()
    config.report.weights_by_seed = True
    return config


def _chosen(wanted: str) -> dict[str, str]:
    file = "configs/pretrain_ablation.py"
    chosen = choice.parse(wanted, CHOICES, file, alone="recordings")
    numbers = chosen["recordings"].split("+")
    if not all(number.isdecimal() and int(number) > 0 for number in (*numbers, chosen["seeds"])):
        raise UserError(
            f"{file}:{wanted}: expected recordings seen, such as 2000 or 500+2000, and seeds=N with a number"
        )
    choice.some_of(chosen["encoders"], tuple(ENCODERS), file)
    choice.some_of(chosen["objectives"], registry.names(), file)
    return chosen
