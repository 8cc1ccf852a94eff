"""What an evaluation is made of, checked and put together before it starts; see `ecgjax.jobs.evaluate`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from ecgjax import switches
from ecgjax.data import conditions
from ecgjax.data.batches import training_iterator
from ecgjax.data.conditions import Condition
from ecgjax.data.cutter import Cutter, make_cutter
from ecgjax.data.lead_moments import Moments, training_moments
from ecgjax.data.store import Store
from ecgjax.errors import UserError
from ecgjax.evaluation import labelled, metrics
from ecgjax.evaluation.labelled import Labelled
from ecgjax.models.model import Model, load_model
from ecgjax.tasks import HeadRun, Task
from ecgjax.training import supervised
from ecgjax.training.mesh import batch_sharding, make_mesh, sharded
from ecgjax.training.optimiser import group_table
from ecgjax.training.run_directory import RunDirectory
from ecgjax.training.supervised import Program


class Subject(NamedTuple):
    """What is evaluated on what: all that results are written from."""

    config: ConfigDict
    directory: RunDirectory
    head_run: HeadRun
    reported: tuple[Task, ...]
    model: Model
    data: Labelled
    moments: Moments | None = None  # of the training folds' leads, where some are derived by them

    @property
    def condition(self) -> Condition:
        """What is done to the recordings."""
        return conditions.parse(self.config.signal)


class Setting(NamedTuple):
    """All that a run is made of."""

    subject: Subject
    cutter: Cutter
    program: Program
    batches: grain.DatasetIterator
    steps_per_epoch: int
    sharding: jax.sharding.Sharding | None  # of batches; None: there is one device


class Parts:
    """Models and data that were loaded, for evaluations that share them."""

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}

    def model(self, config: ConfigDict) -> Model:
        """The config's model with its weights."""
        arguments = {name: value for name, value in config.model_arguments.items() if value is not None}
        drawn = None if config.weights else config.seed
        key = "model", config.model, config.weights, drawn, tuple(sorted(arguments.items()))
        model = self._once(key, lambda: load_model(config.model, config.weights, config.seed, **arguments))
        adjusted = lambda: model.rounded(config.data.features).rematerialised(config.remat)  # noqa: E731
        return self._once((*key, config.data.features, config.remat), adjusted)

    def data(self, config: ConfigDict, head_run: HeadRun, seconds: float) -> Labelled:
        """The config's data for windows of `seconds`, all of it."""
        key = "data", head_run, seconds, config.data.store, config.data.labels
        return self._once(key, lambda: labelled.load(head_run, seconds, config.data.store, config.data.labels))

    def subset(self, config: ConfigDict, data: Labelled) -> Labelled:
        """The config's share of its data."""
        own = config.data
        options = {"ratio": own.ratio, "method": own.subset, "validation": own.validation, "seed": config.seed}
        return self._once(("subset", id(data), *options.values()), lambda: labelled.take(data, **options))

    def moments(self, config: ConfigDict, store: Store) -> Moments | None:
        """How leads go together in the training folds, where the config's condition derives leads by it."""
        if not conditions.parse(config.signal).derives:
            return None
        return self._once(("moments", store.fingerprint), lambda: training_moments(store))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]


def check(config: ConfigDict) -> None:
    """Refuses config values that no run can have."""
    mode = supervised.get_mode(config.mode)
    if config.weights and not mode.pretrained:
        raise UserError(
            f"config.weights is {config.weights!r} in mode {config.mode}; expected none: it trains from scratch"
        )
    switches.of(config)
    metrics.check_choice("config.data.crops", config.data.crops, ("random", "fixed"))
    metrics.check_choice("config.data.features", config.data.features, ("float32", "bfloat16"))
    if config.data.features != "float32" and mode.trains_encoder:
        raise UserError(
            f"config.data.features is {config.data.features!r} in mode {config.mode}; expected 'float32': it trains "
            "the encoder"
        )
    if config.data.seed is not None and config.data.seed < 0:
        raise UserError(f"config.data.seed is {config.data.seed}; expected 0 or more, or none")
    condition = conditions.parse(config.signal)
    if mode.exact and condition.draws:
        raise UserError(
            f"config.signal.policy is {config.signal.policy!r} in mode {config.mode}; expected zero, repeat or derive: "
            "every window is read once, so that no leads are drawn"
        )
    metrics.check_choice("config.interval.unit", config.interval.unit, ("record", "patient"))
    metrics.check_choice("config.interval.kind", config.interval.kind, ("percentile", "basic", "bca"))
    for name, least in (("epochs", 1), ("batch_size", 1), ("log_every", 1), ("seed", 0)):
        if config[name] < least:
            raise UserError(f"config.{name} is {config[name]}; expected {least} or more")
    for name in ("learning_rate", "rate_factor"):
        if not config[name] > 0:
            raise UserError(f"config.{name} is {config[name]}; expected a positive number")
    if not config.weight_decay >= 0:
        raise UserError(f"config.weight_decay is {config.weight_decay}; expected 0 or more")
    if mode.exact:
        if "probe" not in config:
            raise UserError(f"config.mode is {config.mode!r}; expected it as configs/evaluate.py:mode={config.mode}")
        _check_probe(config.probe)
    if config.interval.replicates < 2:
        raise UserError(f"config.interval.replicates is {config.interval.replicates}; expected 2 or more")
    if not 0 < config.interval.level < 1:
        raise UserError(f"config.interval.level is {config.interval.level}; expected a coverage such as 0.95")


def _check_probe(probe: ConfigDict) -> None:
    metrics.check_choice("config.probe.choose", probe.choose, ("together", "each"))
    metrics.check_choice("config.probe.classification", probe.classification, ("logistic", "ridge"))
    metrics.check_choice("config.probe.solver", probe.solver, ("auto", "newton", "lbfgs"))
    numbers = all(isinstance(value, int | float) and 0 < value < float("inf") for value in probe.strengths)
    if not numbers or not probe.strengths or len(set(probe.strengths)) < len(probe.strengths):
        raise UserError(f"config.probe.strengths is {probe.strengths}; expected different positive numbers")


def load(
    config: ConfigDict, directory: RunDirectory, head_run: HeadRun, reported: tuple[Task, ...], parts: Parts
) -> Subject:
    """Loads model and data.

    Raises:
        UserError: weights, data or task cannot be used together.
    """
    model = parts.model(config)
    data = parts.data(config, head_run, model.spec.seconds)
    if not reported[0].select(data.classes, data.kinds):
        raise UserError(
            f"task {config.task}: none of the {len(data.classes)} classes of {data.store.path}, label set "
            f"{data.label_set!r}, belongs to it; expected classes like {', '.join(reported[0].columns[:4])}"
        )
    moments = parts.moments(config, data.store)
    return Subject(config, directory, head_run, reported, model, parts.subset(config, data), moments)


def stream_seed(config: ConfigDict) -> int:
    """The seed of order and windows of the training batches."""
    return config.seed if config.data.seed is None else config.data.seed


def cutter_of(subject: Subject, sharding: jax.sharding.Sharding | None = None) -> Cutter:
    """What cuts crops of all splits, for batches that lie so over the devices."""
    config, data, spec = subject.config, subject.data, subject.model.spec
    return make_cutter(
        data.store,
        np.concatenate(list(data.rows.values())),
        placement=config.data.placement,
        protocol="paper" if switches.of(config).missing_samples == "spread" else "default",
        seconds=spec.seconds,
        sampling_rate=spec.sampling_rate,
        sharding=sharding,
        condition=conditions.conditioner(subject.condition, data.store, subject.moments),
    )


def stream(
    subject: Subject, sharding: jax.sharding.Sharding | None = None
) -> tuple[Cutter, grain.DatasetIterator, int]:
    """What cuts crops of all splits, the training batches, and how many of these make an epoch."""
    config, data = subject.config, subject.data
    cutter = cutter_of(subject, sharding)
    batches, _ = training_iterator(
        data.store,
        data.rows["train"],
        batch_size=config.batch_size,
        seed=stream_seed(config),
        epochs=config.epochs,
        crops=config.data.crops,
        seconds=subject.model.spec.seconds,
        last_start=switches.of(config).last_crop_start == "drawn",
        cutter=cutter,
        sharding=sharding,
    )
    return cutter, batches, len(data.rows["train"]) // config.batch_size


def set_up(config: ConfigDict, directory: RunDirectory, head_run: HeadRun, reported: tuple[Task, ...]) -> Setting:
    """Loads model and data and builds the training program.

    Raises:
        UserError: weights, data or task cannot be used together.
    """
    subject = load(config, directory, head_run, reported, Parts())
    directory.write_environment(seed=config.seed, data={"fingerprint": subject.data.store.fingerprint})
    mesh = make_mesh(1, config.batch_size)
    sharding = batch_sharding(mesh)
    cutter, batches, steps = stream(subject, sharding)
    program = build(subject, mesh)
    return Setting(subject, cutter, program, batches, steps, sharding)


def build(subject: Subject, mesh: jax.sharding.Mesh) -> Program:
    """The training program of a model, with the outputs of the data that it is evaluated on.

    Args:
        subject: model, config and data.
        mesh: of the devices.
    """
    config, data = subject.config, subject.data
    program = supervised.build(
        subject.model,
        supervised.get_mode(config.mode),
        n_classification=data.n_classification,
        n_regression=data.n_regression,
        learning_rate=config.learning_rate,
        rate_factor=config.rate_factor,
        weight_decay=config.weight_decay,
        seed=config.seed,
        paper_groups=switches.of(config).rate_groups == "published",
    )
    if batch_sharding(mesh) is None:
        return program
    state, frozen = jax.device_put((program.state, program.frozen), sharded(mesh))  # several devices share each batch
    return program._replace(state=state, frozen=frozen)


def announce(setting: Setting) -> None:
    """Prints what will be trained on what."""
    program = setting.program
    announce_data(setting.subject, f"{setting.subject.config.epochs} epochs of {setting.steps_per_epoch} steps")
    print(group_table(program.groups))
    if program.frozen:
        print(f"frozen encoder: {size(program.frozen['params']):,} values in evaluation mode, without gradients")
    print(flush=True)


def announce_data(subject: Subject, length: str) -> None:
    """Prints data, model and mode.

    Args:
        subject: what is evaluated on what.
        length: of the training, in words.
    """
    config, data = subject.config, subject.data
    synthetic = " (synthetic, not real patients)" if data.store.meta["source"] == "synthetic" else ""
    print(f"data      {data.store.path}{synthetic}")
    counts = ", ".join(f"{len(rows):,} {split}" for split, rows in data.rows.items())
    print(f"records   {counts}; {data.n_classification} classes, {data.n_regression} regression targets")
    if any(data.left_out.values()):
        short = ", ".join(f"{count:,} {split}" for split, count in data.left_out.items() if count)
        print(f"left out  {short}: shorter than {max(subject.model.spec.seconds, subject.head_run.min_seconds):g} s")
    if not subject.condition.plain:
        nyquist = min(data.store.sampling_rate, subject.model.spec.sampling_rate) / 2
        print(f"signal    {conditions.words(subject.condition, nyquist)}")
    print(f"model     {config.model}, {config.weights or 'random initialisation (config.weights names none)'}")
    print(f"mode      {config.mode}, protocol {switches.name_of(config)}, {length}\n")


def size(tree: Any) -> int:
    """Number of values in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
