"""The report of one evaluation: its table, and figures drawn from what the run wrote."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from ecgjax.errors import disk_errors
from ecgjax.evaluation.results import PREDICTIONS, RESULTS
from ecgjax.reporting import figures
from ecgjax.reporting.tables import results_table
from ecgjax.training.logging import read_metrics

MOST_LABELS = 80
"""More are not drawn: the figure would be longer than a page."""

_METRICS = {
    "auroc": ("AUROC", "macro average", 0.5),
    "mae": ("mean absolute error (standard deviations)", "pooled", None),
}


def show(folder: Path, console: Console | None = None) -> None:
    """Prints a run's results and where its files are.

    Args:
        folder: the run's directory.
        console: where to; None is standard output, 100 columns wide.
    """
    console = console or Console(width=100, highlight=False)
    console.print()
    console.print(results_table(read_results(folder)))
    for name, what in ((RESULTS, "all values"), (PREDICTIONS, "per record"), ("figures", "PNG and SVG")):
        if (folder / name).exists():
            console.print(f"{what:12s}{folder / name}", soft_wrap=True)


def draw(folder: Path) -> None:
    """Draws figures/learning_curve, and figures/auroc and mae: the first task's labels with their intervals.

    Raises:
        UserError: the disk is full.
    """
    found = read_results(folder)
    with disk_errors(folder / "figures"):
        (folder / "figures").mkdir(exist_ok=True)
    title = f"{found['model']}, {found['mode']}, {found['task']}"
    title += " (synthetic data)" if found["data"]["synthetic"] else ""
    _draw_curves(folder, title)
    name, task = next(iter(found["tasks"].items()))
    for metric, (label, overall, reference) in _METRICS.items():
        # No positive record in the test fold: no value; too few in every replicate: a value without limits.
        if metric not in task or task[metric]["low"] is None:
            continue
        labels = {key: row for key, row in task[metric]["labels"].items() if row["low"] is not None}
        rows = [_interval(f"{overall} of {len(labels)}", task[metric], name)]
        rows += [_interval(key, row, "labels") for key, row in list(labels.items())[:MOST_LABELS]]
        level = f"{label}, {100 * found['interval']['level']:g} % interval"
        figures.save_figure(figures.plot_intervals(rows, level, title, reference), folder / "figures" / metric)


def read_results(folder: Path) -> dict[str, Any]:
    """Content of a run's results.json."""
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))


def _draw_curves(folder: Path, title: str) -> None:
    rows = read_metrics(folder / "metrics.jsonl")
    exact = any("strength" in row for row in rows)
    panels = {} if exact else {"training loss": ["train/loss"]}
    for key, label in (("macro_auroc", "validation macro AUROC"), ("mae", "validation error (standard deviations)")):
        if any(f"validation/{key}" in row for row in rows):
            panels[label] = [f"validation/{key}"]
    figures.save_figure(
        figures.plot_curves(rows, panels, title, "strength" if exact else "step"), folder / "figures" / "learning_curve"
    )


def _interval(name: str, row: dict[str, Any], group: str) -> figures.Interval:
    low, high = (row["value"] if row[key] is None else row[key] for key in ("low", "high"))
    return figures.Interval(name, row["value"], low, high, group)
