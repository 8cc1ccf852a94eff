"""Files that keep what a report needs of one run (`ecgjax.evaluation.cell_bootstrap`).

A file's name follows from the predictions and the settings: a report that is
made again reads it, and a report on another machine can be compared with it without the predictions.
"""

import json
import os
import threading
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import cell_bootstrap
from ecgjax.evaluation.cell_bootstrap import METRICS, Bootstrap, CellValue, fingerprint
from ecgjax.evaluation.collect import Cell
from ecgjax.evaluation.predictions import NPZ_READING
from ecgjax.evaluation.replicated import Replicated
from ecgjax.evaluation.results import RESULTS

FILE_FORMAT = "ecgjax cell 2"
REPLICATES = "replicates"
"""Folder of a run with its values for a report of default settings, which need not be computed there."""

_OPTIONAL = ("influence", "deviation")


def file_name(cell: Cell, content: bytes, settings: Bootstrap) -> str:
    """Name of the file with a run's values: a fingerprint of all they follow from.

    Args:
        cell: the run.
        content: of its predictions.npz.
        settings: of the intervals.
    """
    labels = {
        name: {m: list(task[m]["labels"]) for m in METRICS if m in task} for name, task in cell.results["tasks"].items()
    }
    told = json.dumps([FILE_FORMAT, asdict(settings), cell.results["absent"], labels], sort_keys=True)
    return fingerprint(content, told)[:32] + ".npz"


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
        values = cell_bootstrap.compute(cell, cell.predictions(content), settings)
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
        for name in _OPTIONAL:
            array = getattr(value.replicated, name)
            if array is not None:
                arrays[f"{name}_{i}"] = array
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
                there = {name: file[f"{name}_{i}"] for name in _OPTIONAL if f"{name}_{i}" in file.files}
                value = about.pop("value")
                about = {
                    key: np.nan if key in ("low", "high") and item is None else item for key, item in about.items()
                }
                values.append(CellValue(replicated=Replicated(value, file[f"samples_{i}"], **there), **about))
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
