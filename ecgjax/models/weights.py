"""Weights on disk: a folder with `weights.safetensors` and `card.json`.

safetensors rather than an Orbax checkpoint: one file that any language reads, memory-mapped, with no code in it, and
whose keys are the variable paths, e.g. "params/encoder/conv_0/kernel".
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import ecgjax
from ecgjax import atomic
from ecgjax.errors import UserError
from ecgjax.models import safetensors_file
from ecgjax.models.encoder import Encoder, Variables

WEIGHTS = "weights.safetensors"
CARD = "card.json"
HEADS = "heads"


def save_weights(
    directory: Path,
    encoder: Encoder,
    variables: Variables,
    heads: Mapping[str, Any] | None = None,
    **card: Any,
) -> None:
    """Writes weights and their card; the card comes last, so that a folder with a card is whole.

    Args:
        directory: folder, made if missing.
        encoder: the model.
        variables: its variables.
        heads: parameters of further layers that were trained with it, by name, e.g. {"ssl": {"kernel": ...}}.
        **card: facts to put on the card (source, licence, training step ...).

    Raises:
        UserError: the folder may not be written, or the disk is full.
    """
    tree = dict(variables) if not heads else {**variables, HEADS: dict(heads)}
    tensors = {key: np.asarray(value) for key, value in flatten_dict(tree, sep="/").items()}
    with ecgjax.errors.disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CARD).unlink(missing_ok=True)
    with atomic.replacing(directory / WEIGHTS) as temporary:
        safetensors_file.write(temporary, tensors)
    content = {
        "model": encoder.spec.name,
        "arguments": dict(encoder.arguments),
        "parameters": sum(value.size for key, value in tensors.items() if key.startswith("params/")),
        "tensors": len(tensors),
        "sha256": _sha256(directory / WEIGHTS),
        "date": datetime.now(UTC).date().isoformat(),
        "ecgjax": ecgjax.__version__,
        **card,
    }
    atomic.write_json(directory / CARD, content)


def find(directory: Path) -> Path:
    """The folder with the card: `directory` itself, or `directory`/weights when that is a run's work directory.

    Raises:
        UserError: there is no card in either.
    """
    for folder in (directory, directory / "weights"):
        if (folder / CARD).is_file():
            return folder
    raise UserError(
        f"{directory}: no {CARD} here or in weights/; expected a folder of ecgjax weights or a run's workdir"
    )


def load_card(directory: Path) -> dict[str, Any]:
    """The card of a folder of weights.

    Raises:
        UserError: there is none, or it is not a card.
    """
    path = find(directory) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error}); expected the card that ecgjax wrote") from error
    if not isinstance(card, dict) or not {"model", "arguments", "sha256"} <= card.keys():
        raise UserError(f"{path}: not a card of ecgjax weights; expected model, arguments and sha256")
    return card


def load_weights(
    directory: Path, put: Callable[[np.ndarray], Any] = lambda array: array
) -> tuple[str, dict[str, Any], Variables]:
    """Reads what `save_weights` wrote.

    Args:
        directory: the folder, or the work directory of the run that wrote it.
        put: what becomes of each array as soon as it is read, e.g. `jax.device_put`: there are then never two copies
            of all of them.

    Returns:
        Model name, arguments of `registry.create`, variables (heads left out).

    Raises:
        UserError: files missing, damaged or not of ecgjax.
    """
    card = load_card(directory)
    return card["model"], dict(card["arguments"]), _load(directory, lambda key: not key.startswith(f"{HEADS}/"), put)


def load_heads(directory: Path) -> dict[str, Any]:
    """Parameters of the further layers saved beside the encoder, by name; empty if there are none."""
    return dict(_load(directory, lambda key: key.startswith(f"{HEADS}/")).get(HEADS, {}))


def _load(
    directory: Path, wanted: Callable[[str], bool], put: Callable[[np.ndarray], Any] = lambda array: array
) -> dict[str, Any]:
    path = find(directory) / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: missing; expected it beside {CARD}")
    if _sha256(path) != load_card(directory)["sha256"]:
        raise UserError(f"{path}: damaged or replaced: its SHA-256 is not the one in {CARD}; convert or copy it again")
    try:
        # Read rather than memory-mapped: mapped pages would stay in memory beside the arrays made of them.
        flat = {key: put(array) for key, array in safetensors_file.read(path, wanted)}
        return dict(unflatten_dict(flat, sep="/"))
    except ValueError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
