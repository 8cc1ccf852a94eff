"""What a sweep will do: its cells, each once, and plan.json, which ties a directory to them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ecgjax import atomic, numerics
from ecgjax.errors import UserError, disk_errors
from ecgjax.sweep.cells import Cell, MissingError, flat, resolve

FILE, FORMAT = "plan.json", 1
FREE_FIELDS = (
    *("axes", "cells", "dry_run", "executor", "features", "features_folder", "features_gigabytes"),
    *("ray", "retries", "scratch", "shard", "skip_missing", "stores", "weights"),
)
"""Fields of a sweep's config that do not belong to its plan, or are in it as cells."""


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep.

    Attributes:
        cells: each once, in the order of the axes.
        repeated: points that gave a cell which was there already.
        missing: why points were left out, with their number.
    """

    cells: tuple[Cell, ...]
    repeated: int
    missing: Mapping[str, int]

    def shard(self, index: int, count: int) -> tuple[Cell, ...]:
        """The cells of one of `count` processes, `index` from 1: each cell is in exactly one, groups stay together.

        Groups are dealt out in the order of their hashes, which mixes models and tasks, so that shards are of like
        size; all processes must have the same plan, as those in one directory have.
        """
        rank = {group: i for i, group in enumerate(sorted({cell.group for cell in self.cells}))}
        return tuple(cell for cell in self.cells if rank[cell.group] % count == index - 1)

    def varying(self) -> tuple[str, ...]:
        """Fields of the points with more than one value, in the order they appear."""
        fields = dict.fromkeys(field for cell in self.cells for field in cell.point)
        return tuple(field for field in fields if len({repr(cell.point.get(field)) for cell in self.cells}) > 1)


def make(config: ConfigDict) -> Plan:
    """The plan of a sweep's config.

    Raises:
        UserError: no cell, fields or values that cannot be, or weights or stores that are missing or unusable.
    """
    common = flat(config.common)
    cells: dict[str, Cell] = {}
    missing: Counter[str] = Counter()
    repeated = 0
    for point in config.axes:
        try:
            cell = resolve(point, common, config.weights, config.stores)
        except MissingError as error:
            missing[str(error)] += 1
            continue
        repeated += cell.name in cells
        cells.setdefault(cell.name, cell)
    if missing and not config.skip_missing:
        first, *others = missing
        more = f" (and {len(others)} more: {', '.join(text.partition(':')[0] for text in others)})" if others else ""
        raise UserError(f"{first}{more}; config.skip_missing=True leaves their cells out")
    if not cells:
        reason = f": {next(iter(missing))}" if missing else ""
        raise UserError(f"the sweep has no cell{reason}; expected config.axes with one point or more")
    return Plan(tuple(cells.values()), repeated, dict(missing))


def parse_shard(text: str | None) -> tuple[int, int]:
    """Index (from 1) and count of "i/n"; nothing is 1/1.

    Raises:
        UserError: not of this form.
    """
    if not text:
        return 1, 1
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"config.shard is {text!r}; expected I/N with I from 1 to N, such as 1/8")
    return int(index), int(count)


def claim(workdir: Path | None, config: ConfigDict, plan: Plan) -> Path:
    """Makes a sweep's directory and writes plan.json, or checks that the plan there is the same.

    Raises:
        UserError: no directory, it cannot be made, or it holds another plan (saying what differs).
    """
    if workdir is None:
        raise UserError("--workdir is missing; expected the directory that the sweep is to be written to")
    for folder in (workdir, *workdir.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--workdir={workdir}: {folder} is a file; expected a directory, or a free name")
    here = {
        "format": FORMAT,
        "numerics": numerics.VERSION,
        "config": {key: value for key, value in config.to_dict().items() if key not in FREE_FIELDS},
        "cells": {cell.name: {"group": cell.group, **cell.point} for cell in plan.cells},
    }
    here = json.loads(json.dumps(here, default=str))
    path = workdir / FILE
    with disk_errors(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _check_same(path, here)
    elif (workdir / "config.json").exists():
        raise UserError(
            f"--workdir={workdir}: holds a run of another job; expected a sweep's directory, or a free name"
        )
    else:
        atomic.write_json(path, here)
    return workdir


def _check_same(path: Path, here: dict[str, Any]) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        old, new = there["cells"], here["cells"]
        changed = len(old.keys() ^ new.keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not readable ({error}); expected the plan that a sweep wrote") from error
    if not changed:
        return
    before, now = _leaves(there.get("config", {})), _leaves(here["config"])
    fields = [f"config.{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in {**before, **now}]
    fields = [text for key, text in zip({**before, **now}, fields, strict=True) if before.get(key) != now.get(key)]
    points = {json.dumps({**cell, "group": None}, sort_keys=True) for cell in old.values()}
    same_axes = points == {json.dumps({**cell, "group": None}, sort_keys=True) for cell in new.values()}
    if there.get("numerics") != here["numerics"]:
        fields.append(f"ecgjax's numerics version was {there.get('numerics')} and is {here['numerics']}")
    if not fields:
        fields.append("weights or data have changed" if same_axes else "its axes were others")
    raise UserError(
        f"{path.parent}: holds another sweep, {len(old.keys() - new.keys())} of its {len(old)} cells are not in this "
        f"one: {'; '.join(fields)}; expected another --workdir (--config.cells={path.parent / 'cells'} there reuses "
        "finished cells)"
    )


def _leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
