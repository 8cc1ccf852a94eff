"""Features of a frozen encoder where windows come again: found in the cache beside the store, or computed into it.

Where the cache lies and what it is made of: `ecgjax.data.feature_cache`; how a step is fed from it:
`ecgjax.training.cached_features`; whether it pays: `ecgjax.sweep.feature_choice`.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from numpy.typing import NDArray

from ecgjax import numerics
from ecgjax.data import feature_cache
from ecgjax.data.batches import iterate
from ecgjax.data.crops import evaluation_windows
from ecgjax.data.cutter import Cutter, Item
from ecgjax.data.feature_cache import DamagedError, DType, FeatureCache, Kind
from ecgjax.data.store import Store
from ecgjax.data.store_shard import Shard
from ecgjax.errors import UserError, disk_errors
from ecgjax.models.encoder import Encoder, Variables
from ecgjax.models.forward import Forward
from ecgjax.models.model import Model
from ecgjax.sweep import locks
from ecgjax.training.interrupt import Interrupt

_POLL_SECONDS = 0.5
_PART_BYTES = 2 << 30  # computed between two points from which a killed process goes on


class Windows(NamedTuple):
    """Windows of a store: row numbers of their records, and first samples; (windows,) each."""

    record: NDArray[np.int64]
    start: NDArray[np.int64]


def windows_of(store: Store, rows: NDArray[np.integer], window: int) -> Windows:
    """All evaluation windows of some records; of records that hold exactly one window, what training sees too."""
    index, start = evaluation_windows(store.records["samples"].to_numpy()[rows], window)
    return Windows(np.asarray(rows, np.int64)[index], start)


def identity_of(model: Model, weights: str | None, seed: int, store: Store, cutter: Cutter) -> dict[str, Any]:
    """All that determines the features of a window.

    Args:
        model: the encoder; its arguments hold dtype, contract, leads and window. They are stored as what they are
            rounded to (`Model.rounded`), so the cache has the very values of an encoder pass.
        weights: their SHA-256; None: random initialisation.
        seed: of the random initialisation.
        store: the data.
        cutter: how crops are cut and resampled.
    """
    return {
        "format": feature_cache.FORMAT,
        "numerics": numerics.VERSION,
        "weights": weights or {"seed": seed},
        "model": model.spec.name,
        "arguments": dict(model.encoder.arguments),
        "data": store.fingerprint,
        "crops": [cutter.window, cutter.rate_in, cutter.rate_out, cutter.protocol],
        "dtype": model.encoder.features,
        **({} if cutter.condition is None else {"condition": cutter.condition.identity()}),
        # Float32 products are not the same on all kinds of devices.
        "platform": jax.default_backend(),
        "precision": jax.config.values["jax_default_matmul_precision"],
    }


def obtain(
    model: Model,
    identity: Mapping[str, Any],
    store: Store,
    cutter: Cutter,
    windows: Windows,
    *,
    kinds: Iterable[Kind],
    batch_size: int,
    folder: str | Path | None = None,
    interrupt: Interrupt | None = None,
    sharding: jax.sharding.Sharding | None = None,
    part_bytes: int = _PART_BYTES,
) -> FeatureCache:
    """The features of these windows: those that are not in the cache are computed into it, in bounded memory.

    What another process is computing is waited for. A damaged part is reported, removed and computed again.

    Args:
        model: whose features; in evaluation mode.
        identity: from `identity_of`, of this very model, store and cutter.
        store: the data.
        cutter: made for the windows' records among others.
        windows: in any order, repetitions count once.
        kinds: "pooled", "sequence" or both: what `ecgjax.models.heads.READS`.
        batch_size: of an encoder pass.
        folder: where features are kept; None: see `feature_cache.place`.
        interrupt: if its signal comes, what is computed is kept and the process leaves.
        sharding: of the batches over devices; None is JAX's default device.
        part_bytes: features in a part of the cache; what is computed between two of them is lost with the process.

    Returns:
        The cache with these windows only.

    Raises:
        UserError: the disk is full, or the folder may not be written or has no locks.
        SystemExit: SIGTERM or Ctrl-C came (143 or 130).
    """
    kinds = tuple(kinds)
    dtype: DType = identity["dtype"]
    at = feature_cache.place(store.path, folder) / feature_cache.key_of(identity)
    try:
        cache = FeatureCache(at, kinds, dtype)
        if cache.has(*windows).all():
            return cache.only(*windows)
    except DamagedError:
        pass  # said below, by the process that mends it
    with disk_errors(at):
        at.mkdir(parents=True, exist_ok=True)
    while True:
        with locks.held(at) as mine:
            if mine:
                feature_cache.tidy(at)
                cache = _mended(at, kinds, dtype)
                there = cache.has(*windows)
                if not there.all():
                    missing = np.unique(np.stack(windows, axis=1)[~there], axis=0).T
                    computed = _Pass(model, store, cutter, kinds, dtype, batch_size, interrupt, sharding)
                    computed.run(at, identity, Windows(*missing), part_bytes)
                    cache = FeatureCache(at, kinds, dtype)
                return cache.only(*windows)
        _leave_if_asked(interrupt)
        time.sleep(_POLL_SECONDS)


def _mended(at: Path, kinds: tuple[Kind, ...], dtype: DType) -> FeatureCache:
    while True:
        try:
            return FeatureCache(at, kinds, dtype)
        except DamagedError as error:
            logging.warning("%s; its part of the feature cache is computed again", error)
            with disk_errors(error.part):
                shutil.rmtree(error.part)


class _Pass(NamedTuple):
    """One pass of windows through an encoder, onto the disk."""

    model: Model
    store: Store
    cutter: Cutter
    kinds: tuple[Kind, ...]
    dtype: DType
    batch_size: int
    interrupt: Interrupt | None
    sharding: jax.sharding.Sharding | None

    def run(self, at: Path, identity: Mapping[str, Any], windows: Windows, part_bytes: int) -> None:
        shapes, size = self._shapes(), self.batch_size
        of_one = sum(math.prod(shape) for shape in shapes.values()) * jnp.dtype(self.dtype).itemsize
        _check_space(at, of_one * len(windows.record))
        encode = _compiled(self.model, self.kinds, self.dtype)
        batches = iterate(self.store, _InOrder(windows, size), self.cutter, self.sharding)
        steps = max(part_bytes // (of_one * size), 1)
        for first in range(0, len(windows.record), steps * size):
            _leave_if_asked(self.interrupt)
            part = Windows(*(column[first : first + steps * size] for column in windows))
            with feature_cache.new_part(at, identity, *part, shapes, self.dtype) as shards:
                before: Mapping[Kind, jax.Array] = {}
                for done in range(0, len(part.record), size):
                    # The device computes this batch while the one before it is written.
                    found = encode(self.model.variables, self.cutter, next(batches))
                    self._write(shards, before, size)
                    before, left = found, len(part.record) - done
                    if self.interrupt is not None and self.interrupt.signal is not None:
                        break  # what is computed makes a smaller part
                self._write(shards, before, left)
            _leave_if_asked(self.interrupt)

    def _write(self, shards: Mapping[Kind, Shard], found: Mapping[Kind, jax.Array], most: int) -> None:
        for kind, features in found.items():
            feature_cache.append(shards[kind], np.asarray(features)[:most], self.dtype)

    def _shapes(self) -> dict[Kind, tuple[int, ...]]:
        encode = partial(_features, self.model.encoder, self.kinds)
        signals = jax.ShapeDtypeStruct((1, self.cutter.samples, 12), jnp.float32)
        return {kind: found.shape[1:] for kind, found in jax.eval_shape(encode, self.model.variables, signals).items()}


class _InOrder:
    """Windows one after the other, in batches of one size, the last one filled up; a Grain source."""

    def __init__(self, windows: Windows, batch_size: int) -> None:
        self.rows, self._windows, self._batch_size = np.unique(windows.record), windows, batch_size

    def __len__(self) -> int:
        return -(-len(self._windows.record) // self._batch_size)

    def __getitem__(self, step: int) -> Item:
        """{"record", "start"}: int32 (batch_size,) each."""
        window = int(step) * self._batch_size + np.arange(self._batch_size)
        window = np.where(window < len(self._windows.record), window, 0)
        return {
            "record": self._windows.record[window].astype(np.int32),
            "start": self._windows.start[window].astype(np.int32),
        }

    def __repr__(self) -> str:
        return f"{len(self._windows.record)} windows, batch {self._batch_size}"


_programs: WeakKeyDictionary[Model, dict[Any, Any]] = WeakKeyDictionary()


def _compiled(model: Model, kinds: tuple[Kind, ...], dtype: DType) -> Callable[..., dict[Kind, jax.Array]]:
    """(variables, cutter, item) -> features; one and the same for a model, which is then compiled once."""
    made = _programs.setdefault(model, {})
    if (kinds, dtype) not in made:
        made[kinds, dtype] = Forward(partial(_encode, model.encoder, kinds, dtype))
    return made[kinds, dtype]


def _features(encoder: Encoder, kinds: tuple[Kind, ...], variables: Variables, x: jax.Array) -> dict[Kind, jax.Array]:
    features = encoder.apply(variables, x)[0]
    return {kind: getattr(features, kind) for kind in kinds}


def _encode(
    encoder: Encoder, kinds: tuple[Kind, ...], dtype: DType, variables: Variables, cutter: Cutter, item: Item
) -> dict[Kind, jax.Array]:
    found = _features(encoder, kinds, variables, cutter(item))
    return {kind: features.astype(dtype) for kind, features in found.items()}


def _check_space(at: Path, needed: int) -> None:
    free = shutil.disk_usage(at).free
    if needed > free:
        raise UserError(
            f"{at}: features of {needed:,} bytes, and {free:,} are free; expected enough space, another "
            "config.features_folder, or config.features=recompute"
        )


def _leave_if_asked(interrupt: Interrupt | None) -> None:
    if interrupt is not None and interrupt.signal is not None:
        raise SystemExit(interrupt.exit_code)
