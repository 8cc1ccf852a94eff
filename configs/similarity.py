"""How alike the layers of models are: CKA of every pair of layers, within a model and between models.

    python -m ecgjax.main --config=configs/similarity.py --config.models=ecg_cpc=runs/cpc,s4 --workdir=runs/similarity

as it stands compares two models with random weights on the embedded synthetic ECGs. Each model sees its own window of
the same records: their first seconds, at its own rate; a layer's tokens are averaged. Writes similarity.json and a map
of each pair. Probes: a linear classifier on every layer, to see where a task's labels can be read.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The config."""
    config = ConfigDict()
    config.job = "similarity"
    config.models = "ecg_cpc,s4"  # NAME or NAME=WEIGHTS, separated by commas
    config.seed = 0  # of random initialisations
    config.estimator = "unbiased"  # or biased; or minibatch, which holds for any number of records
    config.batch = config_dict.placeholder(int)  # records in a batch, for minibatch
    config.records = 5000  # at most, evenly spaced over the test and validation records
    config.batch_size = 32  # of forward passes
    config.probes = False  # also linear probes of every layer, trained on the training records

    config.data = ConfigDict()
    config.data.task = "synthetic"  # whose store, label set and splits are used
    config.data.store = config_dict.placeholder(str)  # from ecgjax.prepare; none: the task's embedded data
    config.data.labels = config_dict.placeholder(str)  # label set of the store; none: the task's
    config.probe_records = 5000  # training records of probes, at most
    return config
