"""Pretraining of any encoder by any objective it can sensibly be trained by.

    python -m ecgjax.main --config=configs/pretrain.py:objective=masked_clusters,model=s4 --workdir=runs/clusters

Objectives: cpc, supervised, and those of docs/pretraining.md. Several are added with weights, and share passes of the
encoder where they can: objective=cpc:1+supervised:0.5. What an objective cannot train is refused with the reason.
As it stands it takes the embedded synthetic ECGs and the published model: on a CPU give a small one, for example
--config.model_arguments.width=64. Evaluate with --config.weights=WORKDIR of configs/evaluate.py. Kill it and start the
same command again: it continues where it was.
"""

from ml_collections import ConfigDict, config_dict

from configs.choice import parse
from ecgjax import models
from ecgjax.pretraining import registry


def get_config(choice: str = "") -> ConfigDict:
    """The config of "objective=...,model=..."; what is left out is cpc and ecg_cpc."""
    defaults = {"objective": "cpc", "model": "ecg_cpc"}
    chosen = parse(choice, defaults, "configs/pretrain.py")
    arguments = models.create(chosen["model"]).arguments

    config = ConfigDict({"job": "pretrain", **chosen})
    # Of the model, e.g. --config.model_arguments.width=64; none: the published ones.
    config.model_arguments = ConfigDict(
        {key: config_dict.placeholder(float if value is None else type(value)) for key, value in arguments.items()}
    )
    # Of each objective, by its name; explained in the objective's file below ecgjax/pretraining.
    config.options = ConfigDict({name: registry.options(name) for name in registry.parse(chosen["objective"])})
    config.seed = 0

    config.data = ConfigDict()
    config.data.stores = "synthetic"  # folders, separated by commas; "synthetic" is the embedded set
    config.data.labels = config_dict.placeholder(str)  # for objective supervised; none: label set all, or the only one
    config.data.seconds = config_dict.placeholder(float)  # window that the encoder sees; none: the model's
    config.data.clip = 3.0  # mV; signals are clipped to +-clip (0: not at all)
    config.data.placement = "auto"  # where signals lie: "device", "host", or the device if they fit
    config.data.verify = True  # read all data once before the start and compare checksums

    # Computes the insides of blocks again in the backward pass: less memory, about a third more arithmetic.
    config.remat = False
    config.batch_size = 16
    # results.json has recordings seen and FLOPs in any case; either can be given in place of epochs.
    config.budget = ConfigDict()
    config.budget.epochs = 20.0  # how often each record is seen
    config.budget.recordings = config_dict.placeholder(int)  # seen in all
    config.budget.flops = config_dict.placeholder(float)  # of all updates, as lowered for a GPU before the compiler
    config.learning_rate = 1e-3
    config.weight_decay = 1e-2  # on every parameter; AdamW, betas 0.9 and 0.999
    config.schedule = "cosine"  # or constant, cosine_restarts, polynomial, inverse_square_root, linear
    config.warmup_steps = 0

    # In steps; 0: once an epoch.
    config.validate_every = 0
    config.validation_records = 4096  # at most so many of the validation fold
    config.monitor_records = 512  # of these, whose features' spread and rank tell of collapse; 0: not computed
    config.checkpoint_every = 100
    config.log_every = 10
    return config
