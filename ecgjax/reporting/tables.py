"""Tables of results for the terminal: every value with its interval, readable in 100 columns."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_NAMES = {"auroc": "AUROC", "mae": "mean absolute error"}
_OVERALL = {"auroc": "macro average", "mae": "pooled"}
_SCALES = {"auroc": (0.5, 1.0), "mae": (0.0, 1.0)}
_BAR = 24


def results_table(results: Mapping[str, Any], most_labels: int = 40) -> RenderableType:
    """The results of one evaluation: for each task and metric the overall value, then the labels.

    Args:
        results: content of a results.json.
        most_labels: labels shown per task; the rest is counted in a last line.
    """
    level = f"{100 * results['interval']['level']:g} %"
    parts: list[RenderableType] = [Text(line) for line in _headlines(results)]
    # The labels once, for the task that was asked for; the other tasks are columns of the same predictions.
    asked, *others = results["tasks"].items()
    for metric in _metrics(asked[1]):
        parts += [_title(f"{asked[0]}: {_NAMES[metric]}"), _label_table(metric, asked[1][metric], level, most_labels)]
    if others:
        used = [metric for metric in _NAMES if any(metric in task for _, task in others)]
        for metric in used:
            parts.append(_title(f"other tasks on the same predictions: {_NAMES[metric]}"))
            parts.append(_other_tasks(dict(others), metric, level))
    return Group(*parts)


def _headlines(results: Mapping[str, Any]) -> list[str]:
    data, interval = results["data"], results["interval"]
    weights = f"weights {results['weights'][:12]}" if results["weights"] else "random initialisation, no weights"
    kind = "synthetic records" if data["synthetic"] else "records"
    seen = [_SEEN] if results.get("seen") else []
    return [
        f"{results['model']} ({weights}), mode {results['mode']}, task {results['task']}",
        f"{results['records']['test']:,} test {kind} ({results['windows']:,} windows), "
        f"{results['records']['train']:,} for training; {_best(results['best'])}",
        f"protocol {results['protocol']}: undefined classes {_ABSENT[results['absent']]}; "
        f"{interval['kind']} bootstrap, {interval['replicates']:,} replicates of {interval['unit']}s",
        *seen,
    ]


def _best(best: Mapping[str, Any]) -> str:
    if "strength" not in best:
        return f"best epoch {best['epoch']}"
    strengths = sorted(set(best["strength"].values()))
    return f"exact, L2 strength {strengths[0]:g}" + (f" to {strengths[-1]:g}" if len(strengths) > 1 else "")


_SEEN = "seen: these weights saw recordings of this data set in pretraining (released weights without their labels)"
_ABSENT = {"skip": "left out", "half": "counted 0.5"}


def _title(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _label_table(metric: str, values: Mapping[str, Any], level: str, most_labels: int) -> Table:
    table = _table("label", level, metric)
    overall = Text(_OVERALL[metric], "bold"), _count(values), Text(_interval(values), "bold"), _bar(values, metric)
    table.add_row(*overall, end_section=True)
    for label, row in list(values["labels"].items())[:most_labels]:
        count = f"{row['known']:,}" if row["positives"] is None else f"{row['positives']:,} / {row['known']:,}"
        table.add_row(label, count, _interval(row), _bar(row, metric))
    if len(values["labels"]) > most_labels:
        table.add_row(f"... {len(values['labels']) - most_labels} more in results.json", "", "", "")
    return table


def _other_tasks(tasks: Mapping[str, Any], metric: str, level: str) -> Table:
    table = _table("task", level, metric)
    for name, task in tasks.items():
        if metric in task:
            table.add_row(name, _count(task[metric]), _interval(task[metric]), _bar(task[metric], metric))
    return table


def _table(first: str, level: str, metric: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, width=98)
    table.add_column(first, ratio=1, overflow="ellipsis", no_wrap=True)
    table.add_column("positive / known", justify="right", no_wrap=True)
    table.add_column(f"value  [{level} interval]", justify="right", no_wrap=True)
    low, high = (f"{limit:g}" for limit in _SCALES[metric])
    table.add_column(low + high.rjust(_BAR - len(low)), width=_BAR, no_wrap=True)
    return table


def _count(values: Mapping[str, Any]) -> str:
    return f"{values['defined']} of {len(values['labels'])} labels"


def _metrics(task: Mapping[str, Any]) -> list[str]:
    return [metric for metric in _NAMES if metric in task]


def _interval(row: Mapping[str, Any]) -> str:
    if row["value"] is None or row["value"] != row["value"]:
        return "not defined"
    limits = [" - " if limit is None or limit != limit else f"{limit:.3f}" for limit in (row["low"], row["high"])]
    return f"{row['value']:.3f}  [{limits[0]}, {limits[1]}]"


def _bar(row: Mapping[str, Any], metric: str) -> Text:
    """The interval drawn on the column's scale, with arrows where it goes on beyond."""
    numbers = [row["low"], row["value"], row["high"]]
    if any(number is None or number != number for number in numbers):
        return Text("")
    lowest, highest = _SCALES[metric]
    low, value, high = (round((x - lowest) / (highest - lowest) * (_BAR - 1)) for x in numbers)
    cells = ["─" if low <= i <= high else "·" for i in range(_BAR)]
    if low < 0:
        cells[0] = "◂"
    if high >= _BAR:
        cells[-1] = "▸"
    if 0 <= value < _BAR:
        cells[value] = "●"
    return Text("".join(cells))
