"""What a comparison of signals shows of itself: tables as Markdown and in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ecgjax.reporting import markdown, style
from ecgjax.reporting.robustness_curves import NAMES, POLICIES, set_name

Row = Mapping[str, Any]
HEADS = ("model", "signals", "value", "difference from the reference", "records", "seeds")


def condition(row: Row) -> str:
    """A row's condition in words, e.g. "6 limb, others zero; power line at 6 dB"."""
    leads = set_name(row["leads"]) + (" leads" if row["axis"] == "leads" and not row["policy"] else "")
    parts = [leads + (f", {POLICIES[row['policy']]}" if row["policy"] else "")]
    for kind, name in NAMES.items():
        if kind == "swap" and row["swap"]:
            parts.append(f"{row['swap'].replace(' ', ', ')} swapped")
        elif kind == "missing" and row["missing"]:
            parts.append(f"{name} for {100 * row['missing']:g} % of the time")
        elif kind not in ("swap", "missing") and row[kind] is not None:
            parts.append(f"{name} at {row[kind]:g} dB")
    return "; ".join(parts) + ("; in training too" if row["disturbed"] == "all" else "")


def as_markdown(rows: Sequence[Row], level: float) -> str:
    """A table for each task, metric and protocol."""
    lines: list[str] = []
    for title, members in _tables(rows).items():
        lines += [f"### {title}", "", f"{100 * level:g} % intervals in brackets.", ""]
        lines += [*markdown.table(HEADS, map(_cells, members), "llr"), ""]
    return "\n".join(lines)


def show(rows: Sequence[Row], console: Console | None = None) -> None:
    """Prints the tables."""
    console = console or Console(width=120, highlight=False)
    for title, members in _tables(rows).items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        for k, name in enumerate(HEADS):
            table.add_column(name, justify="left" if k < 2 else "right")
        for row in members:
            table.add_row(*_cells(row))
        console.print(table)


def _tables(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        synthetic = " (synthetic data)" if row["synthetic"] else ""
        title = f"{row['task']}{synthetic}, {style.metric_name(row['metric'])}, protocol {row['protocol']}"
        found.setdefault(title, []).append(row)
    return found


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{style.model_name(row['model'])}, {style.mode_name(row['mode'])}",
        condition(row),
        _limits(row["value"], row["low"], row["high"]),
        _limits(row["difference"], row["difference_low"], row["difference_high"], "+"),
        f"{row['records']:,}",
        str(len(row["runs"])),
    )


def _limits(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    if value is None or value != value:
        return "–"
    texts = ("–" if limit is None or limit != limit else f"{limit:{sign}.3f}" for limit in (low, high))
    return f"{value:{sign}.3f} [{', '.join(texts)}]"
