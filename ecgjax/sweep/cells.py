"""A cell of a sweep: one evaluation, and the name that everything its result depends on gives it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.evaluate import get_config
from ecgjax import models, numerics, plugins, switches, tasks
from ecgjax.data import conditions, embedded
from ecgjax.data.store import read_meta
from ecgjax.errors import UserError
from ecgjax.models import weights as weights_io
from ecgjax.models.encoder import ModelSpec
from ecgjax.tasks import HeadRun, Task
from ecgjax.training.run_directory import FREE_FIELDS
from ecgjax.training.supervised import MODES

_PLACES = ("weights", "data.store", "task")
"""Fields that say where something is; its content is in the identity instead."""
_OF_STEPS = ("epochs", "learning_rate", "rate_factor", "weight_decay", "data.seed", "data.crops")
"""Fields that an exact probe does not use."""
_DEFAULTS = {"model": "ecg_cpc", "task": "synthetic", "mode": "frozen"}


@dataclass(frozen=True)
class Cell:
    """One evaluation of a sweep.

    Attributes:
        name: hash of `identity`; the name of its directory.
        point: its place on the sweep's axes.
        settings: every field of its config, dotted.
        identity: all that determines its result.
        group: hash of what cells share that see the same batches through the same encoder, or, if they are exact
            probes, its features; its own if it trains one.
        pool: hash of what cells share that read the same features in batches of their own: crops are fixed, seeds and
            shares of the records may differ; None: crops are drawn in every epoch, or an encoder is trained.
    """

    name: str
    point: dict[str, Any]
    settings: dict[str, Any] = field(repr=False)
    identity: dict[str, Any] = field(repr=False)
    group: str = field(repr=False)
    pool: str | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        return self.settings["model"]

    @property
    def mode(self) -> str:
        return self.settings["mode"]

    def config(self) -> ConfigDict:
        """The config that `ecgjax.jobs.evaluate` runs."""
        config = get_config(_choice(self.settings))
        plain = _flat(config)
        changed = {key: value for key, value in self.settings.items() if plain[key] != value}
        config.update_from_flattened_dict(changed)
        return config


def resolve(point: Mapping[str, Any], common: Mapping[str, Any], weights: str | None, stores: str | None) -> Cell:
    """The cell of a point.

    Args:
        point: fields of configs/evaluate.py (dotted) with their values.
        common: the same for fields that no axis sets.
        weights: folder with a folder of weights for each pretrained model, by its name; None: random initialisation.
        stores: folder with a store for each data source, by its name; None: what the points say.

    Raises:
        UserError: an unknown field, a value of another type, or weights or a store that cannot be used.
        MissingError: weights or a store are not there.
    """
    both = [key for key in point if key in common]
    if both:
        raise UserError(f"config.common.{both[0]} is set, and an axis sets it too; expected one of them")
    asked = {**common, **point}
    settings, types = _base(_choice({**_DEFAULTS, **asked}))
    defaults = settings
    settings = {**settings, **{key: _checked(key, value, types) for key, value in asked.items()}}
    head_run, reported = tasks.get(settings["task"])
    if not plugins.is_file(settings["task"]):
        settings["task"] = head_run.name  # tasks of one head run are one training
    mode = MODES[settings["mode"]]
    if mode.trains_encoder:
        settings["data.features"] = "float32"  # they are not stored
    if mode.exact:
        settings |= {name: defaults[name] for name in _OF_STEPS}  # what differs in these only is one cell
    if weights is not None and mode.pretrained and settings["weights"] is None:
        settings["weights"] = str(Path(weights) / settings["model"])
    if stores is not None and settings["data.store"] is None:
        store = Path(stores) / head_run.source
        if head_run.source != "synthetic" or store.is_dir():  # else it is embedded
            settings["data.store"] = str(store)
    condition = conditions.parse({key[7:]: value for key, value in settings.items() if key.startswith("signal.")})
    stored, sha256 = _card(settings["model"], settings["weights"])
    arguments, spec = _arguments(settings, stored)
    identity: dict[str, Any] = {
        "numerics": numerics.VERSION,
        "config": {
            **{
                key: value
                for key, value in settings.items()
                if key not in _PLACES and key.split(".")[0] not in (*FREE_FIELDS, "model_arguments", "signal")
            },
            # Nothing of a plain one: a cell has the name that it had before there were others.
            **{f"signal.{key}": value for key, value in condition.canonical().items()},
            "data.labels": settings["data.labels"] or head_run.label_set,
            "data.seed": _stream(settings),
        },
        "arguments": arguments,
        "weights": sha256,
        "data": _fingerprint(head_run.source, settings["data.store"]),
        **_defined(head_run, reported),
    }
    # A switch that is the protocol's own is as if it were not set, and leaves no trace in a name.
    preset = switches.PRESETS[settings["protocol"]]._asdict() if settings["protocol"] in switches.PRESETS else {}
    for switch in switches.CHOICES:
        if settings[f"switches.{switch}"] in (None, preset.get(switch)):
            del identity["config"][f"switches.{switch}"]
    name = hashed(identity)
    if mode.exact:
        group = hashed({"exact": _pooled(identity)})
    else:
        group = name if mode.trains_encoder else hashed(_shared(identity, spec, head_run))
    fixed = settings["data.crops"] == "fixed" and not mode.trains_encoder and not condition.draws
    return Cell(name, dict(point), settings, identity, group, hashed(_pooled(identity)) if fixed else None)


class MissingError(UserError):
    """Weights or a store that a cell needs are not there."""


def hashed(content: Any) -> str:
    """Twenty hexadecimal digits that stand for content; equal for equal JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def flat(config: ConfigDict) -> dict[str, Any]:
    """Dotted fields that have a value."""
    return {key: value for key, value in _flat(config).items() if value is not None}


@cache
def _defined(head_run: HeadRun, reported: tuple[Task, ...]) -> dict[str, Any]:
    return {"run": asdict(head_run), "tasks": [asdict(task) for task in sorted(reported, key=lambda task: task.name)]}


def _shared(identity: dict[str, Any], spec: ModelSpec, run: HeadRun) -> dict[str, Any]:
    """What makes two cells see the same crops in the same batches through the same frozen encoder."""
    config = identity["config"]
    names = ("model", "protocol", "epochs", "batch_size", "data.ratio", "data.subset", "data.validation")
    chosen = config["data.ratio"] < 1  # a subset of the records, which the seed has drawn
    return {
        **{name: config[name] for name in (*names, "data.seed", "data.crops", "data.features", "data.placement")},
        "seed": config["seed"] if chosen or identity["weights"] is None else None,  # the encoder is drawn by it too
        **signal(identity),
        **{name: identity[name] for name in ("numerics", "arguments", "weights", "data")},
        **_switched(config, "missing_samples", "last_crop_start"),
        # What leaves records out, or picks a share of them by their labels.
        "records": [max(spec.seconds, run.min_seconds), run.min_fold, run.labelled_only and run.columns],
        "labels": config["data.labels"] if chosen or run.labelled_only else None,
    }


def _pooled(identity: dict[str, Any]) -> dict[str, Any]:
    """What two cells share that are fed from one set of features, each in its own order."""
    config = identity["config"]
    names = ("model", "protocol", "epochs", "batch_size", "data.features", "data.placement")
    return {
        **{name: config[name] for name in names},
        **{name: identity[name] for name in ("numerics", "arguments", "weights", "data")},
        "seed": config["seed"] if identity["weights"] is None else None,
        **_switched(config, "missing_samples"),
        **signal(identity),
    }


def _switched(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: config[key] for name in names if (key := f"switches.{name}") in config}


def signal(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Of an identity, what is done to recordings; empty: nothing."""
    return {key: value for key, value in identity["config"].items() if key.startswith("signal.")}


def _stream(settings: Mapping[str, Any]) -> int:
    """The seed of the batches."""
    return settings["seed"] if settings["data.seed"] is None else settings["data.seed"]


def _choice(settings: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={settings[key]}" for key in _DEFAULTS)


@cache
def _base(choice: str) -> tuple[dict[str, Any], dict[str, type]]:
    """Fields of an evaluation's config with their defaults, and with their types."""
    config = get_config(choice)
    return _flat(config), _types(config)


def _flat(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {prefix + key: value}
    return found


def _types(config: ConfigDict, prefix: str = "") -> dict[str, type]:
    found: dict[str, type] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            found |= _types(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = config.get_type(key)
    return found


def _checked(field: str, value: Any, types: Mapping[str, type]) -> Any:
    if field not in types or field == "job":
        close = get_close_matches(field, types, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(f"axes: {field!r} is not a field of configs/evaluate.py{hint}")
    expected = types[field]
    if value is None:
        return None
    if expected is float and type(value) is int:
        return float(value)
    if expected is tuple and isinstance(value, list):
        return tuple(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise UserError(f"axes: {field} is {value!r}; expected {expected.__name__}")
    return value


def _arguments(settings: Mapping[str, Any], stored: Mapping[str, Any]) -> tuple[dict[str, Any], ModelSpec]:
    given = {
        key.partition(".")[2]: value
        for key, value in settings.items()
        if key.startswith("model_arguments.") and value is not None
    }
    return _encoder(settings["model"], json.dumps({**stored, **given}, sort_keys=True))


@cache
def _encoder(model: str, arguments: str) -> tuple[dict[str, Any], ModelSpec]:
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(arguments).items()}
    encoder = models.create(model, **tuples)
    return json.loads(json.dumps(dict(encoder.arguments))), encoder.spec


@cache
def _card(model: str, weights: str | None) -> tuple[dict[str, Any], str | None]:
    """Arguments and SHA-256 of weights."""
    if weights is None:
        return {}, None
    if not Path(weights).is_dir():
        raise MissingError(f"{weights}: no such folder; expected weights of {model}")
    card = weights_io.load_card(Path(weights))
    if card["model"] != model:
        raise UserError(f"{weights}: weights of {card['model']!r}; expected weights of {model!r}")
    return dict(card["arguments"]), str(card["sha256"])


@cache
def _fingerprint(source: str, store: str | None) -> str:
    return meta(source, store)["fingerprint"]


@cache
def meta(source: str, store: str | None) -> dict[str, Any]:
    """meta.json of a head run's store."""
    if store is None and source == "synthetic":
        return read_meta(embedded.synthetic_store())
    if store is None:
        raise MissingError(f"data source {source}: no store; expected config.stores, or an axis over data.store")
    if not Path(store).is_dir():
        raise MissingError(f"{store}: no such folder; expected a store, as made by python -m ecgjax.prepare {source}")
    return read_meta(Path(store))


def forget() -> None:
    """Forgets cards and stores that were read: a test changes them."""
    for function in (_card, _fingerprint, meta):
        function.cache_clear()
