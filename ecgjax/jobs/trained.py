"""A finished evaluation's model with its trained head, whatever its mode, to be used on other recordings."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ecgjax.errors import UserError
from ecgjax.evaluation.predictions import read_predictions
from ecgjax.evaluation.results import PREDICTIONS, RESULTS
from ecgjax.jobs.evaluate_exact import PROBE
from ecgjax.jobs.evaluate_setting import Parts
from ecgjax.models import heads
from ecgjax.models.model import Model, load_model
from ecgjax.models.weights import load_card, load_heads
from ecgjax.training import supervised
from ecgjax.training.checkpoints import Checkpoints


class Trained(NamedTuple):
    """A model and its head.

    Attributes:
        model: encoder and weights.
        head: its kind and function.
        params: of the head.
        labels: of the outputs, classification first.
        n_classification: how many of them are classes.
        results: content of results.json.
    """

    model: Model
    head: heads.Head
    params: heads.Params
    labels: tuple[str, ...]
    n_classification: int
    results: dict[str, Any]


def open_run(folder: Path) -> Trained:
    """Reads a run's model and head.

    Args:
        folder: work directory of a finished evaluation.

    Raises:
        UserError: no finished evaluation, weights that are not here or are others now, or a run that kept no head.
    """
    if not (folder / "DONE").is_file() or not (folder / RESULTS).is_file():
        raise UserError(f"{folder}: no finished evaluation; expected the work directory of configs/evaluate.py")
    config, results = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", RESULTS))
    found = read_predictions((folder / PREDICTIONS).read_bytes(), folder / PREDICTIONS)
    mode, n_classification = supervised.get_mode(results["mode"]), found.kinds.count("classification")
    if mode.trains_encoder:
        model = load_model(results["model"], folder)
        params = load_heads(folder)[mode.head]
    else:
        model = _frozen(folder, config, results)
        if mode.exact:
            with np.load(folder / PROBE) as file:
                params = {name: file[name] for name in ("kernel", "bias")}
        else:
            params = _of_checkpoint(folder, config, model, mode, n_classification, len(found.labels))
    head = heads.create(mode.head, model.spec.channels, len(found.labels))
    return Trained(model, head, params, found.labels, n_classification, results)


def _frozen(folder: Path, config: dict[str, Any], results: dict[str, Any]) -> Model:
    """The encoder, from where its weights came from."""
    weights = config["weights"]
    if weights and load_card(Path(weights))["sha256"] != results["weights"]:
        raise UserError(f"{weights}: other weights than {folder} was evaluated with; expected those it names")
    return Parts().model(ConfigDict({**config, "model_arguments": _tuples(config["model_arguments"])}))


def _of_checkpoint(
    folder: Path, config: dict[str, Any], model: Model, mode: supervised.Mode, n_classification: int, outputs: int
) -> heads.Params:
    if not (folder / "checkpoints").is_dir():
        raise UserError(
            f"{folder}: has no checkpoints, as cells of a sweep whose heads were trained together; expected a run of "
            "configs/evaluate.py of its own, a fine-tuned one, or mode linear_exact"
        )
    program = supervised.build(
        model,
        mode,
        n_classification=n_classification,
        n_regression=outputs - n_classification,
        learning_rate=config["learning_rate"],
        rate_factor=config["rate_factor"],
        weight_decay=config["weight_decay"],
        seed=config["seed"],
    )
    with Checkpoints(folder / "checkpoints") as checkpoints:
        best = checkpoints.restore(program.state, best=True)
    if best is None:
        raise UserError(f"{folder / 'checkpoints'}: no best checkpoint; expected the one that was tested")
    return best.state.params["head"]


def _tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
