"""Features from a cache instead of signals and an encoder: what a step of frozen heads is fed with.

`FeatureSource` is to a cache what `ecgjax.data.cutter.Cutter` is to a store: the features are either on the device, or
stay in the memory maps, from where the host takes a batch's rows ahead of the step. Either way the values are the same.

    source = put(cache)                                     # on the device if they fit
    for item in iterate(cache, plan, source):               # the plan's items, with "feature" or the rows themselves
        state = step(state, source, item)                   # in it: features = source(item)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ecgjax.data import device_dataset
from ecgjax.data.batch_plans import Plan
from ecgjax.data.cutter import Item, Placement
from ecgjax.data.feature_cache import FeatureCache, Kind
from ecgjax.data.prefetch import prefetch_to_device
from ecgjax.models.encoder import Features

_PIECE = 64 << 20  # bytes put on the device at a time


@partial(jax.tree_util.register_dataclass, data_fields=("pooled", "sequence"), meta_fields=("on_device",))
@dataclass(frozen=True)
class FeatureSource:
    """Features of a batch. A pytree: pass it to the jitted step as an argument.

    Attributes:
        pooled: (windows, channels) of the whole cache; None if it has none, or the items bring them.
        sequence: (windows, tokens, channels), likewise.
        on_device: whether items are positions in these; otherwise they bring the features of their windows.
    """

    pooled: jax.Array | None
    sequence: jax.Array | None
    on_device: bool

    def __call__(self, item: Item) -> Features:
        """float32 features of an item's windows, for any shape of "feature"; a kind that is not cached is None.

        `taps` is empty.
        """
        found: dict[str, Any] = {"pooled": None, "sequence": None}
        for kind in found:
            if not self.on_device and kind in item:
                found[kind] = jnp.asarray(item[kind]).astype(jnp.float32)
            table = getattr(self, kind)
            if table is not None:
                found[kind] = table[jnp.asarray(item["feature"])].astype(jnp.float32)
        return Features(taps={}, **found)


class Positions:
    """Adds to a plan's items where their features lie in a cache: "feature", int32, shaped as "record"."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def __call__(self, item: Item) -> Item:
        return {**item, "feature": self._cache.find(item["record"], item["start"])}


class HostRows:
    """Adds to a plan's items the features themselves, in the cache's dtype, by kind."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def __call__(self, item: Item) -> Item:
        position = self._cache.find(item["record"], item["start"])
        return {**item, **{kind: self._cache.rows(kind, position) for kind in self._cache.kinds}}


def put(
    cache: FeatureCache,
    placement: Placement = "auto",
    *,
    device_bytes: int | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> FeatureSource:
    """Puts a cache's features in their place.

    Args:
        cache: what is fed.
        placement: "device": in device memory, as they are stored. "host": in the memory maps. "auto": on the device if
            they fit.
        device_bytes: device memory they may take under "auto"; None is a share of what the device has.
        sharding: (replicated) of the features on devices; None is JAX's default device.
    """
    if placement == "auto":
        placement = "device" if cache.bytes <= device_dataset.room(device_bytes) else "host"
    if placement == "host":
        return FeatureSource(None, None, on_device=False)
    loaded = {kind: _load(cache, kind, sharding) for kind in cache.kinds}
    return FeatureSource(loaded.get("pooled"), loaded.get("sequence"), on_device=True)


def iterate(
    cache: FeatureCache, plan: Plan, source: FeatureSource, sharding: jax.sharding.Sharding | None = None
) -> grain.DatasetIterator:
    """Iterator over a plan's batches, for `source`; every window of the plan must be in the cache."""
    dataset = grain.MapDataset.source(plan).map(Positions(cache) if source.on_device else HostRows(cache))
    read = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1))
    if source.on_device and sharding is None:
        return iter(read)
    return prefetch_to_device(read, sharding)


def _load(cache: FeatureCache, kind: Kind, sharding: Any) -> jax.Array:
    """All of the cache, by position, piece by piece: the host never holds more than one piece."""
    total, shape = len(cache), cache.shape(kind)
    rows = max(_PIECE // (int(np.prod(shape)) * 4), 1)
    flat = jnp.zeros((total, *shape), cache.dtype, device=sharding)
    for first in range(0, total, rows):
        piece: NDArray = cache.rows(kind, np.arange(first, min(first + rows, total)))
        # Waited for, so that pieces do not pile up.
        flat = jax.block_until_ready(_write(flat, jax.device_put(piece, sharding), first))
    return flat


@partial(jax.jit, donate_argnums=0)
def _write(flat: jax.Array, piece: jax.Array, row: int) -> jax.Array:
    return jax.lax.dynamic_update_slice(flat, piece, (row, *[0] * (flat.ndim - 1)))
