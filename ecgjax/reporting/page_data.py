"""What the page carries behind its tables: the whole report, compact and compressed, and the table as CSV."""

import base64
import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecgjax.reporting import style

DIGITS = 5

_COLUMNS = (
    *("category", "task", "row", "model", "mode", "protocol", "absent", "metric", "value", "low", "high", "rank"),
    *("role", "seeds", "records", "classes", "defined", "seen", "weights", "run"),
)


def embedded(report: Mapping[str, Any]) -> str:
    """The report for the page's script: JSON, gzip, base64.

    Labels are lists instead of objects, and runs on the same test set share their names and counts in "label_sets":
    840 runs of 1,000 labels make a tenth of the plain file. Decimals are rounded to five places.
    """
    sets: dict[tuple[Any, ...], int] = {}
    rows = [{**_rounded({**row, "labels": None}), "labels": _labels(row["labels"], sets)} for row in report["rows"]]
    names = [dict(zip(("names", "known", "positives"), key, strict=True)) for key in sets]
    # What the script calls the models and modes; it is taken out of what a reader saves.
    models = [row["model"] for row in rows] + [model for pair in report["pairs"] for model in pair["models"]]
    shown = {model: style.model_name(model) for model in models}
    shown |= {mode: style.mode_name(mode) for row in rows for mode in (row["mode"], *row["ranks"])}
    kept = {key: _rounded(value) for key, value in report.items() if key != "rows"}
    text = json.dumps(
        {**kept, "rows": rows, "label_sets": names, "shown": shown}, separators=(",", ":"), allow_nan=False
    )
    # The time in gzip's head would make every page another file.
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode("ascii")


def as_csv(report: Mapping[str, Any]) -> str:
    """The rows of the table as a data address of a CSV file, full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in report["rows"]:
        writer.writerow([_cell(row[key]) for key in _COLUMNS])
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")


def _labels(labels: Mapping[str, Mapping[str, Any]], sets: dict[tuple[Any, ...], int]) -> list[Any]:
    values = list(labels.values())
    counts = tuple(tuple(label[key] for label in values) for key in ("known", "positives"))
    index = sets.setdefault((tuple(labels), *counts), len(sets))
    return [index, *(_column([label[key] for label in values]) for key in ("value", "low", "high"))]


def _column(values: list[float | None]) -> list[float | None]:
    """As `_rounded`, for many numbers."""
    known = np.array([np.nan if value is None else value for value in values], float)
    return [value if value == value else None for value in np.round(known, DIGITS).tolist()]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _cell(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return "" if value is None else value
