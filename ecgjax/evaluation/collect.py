"""Finds runs below folders, whatever made them and wherever, and tells those that can be used from those that cannot.

A run is a folder with a config.json, results.json, predictions.npz or DONE. Finished evaluations become `Cell`s; what
is unfinished, of another job or format, or damaged is listed with the reason. One bad run never hides the others.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ecgjax.errors import UserError
from ecgjax.evaluation import results as results_format
from ecgjax.evaluation.predictions import Predictions, read_predictions

CONFIG, ENVIRONMENT, DONE = "config.json", "environment.json", "DONE"
REPORT_CELLS = "cells"
"""Folder of a report with the replicates of what it compared; runs have none."""
OTHER_JOBS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "label_efficiency": {"task": str, "models": dict},
    "similarity": {"pairs": list, "probes": list},
}
"""Jobs whose finished runs a report shows beside the evaluations, and what of JOB.json it reads."""
_STUDIES = {*OTHER_JOBS, "transfer"}
"""Jobs whose trainings, in folders below theirs, are parts of them and no cells of a report."""

_MARKS = {CONFIG, results_format.RESULTS, results_format.PREDICTIONS, DONE}
_INSIDE = {"checkpoints", "tensorboard", "figures", "weights", "replicates"}
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "task", "run", "mode", "protocol", "absent", "ecgjax"), str),
    **dict.fromkeys(("arguments", "data", "records", "parameters", "seconds", "tasks"), dict),
    "weights": (str, type(None)),
    "seed": int,
}
_DATA: dict[str, type | tuple[type, ...]] = {"source": str, "fingerprint": str, "label_set": str, "synthetic": bool}
_TASK: dict[str, type | tuple[type, ...]] = {"category": str, "row": (str, type(None))}


@dataclass(frozen=True)
class Cell:
    """One finished evaluation.

    Attributes:
        path: its folder.
        key: short name of it: below the folder it was found in, with that folder's name.
        model: name of the model as shown; the registry's, unless it was renamed.
        results: content of results.json.
        config: content of config.json.
        environment: content of environment.json.
    """

    path: Path
    key: str
    model: str
    results: dict[str, Any] = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    environment: dict[str, Any] = field(repr=False)

    @property
    def run(self) -> str:
        return self.results["run"]

    @property
    def mode(self) -> str:
        return self.results["mode"]

    @property
    def protocol(self) -> str:
        return self.results["protocol"]

    @property
    def seed(self) -> int:
        return self.results["seed"]

    @property
    def weights(self) -> str | None:
        return self.results["weights"]

    @property
    def data(self) -> dict[str, Any]:
        return self.results["data"]

    def read(self) -> bytes:
        """Content of predictions.npz.

        Raises:
            UserError: it cannot be read.
        """
        path = self.path / results_format.PREDICTIONS
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: not readable ({error.strerror}); expected what evaluate wrote") from error

    def predictions(self, content: bytes | None = None) -> Predictions:
        """The test predictions, checked.

        Args:
            content: of the file, if it was read already.

        Raises:
            UserError: the file is damaged, or holds what predictions cannot be.
        """
        return read_predictions(self.read() if content is None else content, self.path / results_format.PREDICTIONS)


@dataclass(frozen=True)
class Collection:
    """What was found.

    Attributes:
        cells: finished evaluations, sorted by key.
        excluded: (path, reason) of everything else.
        others: job -> (key, content of JOB.json) of finished runs of `OTHER_JOBS`.
        reports: folders that were named and are reports themselves; one that is only found on the way is passed by.
    """

    cells: list[Cell]
    excluded: list[tuple[str, str]]
    others: dict[str, list[tuple[str, dict[str, Any]]]]
    reports: list[Path]


def collect(
    *folders: Path,
    exclude: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    every_signal: bool = False,
) -> Collection:
    """All runs below folders, at any depth, through links too.

    Args:
        *folders: where to look. A folder that is reached twice counts once.
        exclude: paths or keys, with * and ?, of runs to leave out.
        rename: the same to names under which the models of those runs are shown.
        every_signal: evaluations on fewer leads or with noise too (`config.signal`), which are else left out.

    Raises:
        UserError: a folder that is none, or `exclude` or `rename` that fit no run.
    """
    cells: list[Cell] = []
    excluded: list[tuple[str, str]] = []
    others: dict[str, list[tuple[str, dict[str, Any]]]] = {job: [] for job in OTHER_JOBS}
    unused = {*exclude, *(rename or {})}
    reports = [folder for folder in folders if _is_report(folder)]
    for path, key in _run_folders([folder for folder in folders if folder not in reports]):
        fitting = {pattern for pattern in (*exclude, *(rename or {})) if _fits(pattern, path, key)}
        unused -= fitting
        if fitting.intersection(exclude):
            excluded.append((key, "left out by config.exclude"))
            continue
        try:
            found = _read_run(path, key, every_signal)
        except UserError as error:
            excluded.append((key, str(error)))
            continue
        if isinstance(found, Cell):
            name = next((name for pattern, name in (rename or {}).items() if pattern in fitting), found.model)
            cells.append(replace(found, model=name))
        else:
            job, content = found
            others[job].append((key, content))
    if unused:
        raise UserError(f"config.exclude or config.rename: {min(unused)!r} fits no run; expected paths, * for any text")
    return Collection(cells, excluded, others, reports)


def _run_folders(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Run folders with their keys, sorted by key within each folder."""
    names = [folder.resolve().name for folder in folders]
    seen: set[tuple[int, int]] = set()
    for folder, name in zip(folders, names, strict=True):
        if not folder.is_dir():
            raise UserError(f"config.runs: {folder}: no such folder; expected one with finished runs below it")
        root = name if names.count(name) == 1 else folder.as_posix()
        for current, below, files in os.walk(folder, followlinks=True):
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:  # a link back, or a folder that was named twice
                below.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            below.sort()
            if not _MARKS.intersection(files):
                continue
            path = Path(current)
            relative = path.relative_to(folder).as_posix()
            below[:] = [inner for inner in below if inner not in _INSIDE]
            if _is_report(path):
                below.clear()
                continue
            if _job(path) in _STUDIES:
                below.clear()
            yield path, root if relative == "." else f"{root}/{relative}"


def _is_report(path: Path) -> bool:
    return (path / REPORT_CELLS).is_dir() and (path / results_format.RESULTS).is_file()


def _job(path: Path) -> str | None:
    try:
        return json.loads((path / CONFIG).read_text(encoding="utf-8")).get("job")
    except (OSError, ValueError, AttributeError):
        return None


def _fits(pattern: str, path: Path, key: str) -> bool:
    return any(fnmatch(text, pattern.rstrip("/")) for text in (key, path.as_posix(), path.resolve().as_posix()))


def _read_run(path: Path, key: str, every_signal: bool) -> Cell | tuple[str, dict[str, Any]]:
    config = _read_json(path / CONFIG)
    job = config.get("job")
    if job not in ("evaluate", *OTHER_JOBS):
        raise UserError(f"not an evaluation: config.job is {job!r}" if job else f"not a run: {CONFIG} has no job")
    if not (path / DONE).is_file():
        raise UserError(f"unfinished: no {DONE}")
    if job in OTHER_JOBS:
        content = _read_json(path / f"{job}.json")
        _check_fields(content, OTHER_JOBS[job], f"{job}.json")
        return str(job), content
    results = _read_json(path / results_format.RESULTS)
    if results.get("format") != results_format.FORMAT:
        raise UserError(
            f"{results_format.RESULTS} has format {results.get('format')!r}; expected {results_format.FORMAT}"
        )
    _check_fields(results, _FIELDS, results_format.RESULTS)
    _check_fields(results["data"], _DATA, f"{results_format.RESULTS}: data")
    for name, task in results["tasks"].items():
        _check_fields(task, _TASK, f"{results_format.RESULTS}: tasks.{name}")
        for metric in {"auroc", "mae"}.intersection(task):
            where = f"{results_format.RESULTS}: tasks.{name}.{metric}"
            _check_fields(task[metric], {"labels": dict, "value": (int, float, type(None))}, where)
    if not (path / results_format.PREDICTIONS).is_file():
        raise UserError(f"no {results_format.PREDICTIONS}")
    ratio, subset = results["data"].get("ratio", 1.0), results["data"].get("subset", "nested")
    if ratio != 1 or subset == "paper":
        share = "one record of each training patient" if ratio == 1 else f"a share of {ratio:g} of the training records"
        raise UserError(f"trained on {share} (for label efficiency); runs on all of them are compared")
    if results.get("signal") and not every_signal:
        raise UserError("on fewer leads or other signals (config.signal); configs/robustness.py compares such runs")
    environment = _read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else {}
    return Cell(path, key, results["model"], results, config, environment)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no {path.name}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} is not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path.name} is not a JSON object")
    return content


def _check_fields(content: Any, fields: Mapping[str, type | tuple[type, ...]], name: str) -> None:
    if not isinstance(content, dict):
        raise UserError(f"{name} is not an object")
    for key, kind in fields.items():
        if key not in content:
            raise UserError(f"{name} has no {key}")
        if not isinstance(content[key], kind):
            raise UserError(f"{name}: {key} is {content[key]!r}")
