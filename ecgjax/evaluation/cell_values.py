"""What a report needs of one run: its tasks' values on the data and on shared resamples, kept in a file.

Records are taken in the order of their ids, so runs of one test set are on the same resamples whatever their own order,
and `population` tells whether two are. The file's name follows from the predictions and the settings: a report that is
made again reads it, and a report on another machine can be compared with it without the predictions.
"""

import json
import os
import threading
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import NDArray

from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import metrics
from ecgjax.evaluation.bootstrap import influences, replicate_values
from ecgjax.evaluation.collect import NPZ_READING, Cell, Predictions, fingerprint
from ecgjax.evaluation.limits import Kind, interval
from ecgjax.evaluation.replicated import Replicated
from ecgjax.evaluation.resamples import Resamples, draw_counts, unit_indices
from ecgjax.evaluation.results import RESULTS

METRICS = {"auroc": "classification", "mae": "regression"}
FILE_FORMAT = "ecgjax cell 1"
REPLICATES = "replicates"
"""Folder of a run with its values for a report of default settings, which need not be computed there."""

_TOLERANCE = 1e-4  # between results.json and what its predictions give


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the intervals.

    Attributes:
        level: nominal coverage.
        replicates: number of resamples.
        kind: of the intervals.
        unit: what is resampled, "record" or "patient".
        seed: of the resampling.
    """

    level: float = 0.95
    replicates: int = 1000
    kind: Kind = "percentile"
    unit: str = "record"
    seed: int = 0


@dataclass(frozen=True)
class CellValue:
    """One task of one run.

    Attributes:
        task: its name.
        metric: "auroc" or "mae".
        replicated: the overall value and its replicates.
        low: lower limit.
        high: upper limit.
        records: of the test set.
        patients: distinct ones, None if unknown.
        population: fingerprint of record ids, labels and targets (and patients, if they are resampled).
        labels: name -> value, low, high, known, positives (None for "mae").
    """

    task: str
    metric: str
    replicated: Replicated
    low: float
    high: float
    records: int
    patients: int | None
    population: str
    labels: dict[str, dict[str, Any]]


def file_name(cell: Cell, content: bytes, settings: Bootstrap) -> str:
    """Name of the file with a run's values: a fingerprint of all they follow from.

    Args:
        cell: the run.
        content: of its predictions.npz.
        settings: of the intervals.
    """
    labels = {name: {m: list(task[m]["labels"]) for m in METRICS if m in task} for name, task in _tasks(cell).items()}
    told = json.dumps([FILE_FORMAT, asdict(settings), cell.results["absent"], labels], sort_keys=True)
    return fingerprint(content, told)[:32] + ".npz"


def compute(cell: Cell, found: Predictions, settings: Bootstrap) -> list[CellValue]:
    """All tasks and metrics that a run's results.json names.

    Args:
        cell: the run.
        found: its predictions.
        settings: of the intervals.

    Raises:
        UserError: predictions that do not hold the tasks' labels, do not give the values of results.json, or name no
            patients where these are to be resampled.
    """
    order = np.argsort(found.record_id, kind="stable")
    targets, scores = found.targets[order], found.scores[order]
    groups, absent = None, cell.results["absent"]
    metrics.check_choice("results.json: absent", absent, ("skip", "half"))
    if settings.unit == "patient":
        if found.patient_id is None:
            raise UserError("predictions.npz has no patient_id; expected config.interval.unit=record for it")
        groups = found.patient_id[order]
    units = None if groups is None else unit_indices(groups, len(order))
    resamples = _resamples(len(order), settings.replicates, settings.seed, None if units is None else units.tobytes())
    ids = _as_bytes(found.record_id[order]) + (b"" if groups is None else _as_bytes(groups))
    patients = None if found.patient_id is None else len(np.unique(found.patient_id))

    columns = _columns(cell, found)
    shared = _all_aurocs(targets, scores, resamples, (c for (_, metric), c in columns.items() if metric == "auroc"))
    values = []
    for (task, metric), chosen in columns.items():
        known, predicted = targets[:, chosen], scores[:, chosen]
        if metric == "auroc":
            value, samples = (part[..., chosen] for part in shared)
            value = np.append(value, metrics.macro_average(value, absent))
            samples = np.column_stack([samples, metrics.macro_average(samples, absent)])
        else:
            value, samples = replicate_values(known, predicted, "mae", resamples, absent)
        shares: list[NDArray | None] = [None]
        if settings.kind == "bca":
            shares = list(influences(known, [predicted], "mae" if metric == "mae" else "auroc", absent, units))
        low, high = interval(value, samples, settings.level, settings.kind, shares)
        names = [found.labels[i] for i in chosen]
        _check_value(value[-1], cell, task, metric)
        by_name = sorted(range(len(names)), key=names.__getitem__)
        population = fingerprint(ids, json.dumps(sorted(names)), np.ascontiguousarray(known[:, by_name]).tobytes())
        values.append(
            CellValue(
                task,
                metric,
                Replicated(float(value[-1]), np.ascontiguousarray(samples[:, -1]), shares[-1]),
                *(float(low[-1]), float(high[-1]), len(order), patients, population),
                labels=_labels(names, known, metric, value, low, high),
            )
        )
    return values


def keep(folder: Path) -> None:
    """Writes a run's values with the default settings below its own folder; warns if a report could not use the run.

    Args:
        folder: of a run with results.json and predictions.npz.

    Raises:
        UserError: the disk is full, or may not be written.
    """
    results, settings = json.loads((folder / RESULTS).read_text(encoding="utf-8")), Bootstrap()
    cell = Cell(folder, folder.name, results["model"], results, config={}, environment={})
    content = cell.read()
    try:
        values = compute(cell, cell.predictions(content), settings)
    except UserError as error:
        logging.warning("%s: a report will leave this run out: %s", folder, error)
        return
    path = folder / REPLICATES / file_name(cell, content, settings)
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
    write(path, values, settings)


def write(path: Path, values: Iterable[CellValue], settings: Bootstrap) -> None:
    """Writes a run's values; the file is whole or absent.

    Raises:
        UserError: the disk is full, or may not be written.
    """
    about, arrays = [], {}
    for i, value in enumerate(values):
        about.append({**{k: v for k, v in vars(value).items() if k != "replicated"}, "value": value.replicated.value})
        arrays[f"samples_{i}"] = value.replicated.samples
        if value.replicated.influence is not None:
            arrays[f"influence_{i}"] = value.replicated.influence
    told = {"format": FILE_FORMAT, "settings": asdict(settings), "values": about}
    # Runs with the same predictions are written at the same time, to the same path.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with disk_errors(path):  # not synced: a file that a crash leaves damaged is made again
        try:
            with open(temporary, "wb") as file:
                np.savez(file, about=np.array(json.dumps(told)), **arrays)  # type: ignore[arg-type]
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read(path: Path, settings: Bootstrap) -> list[CellValue]:
    """What `write` wrote.

    Raises:
        UserError: no such file, a damaged one, or one with other settings.
    """
    try:
        with NPZ_READING, np.load(path, allow_pickle=False) as file:
            told = json.loads(str(file["about"]))
            if told["format"] != FILE_FORMAT:
                raise ValueError(f"format {told['format']}")
            _check_settings(told["settings"], settings, path)
            values = []
            for i, about in enumerate(told["values"]):
                influence = file[f"influence_{i}"] if f"influence_{i}" in file.files else None
                value = about.pop("value")
                about = {
                    key: np.nan if key in ("low", "high") and item is None else item for key, item in about.items()
                }
                values.append(CellValue(replicated=Replicated(value, file[f"samples_{i}"], influence), **about))
            return values
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable ({error}); expected the replicates of a report's row") from error


def _check_settings(there: Mapping[str, Any], settings: Bootstrap, path: Path) -> None:
    here = asdict(settings)
    changed = [key for key in here if there.get(key) != here[key]]
    if changed:
        old, new = (", ".join(f"{key} {group.get(key)!r}" for key in changed) for group in (there, here))
        raise UserError(f"{path}: made with {old}; expected {new} as in config.interval")


def _tasks(cell: Cell) -> Mapping[str, Any]:
    return cell.results["tasks"]


def _columns(cell: Cell, found: Predictions) -> dict[tuple[str, str], list[int]]:
    """(task, metric) -> columns of the predictions."""
    position = {name: i for i, name in enumerate(found.labels)}
    result = {}
    for name, task in _tasks(cell).items():
        for metric, kind in METRICS.items():
            labels = list(task.get(metric, {}).get("labels", ()))
            wrong = [label for label in labels if label not in position or found.kinds[position[label]] != kind]
            if wrong:
                raise UserError(
                    f"results.json: task {name} has {metric} of label {wrong[0]!r}, which predictions.npz does not hold"
                )
            if labels:
                result[name, metric] = [position[label] for label in labels]
    if not result:
        raise UserError("results.json holds no task with a value")
    return result


def _all_aurocs(
    targets: NDArray, scores: NDArray, resamples: Resamples, columns: Iterable[list[int]]
) -> tuple[NDArray, NDArray]:
    """Values and replicates of all labels, NaN for those that no task needs: tasks of one head run share labels."""
    needed = sorted({i for chosen in columns for i in chosen})
    value, samples = np.full(targets.shape[1], np.nan), np.full((len(resamples.counts), targets.shape[1]), np.nan)
    if needed:
        found = replicate_values(targets[:, needed], scores[:, needed], "auroc", resamples, "skip")
        value[needed], samples[:, needed] = found[0][:-1], found[1][:, :-1]
    return value, samples


@lru_cache(maxsize=2)
def _resamples(records: int, replicates: int, seed: int, units: bytes | None) -> Resamples:
    groups = None if units is None else np.frombuffer(units, np.intp)
    return Resamples(draw_counts(records, replicates, seed, groups=groups))


def _as_bytes(names: NDArray[np.str_]) -> bytes:
    return "\0".join(names.tolist()).encode()


def _check_value(value: float, cell: Cell, task: str, metric: str) -> None:
    stated = _tasks(cell)[task][metric]["value"]
    stated = np.nan if stated is None else stated
    if not np.isclose(value, stated, rtol=0, atol=_TOLERANCE, equal_nan=True):
        raise UserError(
            f"predictions.npz gives {metric} {value:.4f} for task {task}, results.json says {stated:.4f}: "
            "they are not of one run"
        )


def _labels(
    names: list[str], targets: NDArray, metric: str, value: NDArray, low: NDArray, high: NDArray
) -> dict[str, dict[str, Any]]:
    known = np.count_nonzero(~np.isnan(targets), axis=0).tolist()
    positives = np.count_nonzero(targets == 1, axis=0).tolist() if metric == "auroc" else [None] * len(names)
    columns = zip(value[:-1].tolist(), low[:-1].tolist(), high[:-1].tolist(), known, positives, strict=True)
    keys = ("value", "low", "high", "known", "positives")
    return {
        name: {key: None if item != item else item for key, item in zip(keys, row, strict=True)}
        for name, row in zip(names, columns, strict=True)
    }
