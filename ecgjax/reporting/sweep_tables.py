"""Tables of a sweep for the terminal: what is planned, and what came out."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ecgjax.sweep.cells import Cell
from ecgjax.sweep.costs import Cost
from ecgjax.training.progress import clock

_MOST_ROWS = 120
_SHOWN = ("model", "mode", "task")


def plan_table(cells: Sequence[Cell], costs: Mapping[str, Cost], done: set[str]) -> Table:
    """Planned cells by model, mode and head run: how many, in how many groups, and what they cost."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "mode", "head run"):
        table.add_column(name, no_wrap=True)
    for name in ("cells", "done", "groups", "parameters", "FLOPs", "memory", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.model, cell.mode, cell.identity["run"]["name"]), []).append(cell)
    for key, members in list(rows.items())[:_MOST_ROWS]:
        table.add_row(*key, *_sums(members, costs, done))
    if len(rows) > _MOST_ROWS:
        table.add_row(f"... {len(rows) - _MOST_ROWS} rows more")
    table.add_section()
    table.add_row("all", "", "", *_sums(cells, costs, done), style="bold")
    return table


def _sums(cells: Sequence[Cell], costs: Mapping[str, Cost], done: set[str]) -> list[str]:
    left = [costs[cell.name] for cell in cells if cell.name not in done]
    seconds = [cost.seconds for cost in left if cost.seconds is not None]
    sizes = sorted({costs[cell.name].parameters for cell in cells})
    return [
        f"{len(cells):,}",
        f"{len(done.intersection(cell.name for cell in cells)):,}",
        f"{len({cell.group for cell in cells}):,}",
        _scaled(sizes[0]) if len(sizes) == 1 else f"{_scaled(sizes[0])}-{_scaled(sizes[-1])}",
        _scaled(sum(cost.flops for cost in left)),
        _scaled(max(costs[cell.name].memory for cell in cells)) + "B",
        clock(sum(seconds)) if len(seconds) == len(left) else "-",
    ]


def _scaled(number: float) -> str:
    for factor, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.3g} "


def results_table(
    cells: Sequence[Cell], summaries: Mapping[str, Mapping[str, Any]], varying: Sequence[str]
) -> tuple[Table, int]:
    """Values of finished cells, averaged over seeds; with the number of rows that are not shown.

    Args:
        cells: of the sweep.
        summaries: content of summary.json by cell.
        varying: fields of points with more than one value.
    """
    further = [field for field in varying if field not in (*_SHOWN, "seed", "weights", "data.store")]
    rows: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        for task, metrics in summaries.get(cell.name, {"values": {}})["values"].items():
            for metric, found in metrics.items():
                rest = (str(cell.point.get(field, "")) for field in further)
                rows.setdefault((task, metric, cell.model, cell.mode, *rest), []).append(found)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("task", "metric", "model", "mode", *(field.rpartition(".")[2] for field in further)):
        table.add_column(name, no_wrap=True)
    for name in ("cells", "value", "lowest", "highest"):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(rows.items(), key=lambda row: row[0][:2])
    for key, found in ordered[:_MOST_ROWS]:
        values = [one["value"] for one in found if one["value"] is not None]
        numbers = [f"{number:.3f}" for number in (mean(values), min(values), max(values))] if values else ["-"] * 3
        table.add_row(*key, str(len(found)), *numbers)
    return table, max(len(ordered) - _MOST_ROWS, 0)
