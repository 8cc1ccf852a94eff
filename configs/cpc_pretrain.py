"""Pretraining of ECG-CPC by contrastive predictive coding.

    python -m ecgjax.main --config=configs/cpc_pretrain.py --workdir=runs/cpc

as it stands needs nothing: a reduced model on the embedded synthetic ECGs, two to three minutes on two CPU cores.

    python -m ecgjax.main --config=configs/cpc_pretrain.py:paper --workdir=runs/cpc --config.data.stores=HEEDB1,HEEDB2

is the full recipe. Any stores that ecgjax.prepare wrote can be named, in both. Kill it and start the same command
again: it continues where it was; SIGTERM and Ctrl-C save first (exit codes 143 and 130).
"""

from ml_collections import ConfigDict


def get_config(variant: str = "reduced") -> ConfigDict:
    """The config of a variant, "reduced" or "paper"."""
    if variant not in ("reduced", "paper"):
        raise ValueError(f"configs/cpc_pretrain.py:{variant}: no such variant; expected reduced or paper")
    paper = variant == "paper"
    config = ConfigDict()
    config.job = "pretrain"
    config.variant = variant
    config.seed = 0

    config.data = ConfigDict()
    config.data.stores = "" if paper else "synthetic"  # folders, separated by commas; "synthetic" is the embedded set
    config.data.seconds = 10.0 if paper else 4.0  # crop; 240 Hz and stride 2 make it 120 tokens per second
    config.data.clip = 3.0  # mV; signals are clipped to +-clip (0: not at all)
    config.data.placement = "auto"  # where signals lie: "device", "host", or the device if they fit
    config.data.verify = not paper  # read all data once before the start and compare checksums

    config.model = ConfigDict()
    config.model.width = 512 if paper else 128
    config.model.layers = 4 if paper else 2
    config.model.state_size = 8
    config.model.dropout = 0.2

    # Computes the insides of blocks again in the backward pass: less memory, about a third more arithmetic.
    config.remat = False
    config.batch_size = 64 if paper else 16
    config.epochs = 200 if paper else 20
    config.learning_rate = 1e-3
    config.weight_decay = 1e-3  # on every parameter
    config.schedule = "constant"  # or cosine, cosine_restarts, polynomial, inverse_square_root, linear
    config.warmup_steps = 0
    # The authors' code also shrinks rates by layer here (head 1, predictor 0.1, encoder 0.01 of the learning rate).
    config.layerwise = False

    # In steps; 0: once an epoch.
    config.validate_every = 0
    config.validation_records = 4096  # at most so many of the validation fold
    config.checkpoint_every = 1000 if paper else 100
    config.log_every = 50 if paper else 10
    return config
