"""What job "pretrain" works on: the config checked, the stores opened, the batches and where they lie."""

from pathlib import Path
from typing import NamedTuple

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ecgjax import distributed
from ecgjax.data.batches import evaluation_iterator, training_iterator
from ecgjax.data.crops import split_short, window_samples
from ecgjax.data.cutter import Cutter, make_cutter
from ecgjax.data.embedded import synthetic_store
from ecgjax.data.store import Store
from ecgjax.data.store_union import open_stores
from ecgjax.errors import UserError
from ecgjax.models import registry
from ecgjax.training import mesh

SYNTHETIC = "synthetic"


class Data(NamedTuple):
    """The data of a run.

    Attributes:
        store: the stores as one.
        cutter: for training and validation rows.
        batches: of training.
        validation_rows: row numbers.
        training_records: that are long enough.
        steps_per_epoch: batches in an epoch.
        sharding: of the batches over all devices of all processes; None for a single device.
    """

    store: Store
    cutter: Cutter
    batches: grain.DatasetIterator
    validation_rows: np.ndarray
    training_records: int
    steps_per_epoch: int
    sharding: NamedSharding | None

    def validation(self, batch_size: int) -> grain.DatasetIterator:
        """The validation windows, once."""
        return evaluation_iterator(
            self.store, self.validation_rows, self.cutter, batch_size=batch_size, sharding=self.sharding
        )

    @property
    def replicated(self) -> jax.sharding.Sharding:
        """Where the training's state lies: whole on every device."""
        if self.sharding is None:
            return jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return NamedSharding(self.sharding.mesh, PartitionSpec())


def check(config: ConfigDict) -> None:
    """Checks the numbers of a config.

    Raises:
        UserError: one is out of its range.
    """
    for name in ("batch_size", "epochs", "validation_records", "checkpoint_every", "log_every"):
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}; expected 1 or more")
    for name in ("seed", "learning_rate", "weight_decay", "warmup_steps", "validate_every"):
        if not config[name] >= 0:
            raise UserError(f"config.{name} is {config[name]}; expected 0 or more")
    if not config.data.clip >= 0:
        raise UserError(f"config.data.clip is {config.data.clip}; expected millivolts, or 0 for no clipping")


def _open_store(config: ConfigDict) -> Store:
    names = [name.strip() for name in config.data.stores.split(",") if name.strip()]
    if not names:
        raise UserError("config.data.stores is empty; expected folders of stores, --config.data.stores=DIR1,DIR2")
    store = open_stores([synthetic_store() if name == SYNTHETIC else Path(name) for name in names])
    if config.data.verify:
        store.verify()
    return store


def open_data(config: ConfigDict) -> Data:
    """Opens the stores and puts the signals in their place, in every process of a run.

    Raises:
        UserError: no store, a damaged one, too few records, devices that cannot share a batch, processes that see
            different data.
    """
    with distributed.same_fate():
        store = _open_store(config)
        train, validation = _rows(config, store)
    distributed.require_same({"the fingerprint of config.data.stores": store.fingerprint})
    sharding = _batch_sharding(config.batch_size)
    cutter = make_cutter(
        store,
        np.concatenate([train, validation]),
        seconds=config.data.seconds,
        sampling_rate=registry.create("ecg_cpc").spec.sampling_rate,
        placement=config.data.placement,
        sharding=sharding,
    )
    batches, _ = training_iterator(
        store,
        store.rows("train"),  # with those too short, which it reports
        seconds=config.data.seconds,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=config.epochs,
        cutter=cutter,
        sharding=sharding,
    )
    steps_per_epoch = len(train) // config.batch_size
    return Data(store, cutter, batches, validation, len(train), steps_per_epoch, sharding)


def _rows(config: ConfigDict, store: Store) -> tuple[np.ndarray, np.ndarray]:
    lengths = store.records["samples"].to_numpy()
    window = window_samples(config.data.seconds, store.sampling_rate)
    train, validation = (split_short(store.rows(split), lengths, window)[0] for split in ("train", "validation"))
    for split, rows in {"training": train, "validation": validation}.items():
        if not len(rows):
            raise UserError(
                f"{store.path}: no {split} record of at least {config.data.seconds:g} s (config.data.seconds); "
                "expected some (the highest fold is test, the next validation, all others training)"
            )
    if len(train) < config.batch_size:
        raise UserError(
            f"config.batch_size is {config.batch_size}; expected at most the {len(train)} training records "
            f"of at least {config.data.seconds:g} s"
        )
    if len(validation) > config.validation_records:
        rng = np.random.default_rng((config.seed, 2))
        validation = np.sort(rng.choice(validation, config.validation_records, replace=False))
    return train, validation


def _batch_sharding(batch_size: int) -> NamedSharding | None:
    devices = distributed.devices()
    if batch_size % len(devices):
        raise UserError(f"config.batch_size is {batch_size}; expected a multiple of the {len(devices)} devices")
    return mesh.batch_sharding(mesh.make_mesh(devices=devices))
