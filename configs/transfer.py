"""Trained in one hospital, tested in another: a train x test matrix over the labels that both have.

    python -m ecgjax.main --config=configs/transfer.py:model=ecg_cpc,mode=frozen --config.weights=DIR \
        --config.stores=ptbxl=STORE,georgia=STORE,sph=STORE --workdir=runs/transfer

Stores are those of ecgjax.prepare, each with a name of your choice. Their labels meet in the common terms of
ecgjax/data/terms.csv (--config.vocabulary=FILE adds rows of yours). Recordings that are in two stores are found and
left out of the training side. Each training is an ordinary evaluation in a folder of its own; finished ones are
skipped, so kill it and start the same command again. What is written, and the rules: docs/transfer.md.
"""

from ml_collections import ConfigDict, config_dict

from configs import evaluate

_OTHERWISE = ("task", "save_crops")


def get_config(choice: str = "") -> ConfigDict:
    """The config of "model=...,mode=..."; what is left out is ecg_cpc, frozen."""
    config = evaluate.get_config(",".join(filter(None, ("task=folder", choice))))
    config.job = "transfer"
    for name in _OTHERWISE:
        del config[name]
    for name in ("store", "labels", "ratio", "subset", "validation"):
        del config.data[name]

    config.stores = ""  # NAME=STORE,NAME=STORE,...
    config.train = ""  # names to train on, e.g. A,B; none: all that have training folds
    config.test = ""  # names to test on; none: all
    config.labels = ""  # NAME=LABEL_SET,...; none: "all", or the only one with rows in the table of terms
    config.vocabulary = config_dict.placeholder(str)  # CSV of your own rows, which come before those of terms.csv
    config.vocabulary_alone = False  # nothing but that CSV
    # What counts as a term: exact, narrower, broader, judgement. Positive labels of the others leave it unknown.
    config.exactness = "exact,narrower"
    config.least = 5  # records with a term, and without it, that it needs in the training folds and in the test fold
    config.overlap = "signal,table"  # how recordings in two stores are found; "" takes none out
    return config
