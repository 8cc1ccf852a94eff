"""All figures of a report, as PNG and SVG."""

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from ecgjax.errors import disk_errors
from ecgjax.reporting import style
from ecgjax.reporting.figure_plans import plans
from ecgjax.reporting.figures import save_figure

_WORTH_A_PROCESS = 6
"""Figures; a process takes as long to start as a few of them to be drawn."""


class Figure(NamedTuple):
    """A figure on disk.

    Attributes:
        name: of its files, without suffix.
        title: one line.
        caption: what is drawn and by which rule, in sentences.
        png: path.
        svg: path.
        kind: "ranks", "critical difference", "forest", "label efficiency", "similarity" or "curves".
    """

    name: str
    title: str
    caption: str
    png: Path
    svg: Path
    kind: str


def write_figures(report: Mapping[str, Any], folder: Path, workers: int = 1) -> list[Figure]:
    """Draws every figure that the report has the numbers for.

    Args:
        report: see `ecgjax.reporting.schema`; "mark", if present, is a warning that stands in every title.
        folder: where to; made if missing.
        workers: processes to draw in, at most; for more than one, the main module must bear being imported again.

    Returns:
        The figures in the order in which they are to be read.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    count = sum(1 for _ in plans(report))
    workers = min(workers, count // _WORTH_A_PROCESS)
    if workers < 2:
        return [figure for _, figure in _write(report, folder, 0, 1)]
    # Labels and configs are nothing that figures show, and most of what there is to send.
    light = {**report, "runs": {}, "rows": [{**row, "labels": {}} for row in report["rows"]]}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        parts = list(pool.map(_write, repeat(light), repeat(folder), range(workers), repeat(workers)))
    return [figure for _, figure in sorted(figure for part in parts for figure in part)]


def _write(report: Mapping[str, Any], folder: Path, first: int, step: int) -> list[tuple[int, Figure]]:
    """Draws the figures `first`, `first + step` and so on."""
    written: list[tuple[int, Figure]] = []
    count: dict[str, int] = {}
    with style.style():
        for k, plan in enumerate(plans(report)):
            count[plan.name] = count.get(plan.name, 0) + 1
            # "a/b" and "a_b" make the same name
            name = plan.name if count[plan.name] == 1 else f"{plan.name}~{count[plan.name]}"
            if k % step == first:
                png, svg = save_figure(plan.draw(), folder / name)
                written.append((k, Figure(name, plan.title, plan.caption, png, svg, plan.kind)))
    return written
