"""The config of any sweep: its axes, and how it is run."""

from ml_collections import ConfigDict, config_dict

from configs import evaluate
from ecgjax.sweep.axes import Axes


def sweep_config(axes: Axes) -> ConfigDict:
    """A sweep's config: all but its axes as it is by default."""
    config = ConfigDict({"job": "sweep"})
    config.axes = axes  # a cell for each point; see ecgjax.sweep.axes
    config.common = common_fields()  # fields of configs/evaluate.py for all cells, e.g. --config.common.epochs=10
    config.common.figures = False  # of each cell: they take longer than all else that ends it; a report has its own
    config.weights = config_dict.placeholder(str)  # folder with weights by model name; none: random initialisation
    config.stores = config_dict.placeholder(str)  # folder with stores by data source, e.g. STORES/ptbxl
    config.skip_missing = False  # leave out the cells whose weights or store are not there, instead of refusing
    config.cells = config_dict.placeholder(str)  # where cells are kept, to share them between sweeps; none: workdir
    config.scratch = config_dict.placeholder(str)  # with a bucket: local folder for what is under way; none: the cache
    config.shard = config_dict.placeholder(str)  # I/N: this process does the I-th part of N, for job arrays
    config.features = "auto"  # of frozen encoders: cache (kept on disk), recompute, or what costs less, see dry_run
    config.features_folder = config_dict.placeholder(str)  # where; none: beside each store, as STORE.features
    config.features_gigabytes = config_dict.placeholder(float)  # of one encoder and store at most; none: what is free
    config.retries = 1  # of a cell that failed, after all others
    config.executor = "local"  # one unit of cells after the other in this process; or ray: many at once, on a cluster
    config.ray = _ray()
    config.dry_run = False  # only print the plan: cells, groups, estimates of FLOPs, memory and time
    return config


def _ray() -> ConfigDict:
    """For executor=ray: the cluster, and what each unit of cells (one program) gets of it."""
    config = ConfigDict()
    config.address = config_dict.placeholder(str)  # HOST:PORT; none: $RAY_ADDRESS, one on this machine, or a new one
    config.cpus = 1.0
    config.gpus = config_dict.placeholder(float)  # neither these nor tpus: one GPU, or TPU chip, where there are any
    config.tpus = config_dict.placeholder(float)  # chips
    config.restarts = 5  # of a unit whose worker or node was lost
    return config


def common_fields() -> ConfigDict:
    """The fields of configs/evaluate.py that any model has, with no value."""
    config = evaluate.get_config()
    with config.unlocked():
        del config["job"], config["model_arguments"]
    return _emptied(config)


def _emptied(config: ConfigDict) -> ConfigDict:
    emptied = ConfigDict()
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            emptied[key] = _emptied(value)
        else:
            emptied[key] = config_dict.placeholder(config.get_type(key))
    return emptied
