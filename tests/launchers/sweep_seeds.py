"""A sweep of six short cells, each a unit of its own, three in each of two shards: for the tests of launchers."""

from ml_collections import ConfigDict

from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.settings import sweep_config

SMALL = {"model": "ecg_cpc", "mode": "linear", "model_arguments.width": 16, "model_arguments.layers": 1}


def get_config() -> ConfigDict:
    """The config."""
    config = sweep_config(product(fixed(SMALL), axis("seed", range(6))))
    config.common.epochs = 1
    config.common.interval.replicates = 20
    return config
