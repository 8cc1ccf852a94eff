"""Job "pretrain_ablation": objectives x encoders x budgets on the same data, in one evaluation table.

See configs/pretrain_ablation.py. The work directory holds pretraining/NAME (a run of job "pretrain" each), evaluation
(a sweep over them), report (of that sweep, the pretrainings as its models) and pretraining.csv: what each cost and how
its features spread. Kill it and start the same command again: what is done is not repeated.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import pretrain as pretrain_config
from configs import report as report_config
from ecgjax import atomic
from ecgjax.errors import UserError
from ecgjax.jobs import pretrain, report, sweep
from ecgjax.jobs.pretrain_setting import check, recipe
from ecgjax.sweep import plan as planning
from ecgjax.sweep.axes import Axes, product

OWN = ("name", "objective", "model")


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Pretrains, evaluates and compares.

    Raises:
        UserError: points of the axes that cannot be, a pretraining or the report that fails.
        SystemExit: as jobs pretrain and sweep.
    """
    if workdir is None:
        raise UserError("--workdir is missing; expected a folder for the pretrainings and their evaluation")
    runs, refused = plan(config.pretraining)
    for name, reason in refused.items():
        print(f"left out  {name}: {reason}")
    if not runs:
        raise UserError("config.pretraining: no point can be trained; see the reasons above")
    for number, (name, own) in enumerate(runs.items(), 1):
        print(f"\npretraining {number} of {len(runs)}: {name}")
        pretrain.run(own, workdir / "pretraining" / name)
    _write_costs(workdir, runs)
    evaluation = config.evaluation.copy_and_resolve_references()
    with evaluation.unlocked():
        weights = tuple({"model": c.model, "weights": str(workdir / "pretraining" / n)} for n, c in runs.items())
        evaluation.axes = product(weights, config.evaluation.axes)
    sweep.run(evaluation, workdir / "evaluation")
    _report(evaluation, workdir, runs)


def plan(points: Axes) -> tuple[dict[str, ConfigDict], dict[str, str]]:
    """The configs of the pretrainings by name, and those left out with the reason.

    Args:
        points: "name", "objective", "model", and fields of configs/pretrain.py.

    Raises:
        UserError: a name that is missing or given twice, or a field or value that cannot be.
    """
    runs: dict[str, ConfigDict] = {}
    refused: dict[str, str] = {}
    for point in points:
        missing = [field for field in OWN if field not in point]
        if missing:
            raise UserError(f"config.pretraining: {dict(point)} has no {missing[0]}; expected {', '.join(OWN)} in each")
        name = point["name"]
        if name in runs or name in refused or not name or not set(name).isdisjoint("/=,*?["):
            raise UserError(f"config.pretraining: name {name!r} is twice or no folder; expected one for each point")
        own = _config(point)
        check(own)
        try:
            recipe(own)
        except UserError as error:
            refused[name] = str(error)
        else:
            runs[name] = own
    return runs, refused


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


def _write_costs(workdir: Path, runs: Mapping[str, ConfigDict]) -> None:
    rows = []
    for name, own in runs.items():
        results = json.loads((workdir / "pretraining" / name / "results.json").read_text(encoding="utf-8"))
        shown = ("loss", "validation_loss", "feature_std_mean", "feature_effective_rank", "records_per_second")
        rows.append(
            {
                "name": name,
                "objective": own.objective,
                "model": own.model,
                "seed": own.seed,
                **results["budget"],
                "parameters": results["parameters"]["encoder"],
                **{key: results.get(key) for key in shown},
            }
        )
    path = workdir / "pretraining.csv"
    with atomic.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nwhat the pretrainings cost  {path}")


def _report(evaluation: ConfigDict, workdir: Path, runs: Mapping[str, ConfigDict]) -> None:
    """One report in which each pretraining is a model."""
    names = {str((workdir / "pretraining" / name).resolve()): name for name in runs}
    cells = workdir / "evaluation" / sweep.CELLS
    settings = report_config.get_config()
    settings.runs = str(cells)
    settings.rename = ",".join(
        f"{cells / cell.name}={names[str(Path(cell.settings['weights']).resolve())]}"
        for cell in planning.make(evaluation).cells
    )
    report.run(settings, workdir / "report")
