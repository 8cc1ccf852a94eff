"""Job "label_efficiency": models trained on shares of a task's data, and their curves; see configs/label_efficiency.py.

label_efficiency.json (format 1; numbers that are not defined are null):

    format, kind        1, "ecgjax label efficiency"
    ecgjax              version that wrote it
    task, metric        name; "auroc" or "mae"
    error               what all values are: 1 - macro AUROC, or the pooled absolute error in standard deviations
    unit                what n counts: "record". With subset "paper" there is one record per patient
    protocol, absent    "fixed" or "paper"; what an undefined class does to a macro average, "skip" or "half"
    subset, validation  "nested" or "paper" (ecgjax.data.subsets); validation records "cut" by the ratio too, or "full"
    ratios, seeds       of the trainings; errors are means over the seeds
    baseline            name of the model whose training records are counted
    records             of the test set, which is always the whole one
    interval            level, replicates, unit (record or patient), seed of the bootstrap; defined: replicates used.
                        All limits are its percentiles, of the same resamples for all models and ratios
    data                source, fingerprint, label_set, sampling_rate, synthetic
    models              name -> registry name (model), mode, weights (SHA-256 or null), arguments, and
        n, patients     training records and patients for each ratio, mean over the seeds
        value, low, high  error for each ratio
        by_seed         [[error for each ratio] for each seed]
        fit             C, alpha, L0 of error(n) = C n^-alpha + L0; limits: {C, alpha, L0: [low, high]}; rmse of the
                        errors about the curve; band: {n, value, low, high}
        ratio           {N: {...}} for each N asked for and "full", the most that the baseline had: n = N; r, low,
                        high: share of N records with which the model reaches the baseline's error; undefined: share of
                        replicates in which it never does. These count as larger than any r, so that high is null if
                        they are many; error: the baseline's at N; needed = r N; extrapolated: N or needed lies outside
                        the sizes that were trained on; reason: why r is null. Empty for the baseline
        runs            [[path of the run for each ratio] for each seed], below the work directory or absolute
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

import ecgjax
from ecgjax import models, tasks
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import labelled, results
from ecgjax.evaluation.bootstrap import Metric
from ecgjax.evaluation.joint import joint
from ecgjax.evaluation.label_efficiency import describe, learners
from ecgjax.evaluation.labelled import Labelled
from ecgjax.evaluation.predictions import Predictions, read_predictions
from ecgjax.jobs import evaluate, finished
from ecgjax.jobs.finished import Training
from ecgjax.models import weights as weights_io
from ecgjax.reporting import efficiency_report
from ecgjax.training.run_directory import RunDirectory

FORMAT, KIND = 1, "ecgjax label efficiency"
RESULTS = efficiency_report.RESULTS
ERRORS = {"auroc": "1 − macro AUROC", "mae": "mean absolute error (standard deviations)"}
_OWN = ("job", "models", "baseline", "ratios", "seeds", "at", "cells", "runs")


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Trains what is not trained yet, fits, writes label_efficiency.json and a figure.

    Raises:
        UserError: config, data, weights or work directory cannot be used.
        SystemExit: SIGTERM or Ctrl-C came and everything is saved (143 or 130).
    """
    _check(config)
    directory = RunDirectory.open(workdir, config)
    if directory.done:
        print(f"{directory.path}: done already")
        efficiency_report.show(directory.path)
        return
    cells = list(_plan(config, directory.path))
    if config.runs:
        cells = finished.instead(cells, Path(config.runs))
    for number, cell in enumerate(cells, 1):
        done = cell.taken or RunDirectory.open(cell.path, cell.config).done
        what = f"{cell.name}, ratio {efficiency_report.share(cell.ratio)}, seed {cell.seed}"
        print(f"\n=== training {number} of {len(cells)}: {what}{': done already' if done else ''}", flush=True)
        if not done:
            evaluate.run(cell.config, cell.path)
    directory.write_json(RESULTS, _summarise(config, cells, directory.path))
    efficiency_report.draw(directory.path)
    directory.finish()
    efficiency_report.show(directory.path)


def _check(config: ConfigDict) -> None:
    if config.baseline not in config.models:
        raise UserError(f"config.baseline is {config.baseline!r}; expected one of {', '.join(config.models)}")
    if len(set(config.ratios)) < max(3, len(config.ratios)) or not all(0 < ratio <= 1 for ratio in config.ratios):
        raise UserError(f"config.ratios is {tuple(config.ratios)}; expected three or more different shares, 0 to 1")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds) or min(config.seeds) < 0:
        raise UserError(f"config.seeds is {tuple(config.seeds)}; expected different whole numbers from 0")
    if not all(n > 0 for n in config.at):
        raise UserError(f"config.at is {tuple(config.at)}; expected positive numbers of training records")
    if config.interval.kind != "percentile":
        raise UserError(f"config.interval.kind is {config.interval.kind!r}; expected percentile for fitted curves")


def _plan(config: ConfigDict, folder: Path) -> Iterator[Training]:
    """All trainings, the smallest first, checked against the data before any of them starts."""
    trainings = Path(config.cells) if config.cells else folder / "cells"
    shared = {key: value for key, value in config.to_dict().items() if key not in _OWN}
    head_run, _ = tasks.get(config.task)
    loaded: dict[float, Labelled] = {}
    sizes: dict[tuple[float, float, int], int] = {}
    for ratio in sorted(config.ratios):
        for seed in config.seeds:
            for name, own in config.models.items():
                seconds = _seconds(own)
                if seconds not in loaded:
                    loaded[seconds] = labelled.load(head_run, seconds, config.data.store, config.data.labels)
                key = (seconds, ratio, seed)
                if key not in sizes:
                    part = labelled.take(
                        loaded[seconds],
                        ratio=ratio,
                        method=config.data.subset,
                        validation=config.data.validation,
                        seed=seed,
                    )
                    sizes[key] = len(part.rows["train"])
                quiet = {"save_crops": False, "figures": False}
                cell = ConfigDict({"job": "evaluate", **shared, **own.to_dict(), "seed": seed, **quiet})
                cell.data.ratio = float(ratio)
                # Fewer records than a batch would be no step at all.
                cell.batch_size = min(config.batch_size, sizes[key])
                share = efficiency_report.share(ratio).replace("/", "-")
                yield Training(name, ratio, seed, trainings / name / f"ratio_{share}_seed_{seed}", cell)
    tested = [data.rows["test"] for data in loaded.values()]
    if not all(np.array_equal(rows, tested[0]) for rows in tested):
        raise UserError(
            f"task {config.task}: windows of {' and '.join(f'{seconds:g}' for seconds in sorted(loaded))} s leave out "
            "different test records; expected models that can be tested on the same ones"
        )
    for seconds in loaded:
        counts = {sizes[seconds, ratio, seed] for ratio in config.ratios for seed in config.seeds}
        if len(counts) < 3:
            raise UserError(
                f"config.ratios={tuple(config.ratios)} leave {', '.join(map(str, sorted(counts)))} training records; "
                "expected three different numbers or more"
            )


def _seconds(own: ConfigDict) -> float:
    """Window of a model."""
    stored = weights_io.load_card(Path(own.weights))["arguments"] if own.weights else {}
    given = {key: value for key, value in own.model_arguments.items() if value is not None}
    return models.create(own.model, **{**stored, **given}).spec.seconds


def _summarise(config: ConfigDict, cells: list[Training], folder: Path) -> dict[str, Any]:
    found = {(cell.name, cell.ratio, cell.seed): _read(cell.path) for cell in cells}
    paths = {(cell.name, cell.ratio, cell.seed): cell.path for cell in cells}
    ratios, seeds = sorted(config.ratios), list(config.seeds)
    (first, some), *_ = found.values()
    for key, (other, _) in found.items():
        if other["data"]["fingerprint"] != first["data"]["fingerprint"]:
            raise UserError(f"{paths[key]}: was trained on another store than the others; expected one for all")
    _, (task, *_) = tasks.get(config.task)
    metric: Metric = "auroc" if "auroc" in first["tasks"][task.name] else "mae"
    kind = "classification" if metric == "auroc" else "regression"
    columns = [i for i in task.select(some.labels, some.kinds) if some.kinds[i] == kind]
    level, replicates = config.interval.level, config.interval.replicates
    together = joint(
        some.targets[:, columns],
        {json.dumps(key): _aligned(some, other, paths[key])[:, columns] for key, (_, other) in found.items()},
        metric,
        replicates=replicates,
        level=level,
        seed=seeds[0],
        absent=first["absent"],
        groups=_patients(config, some) if config.interval.unit == "patient" else None,
    )
    sign, offset = (-1, 1) if metric == "auroc" else (1, 0)
    error = dict(zip(found, sign * together.value + offset, strict=True))
    samples = dict(zip(found, sign * together.samples.T + offset, strict=True))

    def mean(values: Mapping[tuple[str, float, int], Any], name: str) -> NDArray[np.float64]:
        return np.array([np.mean([values[name, ratio, seed] for seed in seeds], axis=0) for ratio in ratios])

    names = sorted(config.models, key=lambda name: (name != config.baseline, name))
    records = {key: summary["records"]["train"] for key, (summary, _) in found.items()}
    patients = {key: summary["patients"]["train"] for key, (summary, _) in found.items()}
    fitted = learners({name: (mean(records, name), mean(error, name), mean(samples, name).T) for name in config.models})
    entries = {}
    for name in names:
        summary, _ = found[name, ratios[-1], seeds[0]]
        entries[name] = {
            **{key: summary[key] for key in ("model", "mode", "weights", "arguments")},
            **describe(name, fitted, config.baseline, config.at, level),
            "patients": mean(patients, name),
            "by_seed": [[error[name, ratio, seed] for ratio in ratios] for seed in seeds],
            "runs": [[_shown(paths[name, ratio, seed], folder) for ratio in ratios] for seed in seeds],
        }
    data = {key: first["data"][key] for key in ("source", "fingerprint", "label_set", "sampling_rate", "synthetic")}
    return {
        "format": FORMAT,
        "kind": KIND,
        "ecgjax": ecgjax.__version__,
        "task": config.task,
        "metric": metric,
        "error": ERRORS[metric],
        "unit": "record",
        "protocol": config.protocol,
        "absent": first["absent"],
        "subset": config.data.subset,
        "validation": config.data.validation,
        "ratios": ratios,
        "seeds": seeds,
        "baseline": config.baseline,
        "records": len(some.record_id),
        "interval": {
            "level": level,
            "replicates": replicates,
            "unit": config.interval.unit,
            "seed": seeds[0],
            "defined": len(next(iter(fitted.values())).samples),
        },
        "data": data,
        "models": entries,
    }


def _read(path: Path) -> tuple[dict[str, Any], Predictions]:
    summary = json.loads((path / results.RESULTS).read_text(encoding="utf-8"))
    with disk_errors(path):
        content = (path / results.PREDICTIONS).read_bytes()
    return summary, read_predictions(content, path / results.PREDICTIONS)


def _aligned(reference: Predictions, other: Predictions, path: Path) -> NDArray[np.float32]:
    """Scores of a run in the order of another run's records."""
    order, wanted = np.argsort(other.record_id), np.argsort(reference.record_id)
    if other.labels != reference.labels or not np.array_equal(other.record_id[order], reference.record_id[wanted]):
        raise UserError(f"{path}: was tested on other records or labels than the first training; expected the same")
    scores = np.empty_like(other.scores)
    scores[wanted] = other.scores[order]
    return scores


def _patients(config: ConfigDict, found: Predictions) -> NDArray[np.str_]:
    head_run, _ = tasks.get(config.task)
    records = labelled.open_for(head_run, config.data.store).records
    return records.set_index("record_id")["patient_id"].loc[found.record_id.tolist()].to_numpy()


def _shown(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path.absolute()).as_posix()
