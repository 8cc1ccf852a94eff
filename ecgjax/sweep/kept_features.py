"""A frozen unit's windows as features from the cache: what its programs read instead of signals.

Programs are driven as with signals (`ecgjax.training.together`): the source and the items are others, the values are
those of an encoder pass. Training windows are among them where they are the same in every epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from ecgjax.data.batch_plans import BatchPlan, EvaluationPlan
from ecgjax.data.cutter import Cutter, Placement
from ecgjax.data.feature_cache import FeatureCache, Kind
from ecgjax.data.stacked_plan import RoundsPlan
from ecgjax.data.store import Store
from ecgjax.models.model import Model
from ecgjax.sweep import features
from ecgjax.sweep.features import Windows
from ecgjax.training import cached_features
from ecgjax.training.cached_features import FeatureSource
from ecgjax.training.interrupt import Interrupt


class Kept(NamedTuple):
    """Features of a unit's windows.

    Attributes:
        cache: all of them.
        window: samples at the data's rate.
        source: what reads items of `training` and `evaluation`.
        sharding: of batches over devices; None: there is one.
        trained: whether training windows are among them; if not, training reads signals.
    """

    cache: FeatureCache
    window: int
    source: FeatureSource
    sharding: NamedSharding | None
    trained: bool

    def training(self, plan: BatchPlan | RoundsPlan) -> grain.DatasetIterator:
        """Training batches; their order, and the iterator's state, are those of the batches of signals.

        Batches of several runs are whole on every device.
        """
        sharding = self.sharding
        if sharding is not None and isinstance(plan, RoundsPlan):
            sharding = NamedSharding(sharding.mesh, PartitionSpec())
        return cached_features.iterate(self.cache, plan, self.source, sharding)

    def evaluation(self, store: Store, rows: NDArray[np.integer], batch_size: int) -> grain.DatasetIterator:
        """What `ecgjax.data.batches.evaluation_iterator` gives, with features."""
        lengths = store.records["samples"].to_numpy()
        plan = EvaluationPlan(rows, lengths, window=self.window, batch_size=batch_size)
        return cached_features.iterate(self.cache, plan, self.source, self.sharding)


def keep(
    model: Model,
    weights: str | None,
    seed: int,
    store: Store,
    cutter: Cutter,
    plans: Sequence[BatchPlan],
    evaluated: Iterable[NDArray[np.integer]],
    *,
    kinds: Iterable[Kind],
    batch_size: int,
    placement: Placement = "auto",
    folder: str | Path | None = None,
    interrupt: Interrupt | None = None,
    sharding: NamedSharding | None = None,
) -> Kept:
    """Finds or computes the features of a unit's windows; all in one pass, so that the encoder is compiled once.

    Args:
        model: the frozen encoder.
        weights: their SHA-256; None: random initialisation.
        seed: of that.
        store: the data.
        cutter: made for all of the unit's records.
        plans: of training; of several, windows are the same in every epoch.
        evaluated: rows of the splits that are evaluated.
        kinds: what the unit's heads read, see `ecgjax.models.heads.READS`.
        batch_size: of an encoder pass.
        placement: where the features lie while they are read, see `cached_features.put`.
        folder: config.features_folder.
        interrupt: see `features.obtain`.
        sharding: of batches over devices, that of `cutter`; every device gets all features.

    Raises:
        UserError: see `features.obtain`.
        SystemExit: likewise.
    """
    parts = [features.windows_of(store, rows, cutter.window) for rows in evaluated]
    draws = cutter.condition is not None and cutter.condition.dropout
    repeated = [] if draws else [windows for plan in plans if (windows := plan.windows()) is not None]
    if len(plans) > 1 and len(repeated) < len(plans):
        raise ValueError("several plans that draw windows in every epoch")
    parts += [Windows(*windows) for windows in repeated]
    windows = Windows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    identity: Mapping[str, object] = features.identity_of(model, weights, seed, store, cutter)
    cache = features.obtain(
        model,
        identity,
        store,
        cutter,
        windows,
        kinds=kinds,
        batch_size=batch_size,
        folder=folder,
        interrupt=interrupt,
        sharding=sharding,
    )
    everywhere = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
    source = cached_features.put(cache, placement, sharding=everywhere)
    return Kept(cache, cutter.window, source, sharding, bool(repeated))
