"""Compiles every program for chips that need not be there, and says what each costs and whether it fits.

    python -m ecgjax.main --config=configs/compile_check.py --workdir=runs/v5e --config.topology=v5e:2x2

Topologies: v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2 and larger slices (v5e:8x8), h100:N, and local, which also runs and
times each program on the devices of this machine. TPUs and GPUs need
pip install 'ecgjax[aot]', no accelerator. A check that is started again goes on where it was.
"""

from ml_collections import ConfigDict

from ecgjax import models


def get_config() -> ConfigDict:
    """The config."""
    config = ConfigDict({"job": "compile_check"})
    config.topology = "v5e:2x2"
    config.models = tuple(models.names())
    config.steps = ("features", "linear", "fused", "finetune")
    config.pretraining = True  # ECG-CPC's update as in configs/cpc_pretrain.py:paper, over all devices
    config.bootstrap = True  # a block of replicates of one class
    config.batch_size = 64  # over all devices
    config.dtype = "float32"  # of activations: float32 (products in full), or bfloat16 for models that have it
    config.remat = False  # the insides of blocks are computed again in the backward pass
    # Of the compiler for TPUs: 0 is its own; -1 compiles about ten times faster and keeps nothing in on-chip memory.
    config.effort = -1.0
    config.largest = False  # also the largest batch that one chip holds, for every model and step
    config.compilation_cache = False  # a program taken from there would not be compiled
    return config
