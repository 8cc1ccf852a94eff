"""Which cells stand for their model where a sweep tuned it: chosen by validation, never by test.

Cells that differ in nothing but the seed and how they were trained (`TUNED`) are settings of one entry. The setting
with the best mean validation score over its seeds represents it; one with fewer finished seeds than another does not.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ecgjax.errors import disk_errors
from ecgjax.sweep.cells import Cell, hashed

TUNED = ("learning_rate", "rate_factor", "weight_decay", "batch_size", "epochs")


def selected(cells: Sequence[Cell], summaries: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """The finished cells, one setting of each entry, in the order of the sweep.

    Args:
        cells: of the sweep.
        summaries: content of summary.json of finished cells, by name.
    """
    entries: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        if cell.name in summaries:
            config = {key: value for key, value in cell.identity["config"].items() if key != "seed"}
            config["data.seed"] = cell.settings["data.seed"]  # as asked for: none is each seed's own
            fixed = {key: value for key, value in config.items() if key not in TUNED}
            entry = entries.setdefault(hashed({**cell.identity, "config": fixed}), {})
            entry.setdefault(hashed(config), []).append(cell)
    chosen: set[str] = set()
    for settings in entries.values():
        best = max(settings.values(), key=lambda found: (len(found), _score(found, summaries)))
        chosen |= {cell.name for cell in best}
    return [cell for cell in cells if cell.name in chosen]


def tuned(cells: Sequence[Cell]) -> bool:
    """Whether any entry has more than one setting."""
    return any(len({cell.settings[field] for cell in cells}) > 1 for field in TUNED)


def link(cells: Iterable[Cell], store: Path, folder: Path) -> None:
    """Makes a folder hold links to these cells and to no others, where a report finds them.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    wanted = {cell.name for cell in cells}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.is_symlink() and path.name not in wanted:
                path.unlink(missing_ok=True)
        for name in wanted:
            if not (folder / name).is_symlink():
                # Another process may make the same one.
                temporary = folder / f".{name}.{os.getpid()}"
                temporary.symlink_to((store / name).resolve(), target_is_directory=True)
                os.replace(temporary, folder / name)


def _score(cells: Sequence[Cell], summaries: Mapping[str, Mapping[str, Any]]) -> float:
    scores = [summaries[cell.name]["validation"] for cell in cells]
    return mean(scores) if None not in scores else float("-inf")
