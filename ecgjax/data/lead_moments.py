"""How the leads of a store go together: mean products of pairs of leads over its training folds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgjax.data.store import NAN, Store
from ecgjax.errors import UserError

MOST_RECORDS = 2000
"""Spread evenly over the training records; 132 coefficients need no more."""


class Moments(NamedTuple):
    """Attributes: (12, 12) mean products, mV^2, each record about its own means; and the records they are from."""

    products: NDArray[np.float64]
    records: int


def training_moments(store: Store, most: int = MOST_RECORDS) -> Moments:
    """Of records of the training folds; validation and test records, and labels, are never read.

    A sample counts where all leads are known.

    Args:
        store: the data.
        most: records.

    Raises:
        UserError: no training record has a sample.
    """
    rows = store.rows("train")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))] if len(rows) else rows
    products, count, records = np.zeros((12, 12)), 0, 0
    steps = store.records["microvolt_per_bit"].to_numpy()
    for row in rows:
        raw = store.raw(int(row))
        known = raw[~((raw == NAN) if store.dtype == "int16" else np.isnan(raw)).any(axis=1)]
        if not len(known):
            continue
        signal = known.astype(np.float64) * (1.0 if store.dtype == "float32" else steps[row] / 1000)
        signal -= signal.mean(axis=0)
        products += signal.T @ signal
        count, records = count + len(known), records + 1
    if not count:
        raise UserError(f"{store.path}: no sample of all leads in the training folds; expected one to derive leads by")
    return Moments(products / count, records)
