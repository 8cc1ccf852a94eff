"""How much labelled data models need: trainings on shares of the records, fitted curves, data needs against a baseline.

    python -m ecgjax.main --config=configs/label_efficiency.py --workdir=runs/label_efficiency

as it stands needs nothing: two reduced models with random weights on the embedded synthetic ECGs, some minutes on two
CPU cores. The paper's study, with fine-tuned foundation models against S4 trained from scratch:

    python -m ecgjax.main --workdir=runs/echonext --config.data.store=STORE --config.data.subset=paper \
        --config=configs/label_efficiency.py:task=echonext_label_efficiency,models=s4:scratch+ecg_jepa:finetune \
        --config.models.ecg_jepa.weights=DIR

Any task can be named. Each training is an ordinary evaluation in a folder of its own; finished ones are skipped, so
kill it and start the same command again. --config.cells=DIR shares them with another study, e.g. of more models;
--config.runs=DIR takes finished runs of the same configs from anywhere below DIR, e.g. those of
configs/sweep_label_efficiency.py, and trains what is not there.
"""

from ml_collections import ConfigDict, config_dict

from configs import evaluate
from configs.choice import parse
from ecgjax.errors import UserError

_OF_A_MODEL = ("model", "mode", "weights", "model_arguments", "learning_rate", "rate_factor")
_REDUCED = {"s4": {"width": 32, "layers": 2}, "ecg_cpc": {"width": 32, "layers": 2}}


def get_config(choice: str = "") -> ConfigDict:
    """The config of "task=...,models=MODEL:MODE+MODEL:MODE...", the first model being the baseline."""
    defaults = {"task": "synthetic", "models": "s4:scratch+ecg_cpc:finetune"}
    chosen = parse(choice, defaults, "configs/label_efficiency.py")
    reduced = not choice
    pairs = [name.partition(":")[::2] for name in chosen["models"].split("+")]
    models = [model for model, _ in pairs]
    cells = {
        # A model that is there in two modes is told by both.
        model if models.count(model) == 1 else f"{model}_{mode}": evaluate.get_config(
            f"model={model},task={chosen['task']},mode={mode or 'finetune'}"
        )
        for model, mode in pairs
    }
    if len(cells) < len(pairs):
        raise UserError(f"configs/label_efficiency.py:{choice}: a model is there twice in one mode")

    config = next(iter(cells.values())).copy_and_resolve_references()
    config.job = "label_efficiency"
    for name in (*_OF_A_MODEL, "seed", "save_crops"):
        del config[name]
    del config.data["ratio"]
    # Of each model, e.g. --config.models.ecg_cpc.weights=DIR; what is not here is the same for all.
    config.models = ConfigDict({key: {name: cell[name] for name in _OF_A_MODEL} for key, cell in cells.items()})
    config.baseline = next(iter(cells))  # whose training records are counted
    config.ratios = (1.0, 1 / 2, 1 / 4, 1 / 8) if reduced else tuple(2.0**-k for k in range(8))
    config.seeds = (0,)  # errors are averaged over them; another seed is another nested subset, too
    config.at = (250, 500, 1000)  # numbers of the baseline's records at which needs are compared; and all it has
    config.cells = config_dict.placeholder(str)  # folder of the trainings; none: WORKDIR/cells
    config.runs = config_dict.placeholder(str)  # folder with finished runs, such as a sweep's, to use instead
    if reduced:
        config.epochs, config.batch_size, config.at = 8, 16, (100, 200)
        config.data.validation = "full"  # an eighth of 60 records is too few to choose an epoch by
        for name, arguments in _REDUCED.items():
            config.models[name].model_arguments.update(arguments)
            config.models[name].learning_rate = 3e-3
    return config
