"""Tables of a sweep for the terminal: what is planned, and what came out."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from ecgjax.chips import Chip
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.costs import Cost, Work, least_seconds
from ecgjax.sweep.feature_choice import Choice, Family, duration, scaled
from ecgjax.training.progress import clock

_MOST_ROWS, _MOST_FAMILIES = 120, 20
_WIDE = 100
_SUMS = ("cells", "done", "groups", "parameters", "FLOPs", "memory", "time")
_SHOWN = ("model", "mode", "task")


def plan_table(cells: Sequence[Cell], costs: Mapping[str, Cost], done: set[str], width: int = 120) -> Table:
    """Planned cells by model, mode and head run: how many, in how many groups, and what they cost.

    On a terminal of less than `_WIDE` columns, groups and parameters are left out.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "mode", "head run"):
        table.add_column(name, no_wrap=True)
    shown = [name for name in _SUMS if width >= _WIDE or name not in ("groups", "parameters")]
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)

    def sums(members: Sequence[Cell]) -> list[str]:
        found = dict(zip(_SUMS, _sums(members, costs, done), strict=True))
        return [found[name] for name in shown]

    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.model, cell.mode, cell.identity["run"]["name"]), []).append(cell)
    for key, members in list(rows.items())[:_MOST_ROWS]:
        table.add_row(*key, *sums(members))
    if len(rows) > _MOST_ROWS:
        table.add_row(f"... {len(rows) - _MOST_ROWS} rows more")
    table.add_section()
    table.add_row("all", "", "", *sums(cells), style="bold")
    return table


def chip_table(chips: Sequence[Chip], programs: Mapping[str, Sequence[Work]], memory: float) -> Table:
    """What each chip needs at least for all programs, by the way they are made of cells, and whether it has room.

    Args:
        chips: of which kind.
        programs: what has to be done, by how it is done.
        memory: bytes that the largest cell needs at least.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("on one of these, at least", no_wrap=True)
    for name in ("memory", "room", *programs):
        table.add_column(name, justify="right")
    for chip in chips:
        times = (duration(sum(least_seconds(work, chip) for work in works)) for works in programs.values())
        room = "yes" if memory <= chip.memory else "no"
        table.add_row(chip.name, f"{chip.memory / 2**30:,.0f} GiB", room, *times)
    return table


def feature_table(choices: Sequence[tuple[Family, Choice]]) -> tuple[Table, int]:
    """What becomes of frozen encoders' features, and why; with the number of rows that are not shown."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("frozen", no_wrap=True)
    table.add_column("head run", no_wrap=True)
    table.add_column("cells", justify="right", no_wrap=True)
    table.add_column("features")
    rows: dict[tuple[str, str, Choice], list[Family]] = {}
    for family, choice in choices:
        first = family.cells[0]
        rows.setdefault((first.model, first.identity["run"]["name"], choice), []).append(family)
    for (model, run, choice), same in list(rows.items())[:_MOST_FAMILIES]:
        each = f" ({len(same):,} encoders, each)" if len(same) > 1 else ""
        cells = sum(len(family.cells) for family in same)
        table.add_row(model, run, f"{cells:,}", f"[bold]{choice.what}[/bold]{each}: {escape(choice.reason)}")
    return table, max(len(rows) - _MOST_FAMILIES, 0)


def _sums(cells: Sequence[Cell], costs: Mapping[str, Cost], done: set[str]) -> list[str]:
    left = [costs[cell.name] for cell in cells if cell.name not in done]
    seconds = [cost.seconds for cost in left if cost.seconds is not None]
    sizes = sorted({costs[cell.name].parameters for cell in cells})
    return [
        f"{len(cells):,}",
        f"{len(done.intersection(cell.name for cell in cells)):,}",
        f"{len({cell.group for cell in cells}):,}",
        scaled(sizes[0]) if len(sizes) == 1 else f"{scaled(sizes[0])}-{scaled(sizes[-1])}",
        scaled(sum(cost.work.flops for cost in left)),
        scaled(max(costs[cell.name].memory for cell in cells)) + "B",
        clock(sum(seconds)) if len(seconds) == len(left) else "-",
    ]


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
        table.add_column(name, overflow="fold")  # on a narrow terminal these are broken, numbers never cut
    for name in ("cells", "value", "lowest", "highest"):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(rows.items(), key=lambda row: row[0][:2])
    for key, found in ordered[:_MOST_ROWS]:
        values = [one["value"] for one in found if one["value"] is not None]
        numbers = [f"{number:.3f}" for number in (mean(values), min(values), max(values))] if values else ["-"] * 3
        table.add_row(*key, str(len(found)), *numbers)
    return table, max(len(ordered) - _MOST_ROWS, 0)
