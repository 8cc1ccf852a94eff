"""The table of an audit: every variant of the protocol beside the fixed one, for Markdown and for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ecgjax.evaluation.audit import BASE
from ecgjax.reporting import markdown, style

_WORDS = {
    "fixed": "fixed",
    "paper": "paper (all switches)",
    "undefined_classes=half": "undefined classes count 0.5",
    "last_crop_start=never": "last crop start never drawn",
    "missing_samples=spread": "missing samples spread in resampling",
    "rate_groups=published": "rate groups as published",
    "composite=mean": "epoch by mean of the targets' errors",
    "contract=authors": "authors' input contract",
    "paper, contract=authors": "paper, authors' input contract",
}
_HEADS = ("variant", "value", "difference from fixed", "sd over seeds", "basic interval")


def as_markdown(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """A table for each task and metric.

    Args:
        rows: see `ecgjax.evaluation.audit.compare`.
        about: model, task, mode, settings.
    """
    lines = [f"### Audit: {_title(about)}", "", _caption(rows, about), ""]
    for head, own in _grouped(rows).items():
        lines += [f"**{head}**", "", *markdown.table(_HEADS, map(_cells, own)), ""]
    return "\n".join(lines)


def as_table(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Table:
    """The same for the terminal."""
    table = Table(title=f"audit: {_title(about)}", title_justify="left", box=SIMPLE_HEAD, caption_justify="left")
    for k, head in enumerate(_HEADS):
        table.add_column(head, justify="right" if k else "left", overflow="fold")
    for head, own in _grouped(rows).items():
        table.add_row(f"[bold]{head}[/bold]")
        for row in own:
            table.add_row(*(cell.replace("[", r"\[") for cell in _cells(row)))
    table.caption = _caption(rows, about).replace("[", r"\[")
    return table


def _title(about: Mapping[str, Any]) -> str:
    return f"{style.model_name(about['model'])}, {about['task']}, {style.mode_name(about['mode'])}"


def _caption(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    settings, seeds = about["settings"], max(row["seeds"] for row in rows)
    made = f"{100 * settings['level']:g} % {settings['kind']} intervals, {settings['replicates']:,} resamples of "
    made += f"{settings['unit']}s, the same for all. "
    if seeds > 1:
        made += f"Means over {seeds} seeds; the sd is that of their differences. "
    else:
        made += "One seed: another training of the same variant would differ too, by how much several seeds say. "
    return made + "Intervals hold the choice of test records, not that of the seed."


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(f"{row['task']}, {style.metric_name(row['metric'])}", []).append(row)
    return found


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["variant"] == BASE:
        difference, sd = "", row["sd"]
    elif not row["comparable"]:
        difference, sd = "other test records", row["sd"]
    else:
        difference, sd = _interval(row, "difference", "difference_low", "difference_high", "+"), row["difference_sd"]
    basic = f"[{_number(row['basic_low'])}, {_number(row['basic_high'])}]"
    name = _WORDS.get(row["variant"], row["variant"])
    return [name, _interval(row, "value", "low", "high"), difference, "–" if sd is None else f"{sd:.4f}", basic]


def _interval(row: Mapping[str, Any], value: str, low: str, high: str, sign: str = "") -> str:
    return f"{_number(row[value], sign)} [{_number(row[low], sign)}, {_number(row[high], sign)}]"


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4f}"
