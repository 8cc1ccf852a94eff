"""Rows of a report: from runs, from the rows of an earlier report, and the mean over seeds."""

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np

from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import cell_bootstrap, cell_values, replicated
from ecgjax.evaluation.cell_bootstrap import Bootstrap, CellValue
from ecgjax.evaluation.collect import REPORT_CELLS, Cell
from ecgjax.evaluation.replicated import Replicated
from ecgjax.evaluation.results import RESULTS
from ecgjax.reporting import schema
from ecgjax.seen import saw


@dataclass(frozen=True)
class Entry:
    """A row and what can be compared of it.

    Attributes:
        row: see `ecgjax.reporting.schema`, not ranked yet.
        value: its replicates.
        run: its entry in the report's "runs"; None for a mean.
        cell: the run it comes from, None if that is not at hand.
    """

    row: dict[str, Any]
    value: CellValue
    run: dict[str, Any] | None
    cell: Cell | None = None

    @property
    def key(self) -> str:
        return self.row["run"]


def of_runs(
    cells: Sequence[Cell], settings: Bootstrap, folder: Path, *, workers: int, tick: Callable[[], None]
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Rows of finished runs; what can be read below `folder` or the run's own folder is not computed again.

    Args:
        cells: the runs.
        settings: of the intervals.
        folder: where the replicates are kept.
        workers: threads.
        tick: called after each run.

    Returns:
        The rows, and (key, reason) of runs whose predictions cannot be used.

    Raises:
        UserError: the folder cannot be written.
    """

    def one(cell: Cell) -> list[Entry] | tuple[str, str]:
        try:
            content = cell.read()
            path = folder / cell_values.file_name(cell, content, settings)
            there = _kept(path, settings)
            values = there or _kept(cell.path / cell_values.REPLICATES / path.name, settings)
            if values is None:
                values = cell_bootstrap.compute(cell, cell.predictions(content), settings)
        except UserError as error:
            return cell.key, str(error)
        else:
            if there is None:
                cell_values.write(path, values, settings)
        finally:
            tick()
        return [_entry(cell, value, path.name, settings) for value in values]

    # Neighbours share a test set and with it the resamples.
    ordered = sorted(cells, key=lambda cell: (cell.run, cell.key))
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(one, ordered))
    entries = [entry for part in found if isinstance(part, list) for entry in part]
    return entries, [part for part in found if isinstance(part, tuple)]


def of_report(source: Path, settings: Bootstrap, folder: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Rows of an earlier report, without its predictions; what it excluded stays excluded.

    Args:
        source: folder of the report.
        settings: of the intervals; the same as the report's.
        folder: where the replicates are copied to.

    Raises:
        UserError: not a whole report, or one made with other settings.
    """
    path = source / RESULTS
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); expected a report") from error
    schema.validate(report, str(path))
    name = source.resolve().name
    entries = []
    loaded: dict[str, dict[tuple[str, str], CellValue]] = {}
    for row in report["rows"]:
        if row["role"] == "mean":
            continue
        (cell,) = row["cells"]
        if cell not in loaded:
            values = cell_values.read(source / REPORT_CELLS / cell, settings)
            loaded[cell] = {(value.task, value.metric): value for value in values}
            if not (folder / cell).exists():
                with disk_errors(folder):
                    copyfile(source / REPORT_CELLS / cell, folder / cell)
        key = f"{name}/{row['run']}"
        run = {**report["runs"][row["run"]], "path": key}
        fresh = {**row, **_unranked(), "role": "single", "run": key, "runs": [key]}
        entries.append(Entry(fresh, loaded[cell][row["task"], row["metric"]], run))
    return entries, [(f"{name}/{entry['path']}", entry["reason"]) for entry in report["excluded"]]


def mean_over_seeds(entries: Sequence[Entry], settings: Bootstrap) -> Entry:
    """The mean of the seeds of one cell, on the same resamples.

    Args:
        entries: of the seeds; their rows become "seed".
        settings: of the intervals.
    """
    for entry in entries:
        entry.row["role"] = "seed"
    mean = replicated.mean([entry.value.replicated for entry in entries])
    low, high = mean.limits(settings.level, settings.kind)
    rows, values = [entry.row for entry in entries], [entry.value.replicated.value for entry in entries]
    spread = {"min": min(values), "max": max(values), "sd": float(np.std(values, ddof=1))}
    one_device = len({(row["device"], row["devices"]) for row in rows}) == 1
    row = {
        **rows[0],
        "value": mean.value,
        "low": low,
        "high": high,
        "delong": _delong(mean, settings),
        "role": "mean",
        "seeds": [seed for row in rows for seed in row["seeds"]],
        "spread": spread,
        "seconds": {key: _total(row["seconds"][key] for row in rows) for key in rows[0]["seconds"]},
        "device_seconds": _total(row["device_seconds"] for row in rows),
        **({} if one_device else {"device": None, "devices": None}),
        "run": None,
        "runs": [row["run"] for row in rows],
        "cells": [cell for row in rows for cell in row["cells"]],
        "labels": {name: _mean_label([row["labels"][name] for row in rows]) for name in rows[0]["labels"]},
    }
    value = CellValue(**{**vars(entries[0].value), "replicated": mean, "low": low, "high": high})
    return Entry(row, value, None)


def grouped(items: Sequence[Any], key: Callable[[Any], Any]) -> list[list[Any]]:
    """Items in groups of one key, in the order in which keys first come."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _delong(model: Replicated, settings: Bootstrap) -> dict[str, float] | None:
    found = model.delong(settings.level)
    return None if found is None else dict(zip(("se", "low", "high"), found, strict=True))


def _unranked() -> dict[str, Any]:
    return {"comparison": None, "rank": None, "best": False, "tied": False, "ranks": {}}


def _kept(path: Path, settings: Bootstrap) -> list[CellValue] | None:
    try:
        return cell_values.read(path, settings) if path.is_file() else None
    except UserError:  # damaged: its name says that the settings are ours
        return None


def _entry(cell: Cell, value: CellValue, file: str, settings: Bootstrap) -> Entry:
    results, environment = cell.results, cell.environment
    task = results["tasks"][value.task]
    weights, source = cell.weights, cell.data["source"]
    devices = environment.get("devices") or []
    seconds = {key: results["seconds"].get(name) for key, name in (("train", "training"), ("test", "testing"))}
    undefined = [name for name, label in value.labels.items() if label["value"] is None]
    row = {
        "task": value.task,
        "row": task["row"],
        "category": task["category"],
        "model": cell.model,
        "mode": cell.mode,
        "protocol": cell.protocol,
        "absent": results["absent"],
        "metric": value.metric,
        "value": value.replicated.value,
        "low": value.low,
        "high": value.high,
        "delong": _delong(value.replicated, settings),
        "role": "single",
        "seeds": [cell.seed],
        "spread": None,
        **_unranked(),
        "records": value.records,
        "patients": value.patients,
        "classes": len(value.labels),
        "defined": len(value.labels) - len(undefined),
        "undefined": undefined,
        "seconds": seconds,
        "device": devices[0] if devices else None,
        "devices": len(devices) or None,
        "device_seconds": _total(seconds.values()) if not devices else _times(_total(seconds.values()), len(devices)),
        "parameters": results["parameters"],
        "weights": weights,
        "arguments": results["arguments"],
        "data": cell.data,
        "seen": results["seen"] if "seen" in results else saw(results["model"], source, "" if weights else None),
        "run": cell.key,
        "runs": [cell.key],
        "population": value.population,
        "cells": [file],
        "labels": value.labels,
    }
    run = {
        "path": cell.key,
        "seed": cell.seed,
        "config": cell.config,
        "environment": environment,
        "best": results.get("best"),
        "windows": results.get("windows"),
        "non_finite_windows": results.get("non_finite_windows"),
    }
    return Entry(row, value, run, cell)


def _mean_label(labels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [label["value"] for label in labels]
    value = None if None in values else sum(values) / len(values)
    # Limits would need the labels' own replicates, which are not kept.
    return {**labels[0], "value": value, "low": None, "high": None}


def _total(numbers: Iterable[float | None]) -> float | None:
    known = list(numbers)
    return None if None in known else round(sum(number for number in known if number is not None), 3)


def _times(number: float | None, factor: int) -> float | None:
    return None if number is None else round(number * factor, 3)
