"""What a study of transfer shows of itself: tables in the terminal, transfer.md, transfer.csv, labels.csv, a figure."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ecgjax import atomic
from ecgjax.errors import disk_errors
from ecgjax.reporting import style, transfer_map
from ecgjax.reporting.figures import save_figure
from ecgjax.reporting.markdown import table
from ecgjax.reporting.style import mode_name, model_name

RESULTS = "transfer.json"
HEADINGS = {"pair": "terms of each pair", "common": "terms that all pairs have"}

_CELL = ("matrix", "train", "test", "records", "terms", "value", "low", "high")
_REFERENCE = ("reference", "reference_low", "reference_high", "drop", "drop_low", "drop_high")
_LABEL = ("train", "test", "term", "name", "snomed", "known", "positives", "value", "low", "high")


def read(folder: Path) -> dict[str, Any]:
    """Content of a study's transfer.json."""
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))


def write(folder: Path) -> None:
    """Writes transfer.csv, labels.csv, transfer.md and figures/transfer, from transfer.json.

    Raises:
        UserError: the disk is full.
    """
    found = read(folder)
    atomic.write_text(folder / "transfer.csv", cells_csv(found))
    atomic.write_text(folder / "labels.csv", labels_csv(found))
    atomic.write_text(folder / "transfer.md", markdown(found))
    with disk_errors(folder / "figures"):
        (folder / "figures").mkdir(exist_ok=True)
    matrices = {HEADINGS[name]: cells for name, cells in found["matrices"].items() if cells}
    with style.style():
        figure = transfer_map.draw(matrices, _title(found), _subtitle(found))
        save_figure(figure, folder / "figures" / "transfer")


def show(folder: Path, console: Console | None = None) -> None:
    """Prints the matrices, what was left out, and where the files are.

    Args:
        folder: the study's directory.
        console: where to; None is standard output, 100 columns wide.
    """
    console = console or Console(width=100, highlight=False)
    found = read(folder)
    console.print(f"\n{_title(found)}\n{_subtitle(found)}", markup=False, soft_wrap=True)
    for name, cells in found["matrices"].items():
        if cells:
            table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"macro AUROC, {HEADINGS[name]}", title_justify="left")
            columns = list(dict.fromkeys(cell["test"] for cell in cells))
            table.add_column("train \\ test", no_wrap=True)
            for column in columns:
                table.add_column(column, justify="right")
            for train in dict.fromkeys(cell["train"] for cell in cells):
                own = {cell["test"]: cell for cell in cells if cell["train"] == train}
                table.add_row(train, *(_terminal(own[column]) for column in columns))
            console.print(table)
    for line in _removed(found):
        console.print(line, markup=False, soft_wrap=True)
    for name, what in ((RESULTS, "all values"), ("transfer.md", "tables"), ("figures", "PNG and SVG")):
        console.print(f"{what:14s}{folder / name}", soft_wrap=True, markup=False)


def cells_csv(found: Mapping[str, Any]) -> str:
    """Content of transfer.csv: a row for each cell of each matrix."""
    return _csv(
        (*_CELL, *_REFERENCE, "seen"),
        (
            (
                name,
                cell["train"],
                cell["test"],
                cell["records"],
                cell["defined"],
                *_limits(cell),
                *_other(cell),
                cell["seen"],
            )
            for name, cells in found["matrices"].items()
            for cell in cells
        ),
    )


def labels_csv(found: Mapping[str, Any]) -> str:
    """Content of labels.csv: a row for each term of each pair."""
    terms = found["terms"]
    return _csv(
        (*_LABEL, *_REFERENCE),
        (
            (
                *(cell["train"], cell["test"], term, terms[term]["name"], terms[term]["snomed"]),
                *(label["known"], label["positives"], *_limits(label), *_other(label)),
            )
            for cell in found["matrices"]["pair"]
            for term, label in cell["labels"].items()
        ),
    )


def markdown(found: Mapping[str, Any]) -> str:
    """Content of transfer.md."""
    lines = [f"# {_title(found)}", "", _subtitle(found) + "."]
    for name, cells in found["matrices"].items():
        if not cells:
            lines += ["", f"## {style.capital(HEADINGS[name])}", "", "There are none."]
            continue
        columns = list(dict.fromkeys(cell["test"] for cell in cells))
        lines += ["", f"## {style.capital(HEADINGS[name])}", ""]
        rows = []
        for train in dict.fromkeys(cell["train"] for cell in cells):
            own = {cell["test"]: cell for cell in cells if cell["train"] == train}
            rows.append([f"**{train}**", *(_cell(own[column]) for column in columns)])
        lines += table(["trained on \\ tested on", *columns], rows, "l")
    lines += [
        "",
        "The diagonal is in-domain. Drop: the model trained where it is tested, minus this one, on the same records "
        "and terms, as a paired difference; * marks an interval without 0, † weights that saw the test data in "
        "pretraining. Over the terms of each pair, cells are not comparable with each other: each has its own.",
        "",
        "## Recordings in two places",
        "",
        *(f"- {line}" for line in _removed(found)),
        "",
        "## Labels",
        "",
        f"Exactness that counts: {', '.join(found['exactness'])}. A term needs {found['least']} records with it and as "
        "many without it in the training folds and in the test fold.",
        "",
        f"- common terms: {', '.join(found['common']) or '(none)'}",
    ]
    for name, store in found["stores"].items():
        lines.append(f"- {name} ({store['source']}, label set {store['label_set']}): {len(store['terms'])} terms")
        for what, labels in (("without a term", store["unmapped"]), ("in the table only", store["absent"])):
            if labels:
                lines.append(f"    - {what}: {', '.join(labels)}")
    return "\n".join(lines) + "\n"


def _title(found: Mapping[str, Any]) -> str:
    weights = "" if found["weights"] or found["mode"] == "scratch" else ", random initialisation"
    return f"Trained here, tested there: {model_name(found['model'])}, {mode_name(found['mode'])}{weights}"


def _subtitle(found: Mapping[str, Any]) -> str:
    interval = found["interval"]
    words = [
        f"Macro AUROC, {100 * interval['level']:g} % {interval['kind']} limits of {interval['replicates']:,} resamples "
        f"of {interval['unit']}s",
        f"protocol {found['protocol']}",
    ]
    made_up = [name for name, store in found["stores"].items() if store["synthetic"]]
    return ", ".join([*words, *([f"synthetic: {', '.join(made_up)}"] if made_up else [])])


def _removed(found: Mapping[str, Any]) -> list[str]:
    if not found["overlap"]:
        return ["Recordings in two places were not looked for."]
    lines = []
    for name, store in found["stores"].items():
        if not store["trained"]:
            continue
        removed, pairs = store["removed"], store["removed"]["pairs"]
        count = removed["train"] + removed["validation"]
        line = (
            f"{name}: {count:,} of its training and validation records left out ({removed['validation']:,} validation)"
        )
        if count:
            line += (
                f"; pairs with test records: {pairs['exact']:,} with the same samples, {pairs['signal']:,} with the "
                f"same signal, {pairs['table']:,} by name alone; {removed['of_the_same_patients']:,} are other records "
                "of the same patients"
            )
        if removed["named_alike_only"]:
            line += f"; {removed['named_alike_only']:,} pairs are named alike and have other signals: kept"
        lines.append(line)
    return lines


def _cell(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "–"
    text = f"{cell['value']:.3f}{'†' if cell['seen'] else ''} [{_number(cell['low'])}, {_number(cell['high'])}]"
    text += f"<br>{style.counted(cell['defined'], 'term')}"
    drop = cell["drop"]
    if drop is not None and drop["value"] is not None:
        text += f", drop {drop['value']:.3f}{_star(drop)} [{_number(drop['low'])}, {_number(drop['high'])}]"
    return text


def _terminal(cell: Mapping[str, Any]) -> str:
    """Narrow enough for six columns; the limits of the drop are in the files."""
    if cell["value"] is None:
        return "–"
    low, high = (_number(cell[key]).replace("0.", ".") for key in ("low", "high"))
    lines = [f"{cell['value']:.3f}{'†' if cell['seen'] else ''}", f"{low}–{high}"]
    lines.append(style.counted(cell["defined"], "term"))
    if cell["drop"] is not None and cell["drop"]["value"] is not None:
        lines.append(f"drop {cell['drop']['value']:.3f}".replace("0.", ".") + _star(cell["drop"]))
    return "\n".join(lines)


def _star(drop: Mapping[str, Any]) -> str:
    return "*" if drop["low"] is not None and (drop["low"] > 0 or drop["high"] < 0) else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _limits(entry: Mapping[str, Any] | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if entry is None else (entry["value"], entry["low"], entry["high"])


def _other(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return *_limits(entry["reference"]), *_limits(entry["drop"])


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()
