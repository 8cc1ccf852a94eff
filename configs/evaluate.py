"""One model on one task: fine-tuned, frozen or linear; tested with 95 % intervals.

    python -m ecgjax.main --config=configs/evaluate.py:model=ecg_cpc,task=synthetic,mode=frozen --workdir=runs/frozen

as it stands needs nothing: random initialisation, embedded synthetic ECGs. Name weights with --config.weights=DIR (a
folder of ecgjax weights, or the workdir of a pretraining run), your own data with task=folder and
--config.data.store=STORE.
Modes: finetune (linear head, layer-wise rates), finetune_attention, frozen (attention head), linear, linear_exact
(fitted to the optimum instead of trained by steps: docs/exact_probes.md), scratch.
Kill it and start the same command again: it continues where it was.
"""

from ml_collections import ConfigDict, config_dict

from configs.choice import parse
from ecgjax import models, switches, tasks
from ecgjax.training.supervised import get_mode


def get_config(choice: str = "") -> ConfigDict:
    """The config of "model=...,task=...,mode=..."; what is left out is ecg_cpc, synthetic, frozen."""
    defaults = {"model": "ecg_cpc", "task": "synthetic", "mode": "frozen"}
    chosen = parse(choice, defaults, "configs/evaluate.py")
    mode = get_mode(chosen["mode"])
    head_run, _ = tasks.get(chosen["task"])
    arguments = models.create(chosen["model"]).arguments

    config = ConfigDict({"job": "evaluate", **chosen})
    config.weights = config_dict.placeholder(str)  # folder of ecgjax weights; none: random initialisation
    # Of the model, e.g. --config.model_arguments.width=64; none: those of the weights, else the published ones.
    config.model_arguments = ConfigDict(
        # None by default are lengths that follow from another argument, such as the contract's seconds.
        {key: config_dict.placeholder(float if value is None else type(value)) for key, value in arguments.items()}
    )
    # "fixed": undefined classes are left out of macro averages, crops start anywhere, a missing sample counts as 0.
    # "paper", as the authors' code: they count 0.5, the last start is never drawn, resampling spreads missing samples.
    config.protocol = "fixed"
    # One of these differences by itself, against the protocol: see ecgjax/switches.py; none: the protocol's.
    config.switches = ConfigDict({name: config_dict.placeholder(str) for name in switches.CHOICES})
    config.seed = 0

    config.data = ConfigDict()
    config.data.store = config_dict.placeholder(str)  # from ecgjax.prepare; none: the task's embedded data
    config.data.labels = config_dict.placeholder(str)  # label set of the store; none: the task's
    config.data.ratio = 1.0  # share of the training records, for label efficiency
    config.data.subset = "nested"  # how they are chosen: nested, or paper (one record per patient, also at ratio 1)
    config.data.validation = "cut"  # by the same ratio, or full
    # Of order and windows of the batches; none: config.seed. Set, cells of several seeds see the same batches.
    config.data.seed = config_dict.placeholder(int)
    config.data.crops = "random"  # a new window of each record in every epoch, or fixed: one for all epochs
    # To what the features of a frozen encoder are rounded before its head reads them: bfloat16 halves a feature cache.
    config.data.features = "float32"
    config.data.placement = "auto"  # where signals lie: "device", "host", or the device if they fit

    # Fewer leads, worse signals: docs/leads_and_noise.md. By default recordings are read as they are.
    config.signal = ConfigDict()
    config.signal.leads = "12"  # that are there: 12, 6 (limb), 4, 3, 2, one such as I or V2, or a list: I,II,V5
    # What stands for the others: zero, repeat (the nearest), derive (exactly, else fitted in the training folds), or
    # dropout (zero, and training sees random sets of leads).
    config.signal.policy = "zero"
    config.signal.swap = ""  # electrodes in each other's places, e.g. RA/LA or RA/LL,V1/V2
    config.signal.baseline_wander = config_dict.placeholder(float)  # signal-to-noise ratio, dB; none: there is none
    config.signal.powerline = config_dict.placeholder(float)
    config.signal.mains = 50.0  # or 60; Hz
    config.signal.electrode_motion = config_dict.placeholder(float)
    config.signal.missing = 0.0  # share of each window's time in which all leads are lost
    config.signal.disturbed = "test"  # where swap, noise and losses are: test, or all splits
    config.signal.seed = 0  # of noise and random leads; none of the training's other draws

    # Computes the insides of blocks again in the backward pass: less memory, about a third more arithmetic.
    config.remat = False
    config.epochs = head_run.epochs
    config.batch_size = 64
    config.learning_rate = 1e-3  # constant; of the head
    config.rate_factor = 0.1  # from one of the model's groups to the next, head to first layers
    config.weight_decay = 1e-3  # on every parameter

    if mode.exact:  # epochs, rates, decay and crops above are not used
        config.probe = ConfigDict()
        config.probe.strengths = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the L2 penalty, per record
        config.probe.choose = "together"  # the strength by validation: one for all labels, or one for "each" label
        config.probe.classification = "logistic"  # or ridge: squared error on the labels
        config.probe.solver = "auto"  # of logistic regression: newton, lbfgs, or by the number of channels

    config.interval = ConfigDict()
    config.interval.kind = "percentile"  # or basic, bca
    config.interval.level = 0.95
    config.interval.replicates = 1000
    config.interval.unit = "record"  # what is resampled: record (the paper) or patient

    config.figures = True  # learning curve, and every label's value, as PNG and SVG; cells of a sweep have none
    config.save_crops = False  # also the windows' predictions in predictions.npz
    config.log_every = 10  # steps
    return config
