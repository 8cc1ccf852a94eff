"""Scores of a unit's cells: validation and test windows through its program."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ecgjax.data.batches import evaluation_iterator
from ecgjax.data.cutter import Cutter, Item
from ecgjax.data.store import Store
from ecgjax.sweep.unit_state import UnderWay
from ecgjax.training.cached_features import FeatureSource

KEPT_BYTES = 4 << 30
"""Features of the validation windows that are kept in the host's memory; more are computed again in every epoch."""


def predicted(unit: UnderWay, split: str, *, best: bool) -> list[tuple[Item, list[tuple[Any, Any]]]]:
    """Batches of a split, each with scores and finiteness of every run."""
    predict = unit.program.predict
    if unit.cached is not None:
        source = unit.cached.source
        return [(_position(item), predict(unit.state, source, item, best)) for item in _items(unit, split)]
    if split == "validation" and unit.kept is None and _fits(unit):
        assert unit.program.features is not None
        unit.kept = [
            (_position(item), jax.device_get(unit.program.features(unit.source, item))) for item in _items(unit, split)
        ]
    if split == "validation" and unit.kept is not None:
        kept = FeatureSource(None, None, on_device=False)
        return [(item, predict(unit.state, kept, features, best)) for item, features in unit.kept]
    return [(_position(item), predict(unit.state, unit.source, item, best)) for item in _items(unit, split)]


def _items(unit: UnderWay, split: str) -> Iterator[Item]:
    batch_size = unit.runs[0].subject.config.batch_size
    if unit.cached is not None:
        return unit.cached.evaluation(_store(unit), _rows(unit, split), batch_size)
    assert isinstance(unit.source, Cutter)
    return evaluation_iterator(
        _store(unit), _rows(unit, split), unit.source, batch_size=batch_size, sharding=unit.sharding
    )


def _position(item: Item) -> Item:
    return {name: np.asarray(item[name]) for name in ("record", "start", "valid")}


def _fits(unit: UnderWay) -> bool:
    if unit.program.features is None:
        return False
    assert isinstance(unit.source, Cutter)
    item = next(iter(_items(unit, "validation")))
    shapes = jax.eval_shape(unit.program.features, unit.source, item)
    windows = (_store(unit).records["samples"].to_numpy()[_rows(unit, "validation")] // unit.source.window).sum()
    of_one = sum(leaf.size // leaf.shape[0] * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return int(windows) * of_one <= KEPT_BYTES


def _store(unit: UnderWay) -> Store:
    return unit.runs[0].subject.data.store


def _rows(unit: UnderWay, split: str) -> NDArray[np.int64]:
    """Of a split, all that any cell has."""
    return np.unique(np.concatenate([run.subject.data.rows[split] for run in unit.runs]))
