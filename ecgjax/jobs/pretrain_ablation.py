"""Job "pretrain_ablation": objectives x encoders x budgets on the same data, in one evaluation table.

See configs/pretrain_ablation.py. The work directory holds pretraining/NAME/SEED (a run of job "pretrain" each),
evaluation (a sweep over them, and over encoders that were not trained), report (of that sweep, names as its models, and
their seeds) and pretraining.csv: what each cost and how its features spread. Kill it and start the same command again:
what is done is not repeated.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import pretrain as pretrain_config
from ecgjax import atomic
from ecgjax.errors import UserError
from ecgjax.jobs import pretrain, report, sweep
from ecgjax.jobs.pretrain_setting import check, recipe
from ecgjax.sweep import plan as planning
from ecgjax.sweep.axes import Axes, Point, product
from ecgjax.sweep.cells import flat

OWN = ("name", "objective", "model")
Key = tuple[str, int]
"""Name and seed."""


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Pretrains, evaluates and compares.

    Raises:
        UserError: points of the axes that cannot be, a pretraining or the report that fails.
        SystemExit: as jobs pretrain and sweep.
    """
    if workdir is None:
        raise UserError("--workdir is missing; expected a folder for the pretrainings and their evaluation")
    runs, refused = plan(config.pretraining, flat(config.common))
    for name, reason in refused.items():
        print(f"left out  {name}: {reason}")
    if not runs:
        raise UserError("config.pretraining: no point can be trained; see the reasons above")
    folders = {(name, seed): workdir / "pretraining" / name / str(seed) for name, seed in runs}
    evaluated = encoders(runs, folders, config.untrained)
    for number, (key, own) in enumerate(runs.items(), 1):
        print(f"\npretraining {number} of {len(runs)}: {key[0]}, seed {key[1]}")
        pretrain.run(own, folders[key])
    _write_costs(workdir, runs, folders)
    evaluation = config.evaluation.copy_and_resolve_references()
    with evaluation.unlocked():
        evaluation.axes = product(tuple(evaluated.values()), config.evaluation.axes)
    sweep.run(evaluation, workdir / "evaluation")
    _report(config, evaluation, workdir, evaluated)


def plan(points: Axes, common: Mapping[str, Any] | None = None) -> tuple[dict[Key, ConfigDict], dict[str, str]]:
    """The configs of the pretrainings by name and seed, and the names of those left out with the reason.

    Args:
        points: "name", "objective", "model", and fields of configs/pretrain.py.
        common: fields of configs/pretrain.py for all of them.

    Raises:
        UserError: a name that is missing or given twice with one seed, or a field or value that cannot be.
    """
    runs: dict[Key, ConfigDict] = {}
    refused: dict[str, str] = {}
    for point in points:
        missing = [field for field in OWN if field not in point]
        if missing:
            raise UserError(f"config.pretraining: {dict(point)} has no {missing[0]}; expected {', '.join(OWN)} in each")
        name, both = point["name"], sorted({*point} & {*(common or {})})
        if both:
            raise UserError(f"config.common.{both[0]} is set, and {name} sets it too; expected one of them")
        own = _config({**(common or {}), **point})
        if (name, own.seed) in runs or not _is_name(name):
            raise UserError(f"config.pretraining: name {name!r} is twice or no folder; expected one for each point")
        check(own)
        try:
            recipe(own)
        except UserError as error:
            refused[name] = str(error)
        else:
            runs[name, own.seed] = own
    return runs, refused


def encoders(runs: Mapping[Key, ConfigDict], folders: Mapping[Key, Path], untrained: Axes) -> dict[Key, Point]:
    """What of configs/evaluate.py each encoder that is compared sets, by name and seed.

    Args:
        runs: the pretrainings.
        folders: of theirs.
        untrained: "name", "model", and fields of configs/evaluate.py, of encoders as they are initialised.

    Raises:
        UserError: a name that is missing or given twice with one seed.
    """
    found: dict[Key, Point] = {
        key: {"model": own.model, "weights": str(folders[key]), "seed": own.seed} for key, own in runs.items()
    }
    for point in untrained:
        key = point.get("name", ""), point.get("seed", 0)
        if key in found or not _is_name(key[0]) or "model" not in point:
            raise UserError(f"config.untrained: {dict(point)}; expected a model, and a name that no other point has")
        found[key] = {"seed": 0, **{field: value for field, value in point.items() if field != "name"}}
    return found


def _is_name(name: str) -> bool:
    return bool(name) and set(name).isdisjoint("/=,*?[")


def _config(point: Mapping[str, Any]) -> ConfigDict:
    own = pretrain_config.get_config(f"objective={point['objective']},model={point['model']}")
    for field, value in point.items():
        if field in OWN:
            continue
        *path, last = field.split(".")
        node: Any = own
        for part in path:
            node = node.get(part) if isinstance(node, ConfigDict) else None
        if not isinstance(node, ConfigDict) or last not in node:
            raise UserError(f"config.pretraining: {point['name']}: no field {field} in configs/pretrain.py")
        try:
            node[last] = value
        except TypeError as error:
            raise UserError(f"config.pretraining: {point['name']}: {field} is {value!r}; {error}") from error
    return own


def _write_costs(workdir: Path, runs: Mapping[Key, ConfigDict], folders: Mapping[Key, Path]) -> None:
    rows = []
    for key, own in runs.items():
        results = json.loads((folders[key] / "results.json").read_text(encoding="utf-8"))
        shown = ("loss", "validation_loss", "feature_std_mean", "feature_effective_rank", "records_per_second")
        rows.append(
            {
                "name": key[0],
                "objective": own.objective,
                "model": own.model,
                "seed": own.seed,
                **results["budget"],
                "parameters": results["parameters"]["encoder"],
                **{what: results.get(what) for what in shown},
            }
        )
    path = workdir / "pretraining.csv"
    with atomic.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nwhat the pretrainings cost  {path}")


def _report(config: ConfigDict, evaluation: ConfigDict, workdir: Path, evaluated: Mapping[Key, Point]) -> None:
    """One report in which each name is a model."""
    names = {_encoder(point): name for (name, _), point in evaluated.items()}
    cells = workdir / "evaluation" / sweep.CELLS
    settings = config.report.copy_and_resolve_references()
    settings.runs = str(cells)
    settings.rename = ",".join(
        f"{cells / cell.name}={names[_encoder(cell.point)]}" for cell in planning.make(evaluation).cells
    )
    report.run(settings, workdir / "report")


def _encoder(point: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """What tells encoders apart, whatever they are evaluated on."""
    own = ("model", "weights")
    return frozenset((key, value) for key, value in point.items() if key in own or key.startswith("model_arguments."))
