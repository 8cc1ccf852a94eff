"""Regression targets in standard deviations from the mean of the training folds."""

from collections.abc import Mapping

import numpy as np

from ecgjax.data.preparation.source import LabelSet
from ecgjax.data.store import SPLITS, split_of
from ecgjax.data.store_files import Scales


def standardise(label_sets: Mapping[str, LabelSet], folds: np.ndarray) -> tuple[dict[str, LabelSet], dict[str, Scales]]:
    """Label sets with standardised regression targets, and the mean and SD of each class that this was done with.

    The SD is that of the population. A target that is constant, or unknown, in the training folds keeps its scale.
    """
    train = split_of(folds) == SPLITS.index("train")
    sets: dict[str, LabelSet] = {}
    scales: dict[str, Scales] = {}
    for name, (classes, targets, kinds) in label_sets.items():
        mean, sd = np.zeros(len(classes)), np.ones(len(classes))
        columns = [i for i, kind in enumerate(kinds) if kind == "regression"]
        found = np.array(targets, np.float32, copy=bool(columns) or None)
        for i in columns:  # one at a time: in float64, all targets of MIMIC-IV-ECG would be gigabytes
            values = np.asarray(targets[:, i], np.float64)
            known = values[train & ~np.isnan(values)]
            if len(known):
                mean[i], spread = known.mean(), known.std()
                sd[i] = spread if spread > 1e-12 * np.abs(known).max() else 1.0
            found[:, i] = (values - mean[i]) / sd[i]
        sets[name] = tuple(classes), found, tuple(kinds)
        scales[name] = mean, sd
    return sets, scales
