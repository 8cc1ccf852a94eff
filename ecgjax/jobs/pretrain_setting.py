"""What job "pretrain" works on: the config checked, the stores opened, the batches and where they lie."""

from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import pandas as pd
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
from ecgjax.models.encoder import Encoder
from ecgjax.pretraining import registry as objectives
from ecgjax.training import mesh

SYNTHETIC = "synthetic"
ENDLESS = 1_000_000
"""Epochs of a run whose budget is not counted in epochs."""


class Recipe(NamedTuple):
    """What is trained by what.

    Attributes:
        objective: as `ecgjax.pretraining.registry.parse` reads it.
        options: of the objectives, by name.
        model: name.
        arguments: of the model, as the config gives them.
        encoder: for the facts about it.
        seconds: of a crop: one segment, or as many as the objective needs.
    """

    objective: str
    options: dict[str, dict[str, Any]]
    model: str
    arguments: dict[str, Any]
    encoder: Encoder
    seconds: float

    def create(self, samples: int) -> tuple[Encoder, Encoder]:
        """The encoder that is trained on segments of so many samples, and the one as which its weights are kept."""
        arguments, tokens = dict(self.arguments), self.encoder.tokens
        known = self.encoder.arguments
        if "l_max" in known and "l_max" not in arguments and tokens is not None:
            # The state-space kernels belong to a length: here that of the crops, as in the paper (1200 for 10 s).
            arguments["l_max"] = tokens.columns(samples, 1)
        kept = registry.create(self.model, **arguments)
        if "train_extractor" not in known:
            return kept, kept
        # Whether fine-tuning trains the extractor is one thing; pretraining always does.
        return registry.create(self.model, **{**arguments, "train_extractor": True}), kept


def recipe(config: ConfigDict) -> Recipe:
    """Reads the recipe of configs/pretrain.py, or of configs/cpc_pretrain.py, which has one objective and one model.

    Raises:
        UserError: an unknown name, or an objective that cannot train the model.
    """
    if "objective" in config:
        model, given = config.model, config.model_arguments.to_dict()
        arguments = {name: value for name, value in given.items() if value is not None}
        objective, options = config.objective, config.options.to_dict()
    else:
        model, arguments, objective, options = "ecg_cpc", config.model.to_dict(), "cpc", {}
    encoder = registry.create(model, **arguments)
    objectives.check(objective, encoder)
    seconds = encoder.spec.seconds if config.data.seconds is None else config.data.seconds
    return Recipe(objective, options, model, arguments, encoder, seconds * objectives.segments(objective))


class Data(NamedTuple):
    """The data of a run.

    Attributes:
        store: the stores as one.
        cutter: for training and validation rows.
        batches: of training.
        training_rows: row numbers, of records that are long enough.
        validation_rows: likewise.
        seconds: of a crop.
        steps_per_epoch: batches in an epoch.
        sharding: of the batches over all devices of all processes; None for a single device.
    """

    store: Store
    cutter: Cutter
    batches: grain.DatasetIterator
    training_rows: np.ndarray
    validation_rows: np.ndarray
    seconds: float
    steps_per_epoch: int
    sharding: NamedSharding | None

    def targets(self, label_set: str | None) -> np.ndarray | None:
        """(records, classes) of the classification labels of a set; None: "all", or the only one, if there is.

        Raises:
            UserError: no such set, or no classification label in it.
        """
        sets = self.store.label_sets()
        if label_set is None and len(sets) != 1 and "all" not in sets:
            return None
        if label_set is not None and label_set not in sets:
            raise UserError(
                f"config.data.labels is {label_set!r}; expected one of {', '.join(sets) or 'no label set at all'} "
                f"of {self.store.path}"
            )
        name = label_set or ("all" if "all" in sets else sets[0])
        columns = np.array(self.store.kinds(name)) == "classification"
        if not columns.any():
            raise UserError(f"{self.store.path}: label set {name} has no classification label; expected some")
        return self.store.targets(name)[:, columns]

    def patients(self) -> np.ndarray:
        """(records,) int32, equal for records of one patient."""
        return pd.factorize(self.store.records["patient_id"])[0].astype(np.int32)

    def crops(self, batch_size: int, seed: int) -> grain.DatasetIterator:
        """Training crops of one epoch, in another order than the training's."""
        return training_iterator(
            self.store,
            self.training_rows,
            seconds=self.seconds,
            batch_size=batch_size,
            seed=seed,
            epochs=1,
            cutter=self.cutter,
            sharding=self.sharding,
        )[0]

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
        if name in config and config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}; expected 1 or more")
    for name in ("seed", "learning_rate", "weight_decay", "warmup_steps", "validate_every", "monitor_records"):
        if name in config and not config[name] >= 0:
            raise UserError(f"config.{name} is {config[name]}; expected 0 or more")
    if not config.data.clip >= 0:
        raise UserError(f"config.data.clip is {config.data.clip}; expected millivolts, or 0 for no clipping")
    if "budget" in config:
        if config.budget.recordings is not None and config.budget.flops is not None:
            raise UserError("config.budget has recordings and flops; expected one of them, or epochs alone")
        for name, value in config.budget.items():
            if value is not None and not value > 0:
                raise UserError(f"config.budget.{name} is {value}; expected a positive number")


def _open_store(config: ConfigDict) -> Store:
    names = [name.strip() for name in config.data.stores.split(",") if name.strip()]
    if not names:
        raise UserError("config.data.stores is empty; expected folders of stores, --config.data.stores=DIR1,DIR2")
    store = open_stores([synthetic_store() if name == SYNTHETIC else Path(name) for name in names])
    if config.data.verify:
        store.verify()
    return store


def open_data(config: ConfigDict, recipe: Recipe) -> Data:
    """Opens the stores and puts the signals in their place, in every process of a run.

    Raises:
        UserError: no store, a damaged one, too few records, devices that cannot share a batch, processes that see
            different data.
    """
    with distributed.same_fate():
        store = _open_store(config)
        train, validation = _rows(config, store, recipe.seconds)
    distributed.require_same({"the fingerprint of config.data.stores": store.fingerprint})
    sharding = _batch_sharding(config.batch_size)
    cutter = make_cutter(
        store,
        np.concatenate([train, validation]),
        seconds=recipe.seconds,
        sampling_rate=recipe.encoder.spec.sampling_rate,
        placement=config.data.placement,
        sharding=sharding,
    )
    batches, _ = training_iterator(
        store,
        store.rows("train"),  # with those too short, which it reports
        seconds=recipe.seconds,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=config.get("epochs", ENDLESS),
        cutter=cutter,
        sharding=sharding,
    )
    steps_per_epoch = len(train) // config.batch_size
    return Data(store, cutter, batches, train, validation, recipe.seconds, steps_per_epoch, sharding)


def _rows(config: ConfigDict, store: Store, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    lengths = store.records["samples"].to_numpy()
    window = window_samples(seconds, store.sampling_rate)
    train, validation = (split_short(store.rows(split), lengths, window)[0] for split in ("train", "validation"))
    for split, rows in {"training": train, "validation": validation}.items():
        if not len(rows):
            raise UserError(
                f"{store.path}: no {split} record of at least {seconds:g} s (config.data.seconds); "
                "expected some (the highest fold is test, the next validation, all others training)"
            )
    if len(train) < config.batch_size:
        raise UserError(
            f"config.batch_size is {config.batch_size}; expected at most the {len(train)} training records "
            f"of at least {seconds:g} s"
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
