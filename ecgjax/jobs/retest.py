"""Job "retest": finished evaluations tested again under other conditions, without training; see configs/retest.py.

Each test is a folder like that of an evaluation with the condition in its config, whose training would have been the
same: predictions.npz, results.json (no seconds of training), config.json, environment.json, DONE.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from configs.evaluate import get_config
from ecgjax import tasks
from ecgjax.data import conditions
from ecgjax.data.batches import evaluation_iterator
from ecgjax.data.cutter import Cutter, Item
from ecgjax.data.leads import CANONICAL
from ecgjax.errors import UserError
from ecgjax.evaluation.collect import Cell, collect
from ecgjax.jobs import evaluate_outcome as outcome
from ecgjax.jobs.evaluate_setting import Parts, Subject, cutter_of
from ecgjax.jobs.trained import Trained, open_run
from ecgjax.models.forward import Forward
from ecgjax.training import supervised
from ecgjax.training.mesh import batch_sharding, make_mesh, sharded
from ecgjax.training.run_directory import RunDirectory


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Tests every run under every condition, and says which runs cannot be.

    Raises:
        UserError: no run that can be tested, a condition that training would see, or folders that cannot be used.
    """
    sources, left_out = (
        [part.strip() for part in text.split(",") if part.strip()] for text in (config.runs, config.exclude)
    )
    if not sources:
        raise UserError("config.runs is empty; expected a folder with finished runs: --config.runs=DIR")
    if workdir is None:
        raise UserError("--workdir is missing; expected the folder for the tests")
    signals = [_signal(point) for point in config.conditions]
    found = collect(*map(Path, sources), exclude=left_out)
    excluded, tested, parts = list(found.excluded), 0, Parts()
    for cell in found.cells:
        try:
            trained = open_run(cell.path)
        except UserError as error:
            excluded.append((cell.key, str(error)))
            continue
        _test(cell, trained, signals, workdir / cell.key, parts)
        tested += 1
    for path, reason in excluded:
        print(f"left out  {path}: {reason}")
    if not tested:
        raise UserError(f"config.runs: {config.runs}: no finished evaluation below it that can be tested again")
    print(f"written   {tested} runs x {len(signals)} conditions: {workdir}")


def _signal(point: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `config.signal`, without their prefix.

    Raises:
        UserError: other fields, or a condition that training would see.
    """
    others = [key for key in point if not key.startswith("signal.")]
    if others:
        raise UserError(f"config.conditions: {others[0]} is set; expected fields of signal alone: no model is trained")
    signal = {key.removeprefix("signal."): value for key, value in point.items()}
    condition = conditions.parse(signal)
    if condition.leads != CANONICAL or condition.draws or condition.disturbed != "test":
        raise UserError(
            f"config.conditions: {dict(point)} changes what training sees; expected disturbances of the test records "
            "on twelve leads (configs/sweep_leads.py trains on fewer)"
        )
    return signal


def _test(cell: Cell, trained: Trained, signals: Sequence[Mapping[str, Any]], folder: Path, parts: Parts) -> None:
    config = _config(cell)
    head_run, reported = tasks.get(config.task)
    mesh = make_mesh(1, config.batch_size)
    sharding = batch_sharding(mesh)
    model, head, split = trained.model, trained.head, trained.n_classification

    @Forward
    def predict(variables: Any, params: Any, cutter: Cutter, item: Item) -> tuple[jax.Array, jax.Array]:
        features, _ = model.encoder.apply(variables, cutter(item))
        return supervised.scores_of(head.apply(params, features), split)

    weights = model.variables, trained.params
    weights = weights if sharding is None else jax.device_put(weights, sharded(mesh))
    for signal in signals:
        config.signal = ConfigDict({**get_config().signal, **signal})
        directory = RunDirectory.open(folder / _name(signal), config)
        if directory.done:
            continue
        with directory.setting_up():
            data = parts.subset(config, parts.data(config, head_run, model.spec.seconds))
            _check_same(cell, data.store.fingerprint)
            directory.write_environment(seed=config.seed, data={"fingerprint": data.store.fingerprint})
        subject = Subject(config, directory, head_run, reported, model, data)
        cutter, started = cutter_of(subject, sharding), time.monotonic()
        options = {"batch_size": config.batch_size, "sharding": sharding}
        items = evaluation_iterator(data.store, data.rows["test"], cutter, **options)
        scores = outcome.gather(data, "test", ((item, *predict(*weights, cutter, item)) for item in items))
        best = {key: value for key, value in cell.results["best"].items() if key != "criterion"}
        outcome.write(
            subject, scores, best=best, parameters=cell.results["parameters"], training_seconds=0.0, started=started
        )
        directory.finish()
        nyquist = min(data.store.sampling_rate, model.spec.sampling_rate) / 2
        print(f"tested    {cell.key}: {conditions.words(subject.condition, nyquist)}", flush=True)


def _config(cell: Cell) -> ConfigDict:
    """The run's own, without figures; fields that did not exist then have their default."""
    own = cell.config
    config = get_config(f"model={own['model']},task={own['task']},mode={own['mode']}")
    with config.unlocked():
        config.update(ConfigDict({**own, "figures": False}))
    return config


def _name(signal: Mapping[str, Any]) -> str:
    """Of a folder: "powerline=6", "swap=RA-LA"."""
    return ",".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in signal.items()
    ).replace("/", "-")


def _check_same(cell: Cell, fingerprint: str) -> None:
    if cell.data["fingerprint"] != fingerprint:
        raise UserError(
            f"{cell.config['data']['store']}: has changed since {cell.key} was tested; expected the same store"
        )
