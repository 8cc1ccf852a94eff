"""Linear probes of layers: logistic regression on fixed features, its strength chosen on validation records."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.evaluation import exact_linear
from ecgjax.evaluation.metrics import macro_auroc

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for the L2 penalty on standardised features, per record."""


def probe(
    train: tuple[ArrayLike, ArrayLike],
    validation: tuple[ArrayLike, ArrayLike],
    test: ArrayLike,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[NDArray[np.float32], float]:
    """Fits one probe per penalty on the training records and keeps the one with the best validation macro AUROC.

    Args:
        train: (records, channels) features and (records, classes) targets of 0, 1 or NaN.
        validation: the same of other records.
        test: (records, channels) features.
        penalties: to choose from.

    Returns:
        (records, classes) logits of the test records, and the chosen penalty.
    """
    path = exact_linear.logistic(np.asarray(train[0], np.float32), np.asarray(train[1], np.float32), penalties)
    targets = np.asarray(validation[1])
    scores = [macro_auroc(targets, path.predict(np.asarray(validation[0]), i)) for i in range(len(penalties))]
    best = int(np.nanargmax(scores)) if not np.isnan(scores).all() else len(penalties) - 1
    return path.predict(np.asarray(test), best).astype(np.float32), penalties[best]
