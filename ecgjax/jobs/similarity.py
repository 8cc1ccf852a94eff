"""Job "similarity": CKA between the layers of models, and linear probes of layers; see configs/similarity.py.

similarity.json (format 1):

    format, ecgjax      1, version
    data                source, fingerprint, records (compared), split
    models              name -> weights (SHA-256 or null), layers
    pairs               model_x, model_y, layers_x, layers_y, estimator, batch, records, matrix (null: constant layer)
    probes              model, layer, task, value, low, high (macro AUROC, 95 % percentile bootstrap), penalty, records
"""

from collections.abc import Mapping
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import ecgjax
from ecgjax import atomic, bootstrap, tasks
from ecgjax.errors import UserError
from ecgjax.evaluation import cka, labelled
from ecgjax.evaluation.labelled import Labelled
from ecgjax.evaluation.layers import layer_features
from ecgjax.evaluation.metrics import check_choice
from ecgjax.evaluation.probes import probe
from ecgjax.models import weights as weights_io
from ecgjax.models.model import Model, load_model
from ecgjax.reporting import similarity_map
from ecgjax.training.run_directory import RunDirectory

FORMAT, RESULTS = 1, "similarity.json"


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Computes every layer once per model, compares all pairs of models, draws the maps.

    Raises:
        UserError: config, data, weights or work directory cannot be used.
    """
    check_choice("config.estimator", config.estimator, ("biased", "unbiased", "minibatch"))
    for name in ("records", "batch_size", "probe_records"):
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}; expected 1 or more")
    if (config.batch is not None) != (config.estimator == "minibatch"):
        raise UserError(f"config.batch is {config.batch}; expected a number with config.estimator=minibatch only")
    models = _load_models(config)
    head_run, (task, *_) = tasks.get(config.data.task)
    longest = max(model.spec.seconds for model in models.values())
    data = labelled.load(head_run, longest, config.data.store, config.data.labels)
    directory = RunDirectory.open(workdir, config)
    directory.write_environment(seed=config.seed, data={data.store.path.name: data.store.fingerprint})
    rows = _spread(np.sort(np.concatenate([data.rows["validation"], data.rows["test"]])), config.records)
    layers = {name: layer_features(model, data.store, rows, config.batch_size) for name, model in models.items()}
    pairs = [_pair(x, y, layers, config) for x, y in combinations_with_replacement(models, 2)]
    probes: list[dict[str, Any]] = []
    if config.probes:
        for name, model in models.items():
            probes += _probe_layers(name, model, data, task, config)
    result = {
        "format": FORMAT,
        "ecgjax": ecgjax.__version__,
        "data": {
            "source": data.store.meta["source"],
            "fingerprint": data.store.fingerprint,
            "records": len(rows),
            "split": "validation and test",
        },
        "models": {
            name: {"weights": _fingerprint(config, name), "layers": list(found)} for name, found in layers.items()
        },
        "pairs": pairs,
        "probes": probes,
    }
    atomic.write_json(directory.path / RESULTS, result)
    _draw(directory.path / "figures", pairs)
    directory.finish()
    _show(result, directory.path)


def _load_models(config: ConfigDict) -> dict[str, Model]:
    models: dict[str, Model] = {}
    for name, weights in _named(config).items():
        models[name] = load_model(name, weights, config.seed)
    return models


def _named(config: ConfigDict) -> dict[str, str | None]:
    named: dict[str, str | None] = {}
    for part in filter(None, (part.strip() for part in config.models.split(","))):
        name, equals, weights = part.partition("=")
        if name in named:
            raise UserError(f"config.models names {name} twice; expected each model once")
        named[name] = weights if equals else None
    if not named:
        raise UserError("config.models is empty; expected NAME or NAME=WEIGHTS, separated by commas")
    return named


def _fingerprint(config: ConfigDict, name: str) -> str | None:
    weights = _named(config)[name]
    return None if weights is None else str(weights_io.load_card(Path(weights))["sha256"])


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _pair(x: str, y: str, layers: Mapping[str, Mapping[str, NDArray]], config: ConfigDict) -> dict[str, Any]:
    others = None if x == y else list(layers[y].values())
    matrix = cka.matrix(list(layers[x].values()), others, config.estimator, config.batch)
    return {
        "model_x": x,
        "model_y": y,
        "layers_x": list(layers[x]),
        "layers_y": list(layers[y]),
        "estimator": config.estimator,
        "batch": config.batch,
        "records": len(next(iter(layers[x].values()))),
        "matrix": [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in matrix],
    }


def _probe_layers(
    name: str, model: Model, data: Labelled, task: tasks.Task, config: ConfigDict
) -> list[dict[str, Any]]:
    columns = [i for i in task.select(data.classes, data.kinds) if data.kinds[i] == "classification"]
    if not columns:
        raise UserError(f"config.probes: task {task.name} has no classification target; expected one")
    rows = {"train": _spread(data.rows["train"], config.probe_records)}
    rows |= {split: data.rows[split] for split in ("validation", "test")}
    layers = {split: layer_features(model, data.store, found, config.batch_size) for split, found in rows.items()}
    targets = {split: data.targets[found][:, columns] for split, found in rows.items()}
    results = []
    for layer in layers["train"]:
        train, validation = ((layers[split][layer], targets[split]) for split in ("train", "validation"))
        scores, penalty = probe(train, validation, layers["test"][layer])
        found = bootstrap.intervals(targets["test"], scores, seed=config.seed)
        results.append(
            {
                "model": name,
                "layer": layer,
                "task": task.name,
                "value": found.macro_value,
                "low": found.macro_low,
                "high": found.macro_high,
                "penalty": penalty,
                "records": len(rows["train"]),
            }
        )
    return results


def _draw(folder: Path, pairs: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for pair in pairs:
        figure = similarity_map.plan(pair)[2]()
        for kind in ("png", "svg"):
            figure.savefig(folder / f"similarity_{pair['model_x']}_{pair['model_y']}.{kind}", dpi=150)


def _show(result: Mapping[str, Any], path: Path) -> None:
    console = Console(highlight=False)
    for pair in result["pairs"]:
        values = np.array(pair["matrix"], float)
        # A layer with itself is 1.
        compared = values - 2 * np.eye(*values.shape) if pair["model_x"] == pair["model_y"] else values
        x, y = np.unravel_index(np.nanargmax(compared), values.shape)
        console.print(
            f"{pair['model_x']} and {pair['model_y']}: CKA {np.nanmin(values):.2f} to {np.nanmax(values):.2f} over "
            f"{values.size} pairs of layers; most alike: {pair['layers_x'][x]} and {pair['layers_y'][y]}"
        )
    if result["probes"]:
        table = Table(title="linear probes: macro AUROC", title_justify="left")
        for column in ("model", "layer", "value", "95 % interval"):
            table.add_column(column)
        for entry in result["probes"]:
            interval = f"{entry['low']:.3f} to {entry['high']:.3f}"
            table.add_row(entry["model"], entry["layer"], f"{entry['value']:.3f}", interval)
        console.print(table)
    console.print(f"{path / RESULTS}; maps in {path / 'figures'}")
