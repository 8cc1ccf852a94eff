"""Finished runs that stand for the trainings of a study of label efficiency, wherever they were made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ecgjax import tasks
from ecgjax.data import conditions
from ecgjax.errors import UserError
from ecgjax.evaluation.collect import CONFIG, DONE
from ecgjax.training.run_directory import FREE_FIELDS

# What does not change what is trained and predicted; the study makes its own intervals.
_UNCOMPARED = {*FREE_FIELDS, "interval", "save_crops", "data.features", "data.placement"}
_PLACES = ("weights", "data.store")


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of the model in the study.
        ratio: of the training records.
        seed: of the training.
        path: of its run.
        config: of its run.
        taken: whether the run there was made elsewhere; it is only read.
    """

    name: str
    ratio: float
    seed: int
    path: Path
    config: ConfigDict
    taken: bool = False


def instead(cells: Sequence[Training], folder: Path) -> list[Training]:
    """The trainings, at the paths of finished runs of the same configs where there are any.

    Args:
        cells: as planned.
        folder: where to look, at any depth.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"config.runs: {folder}: no such folder; expected one with finished runs below it")
    there: dict[str, Path] = {}
    for done in sorted(folder.rglob(DONE)):
        config = _config(done.parent)
        if config.get("job") == "evaluate":
            there.setdefault(_identity(config), done.parent)
    paths = [there.get(_identity(cell.config.to_dict())) for cell in cells]
    return [
        cell if path is None else replace(cell, path=path, taken=True) for cell, path in zip(cells, paths, strict=True)
    ]


def _config(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _identity(config: Mapping[str, Any]) -> str:
    """Equal for configs of the same training: fields without a value and those that do not matter are left out."""
    flat = {key: value for key, value in _flat(config).items() if not key.startswith("signal.")}
    flat["signal"] = conditions.parse(config.get("signal") or {}).canonical()  # runs before there was one had none
    for place in _PLACES:
        if place in flat:
            flat[place] = str(Path(flat[place]).resolve())
    head_run, _ = tasks.get(flat["task"])
    return json.dumps({**flat, "task": head_run.name}, sort_keys=True)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix + key
        if name in _UNCOMPARED or value is None:
            continue
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
