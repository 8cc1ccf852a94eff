"""Several stores as one, for training without labels: batches mix their records as if they lay in one store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.store import Store, open_store
from ecgjax.errors import UserError


def open_stores(paths: Sequence[Path]) -> Store:
    """Opens stores as one; a single one is returned as it is.

    Raises:
        UserError: as `open_store`, none or one twice, or they differ in sampling rate, dtype or unit.
    """
    stores = [open_store(path) for path in paths]
    if not stores:
        raise UserError("no store is named; expected at least one folder that ecgjax.prepare wrote")
    for i, store in enumerate(stores):
        if store.path in [other.path for other in stores[:i]]:
            raise UserError(f"{store.path}: is named twice; expected each store once")
        for name in ("sampling_rate", "dtype", "unit"):
            first, this = stores[0].meta[name], store.meta[name]
            if first != this:
                raise UserError(
                    f"{store.path}: {name} is {this}, that of {stores[0].path} is {first}; "
                    "expected stores prepared alike (see --rate and --dtype of ecgjax.prepare)"
                )
    return stores[0] if len(stores) == 1 else StoreUnion(stores)


class StoreUnion(Store):
    """Stores of one sampling rate and dtype, one after the other; a record's id has its store's name before it.

    Labels stay with the single stores: `label_sets` is empty.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = list(stores)
        self._begin = np.cumsum([0, *(len(store) for store in stores)])
        self.path = Path(" + ".join(str(store.path) for store in stores))
        self.meta = {"source": [store.meta["source"] for store in stores], "unit": stores[0].meta["unit"]}
        names = [f"{i}-{store.path.name}/" for i, store in enumerate(stores)]
        self.records = pd.concat(
            [s.records.assign(record_id=name + s.records["record_id"]) for name, s in zip(names, stores, strict=True)],
            ignore_index=True,
        )
        self.sampling_rate, self.dtype = stores[0].sampling_rate, stores[0].dtype
        self.fingerprint = hashlib.sha256(" ".join(s.fingerprint for s in stores).encode()).hexdigest()[:16]
        self._targets, self._vocabulary = {}, {}
        self._row = {name: i for i, name in enumerate(self.records["record_id"])}
        self._step = self.records["microvolt_per_bit"].to_numpy()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__

    def raw(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples of a record as stored, see `Store.raw`."""
        which = int(np.searchsorted(self._begin, row, side="right")) - 1
        return self._stores[which].raw(row - int(self._begin[which]), start, stop)

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split; each store's folds are its own."""
        return np.concatenate([b + s.rows(split) for b, s in zip(self._begin[:-1], self._stores, strict=True)])

    def verify(self) -> None:
        """Reads every file of every store and compares its checksum."""
        for store in self._stores:
            store.verify()
