"""What a report needs of one run: its tasks' values on the data and on shared resamples.

Records are taken in the order of their ids, so runs of one test set are on the same resamples whatever their own order,
and `population` tells whether two are.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import delong, metrics
from ecgjax.evaluation.bootstrap import influences, replicate_values
from ecgjax.evaluation.collect import Cell
from ecgjax.evaluation.limits import Kind, interval
from ecgjax.evaluation.predictions import Predictions
from ecgjax.evaluation.replicated import Replicated
from ecgjax.evaluation.resamples import Resamples, draw_counts, unit_indices

METRICS = {"auroc": "classification", "mae": "regression"}

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

    columns = task_columns(cell, found)
    macros = {task: chosen for (task, metric), chosen in columns.items() if metric == "auroc"}
    deviations = dict(zip(macros, delong.deviations(targets, scores, list(macros.values()), absent), strict=True))
    shared = _all_aurocs(targets, scores, resamples, macros.values())
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
                Replicated(
                    float(value[-1]),
                    np.ascontiguousarray(samples[:, -1]),
                    shares[-1],
                    _of_units(deviations[task], units) if metric == "auroc" else None,
                ),
                *(float(low[-1]), float(high[-1]), len(order), patients, population),
                labels=_labels(names, known, metric, value, low, high),
            )
        )
    return values


def fingerprint(*parts: bytes | str) -> str:
    """SHA-256 of parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _tasks(cell: Cell) -> Mapping[str, Any]:
    return cell.results["tasks"]


def task_columns(cell: Cell, found: Predictions) -> dict[tuple[str, str], list[int]]:
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


def _of_units(deviation: NDArray[np.float64], units: NDArray[np.intp] | None) -> NDArray[np.float32]:
    """Rounded as it is kept, so that a report is the same whether it computes or reads it."""
    return (deviation if units is None else np.bincount(units, deviation)).astype(np.float32)


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
