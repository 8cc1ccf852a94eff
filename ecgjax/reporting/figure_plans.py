"""Which figures a report has, what they are called and what stands below them."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as Drawing

from ecgjax.reporting import (
    critical_difference,
    forest,
    label_curves,
    layer_probes,
    rank_map,
    roc,
    similarity_map,
    style,
)


class Plan(NamedTuple):
    """A figure that can be drawn.

    Attributes:
        name: of its files, without suffix; two may have the same.
        kind: see `ecgjax.reporting.report_figures.Figure`, like the next two.
        title: one line.
        caption: in sentences.
        draw: draws it.
    """

    name: str
    kind: str
    title: str
    caption: str
    draw: Callable[[], Drawing]


def plans(report: Mapping[str, Any]) -> Iterator[Plan]:
    """Every figure that a report has the numbers for, in the order in which they are to be read."""
    yield from _rank_maps(report)
    yield from _critical_differences(report)
    yield from _forests(report)
    yield from _label_efficiency(report)
    yield from _similarity(report)
    yield from _curves(report)


def _rank_maps(report: Mapping[str, Any]) -> Iterator[Plan]:
    aggregation = report["settings"]["aggregation"]
    for (mode, protocol), entries in _grouped(report["ranks"], "mode", "protocol").items():
        models = list(dict.fromkeys(model for entry in entries for model in entry["models"]))
        categories = {}
        marks = {}
        for entry in entries:
            tasks = {}
            for pair in _pairs(report, entry):
                ranks = dict(zip(pair["models"], pair["rank"], strict=True))
                name = task_title(pair)
                tasks[name] = [ranks.get(model) for model in models]
                seen = [report["rows"][row] for row in pair["rows"] if report["rows"][row]["seen"]]
                marks.update({(name, row["model"]): "†" for row in seen})
            overall = dict(zip(entry["models"], entry["rank"], strict=True))
            categories[entry["category"]] = ([overall.get(model) for model in models], tasks)
        mean = [np.nanmean([np.nan if r is None else r for r in _column(categories, i)]) for i in range(len(models))]
        order = np.argsort(np.nan_to_num(mean, nan=np.inf), kind="stable")
        models = [models[i] for i in order]
        categories = {
            name: ([overall[i] for i in order], {task: [row[i] for i in order] for task, row in tasks.items()})
            for name, (overall, tasks) in categories.items()
        }
        title = f"Ranks, {_setting(report, mode, protocol)}"
        by_value = report["settings"]["rank_rule"] == "value"
        note = "1 is best; " + (
            "by value alone" if by_value else "models that share a rank do not differ significantly"
        )
        note += "; † the weights saw the data in pretraining" if marks else ""
        caption = (
            f"{rank_rule(report)} Bold: {aggregation} over the category's tasks. Columns by mean rank over all tasks."
        )
        draw = partial(rank_map.draw, models, categories, title, note, aggregation, marks)
        yield Plan(_name("ranks", mode, protocol), "ranks", title, caption, draw)


def _column(categories: Mapping[str, Any], model: int) -> list[float | None]:
    return [ranks[model] for _, tasks in categories.values() for ranks in tasks.values()] or [None]


def _critical_differences(report: Mapping[str, Any]) -> Iterator[Plan]:
    how = report["settings"]["aggregation"]
    for entry in report["ranks"]:
        pairs, models = _pairs(report, entry), entry["models"]
        if not pairs or not all(pair.get("significant") for pair in pairs):
            continue
        differ = critical_difference.differing([_significance(pair, models) for pair in pairs])
        category, mode, protocol = (entry[key] for key in ("category", "mode", "protocol"))
        title = f"{style.capital(style.category_name(category))}: ranks, {_setting(report, mode, protocol)}"
        if len(pairs) == 1:
            labels = {m: f"{r:g}" for m, r in zip(models, entry["rank"], strict=True) if r is not None}
            labels = {model: f"(rank {label})" for model, label in labels.items()}
            subtitle = f"{task_title(pairs[0])}; a bar joins models that do not differ significantly"
            axis = "place by value (1 is best)"
        else:
            labels = {
                model: f"{mean:.2f} ({rank:g})" if how == "median" else f"{mean:.2f}"
                for model, rank, mean in zip(models, entry["rank"], entry["mean"], strict=True)
                if mean is not None
            }
            subtitle = f"{len(pairs)} tasks; a bar joins models none of which beats another on more than half of them"
            axis = "mean rank over the tasks (1 is best)" + ("; median in brackets" if how == "median" else "")
        caption = f"{rank_rule(report)} A bar joins neighbours on the line of which no two differ" + (
            " significantly."
            if len(pairs) == 1
            else ", that is neither is significantly better on more than half of the tasks."
        )
        position = [np.nan if mean is None else mean for mean in entry["mean"]]
        position = _places(report, pairs[0], models) if len(pairs) == 1 else position
        draw = partial(critical_difference.draw, models, position, labels, differ, title, subtitle, axis)
        name = _name("critical_difference", category, mode, protocol)
        yield Plan(name, "critical difference", title, caption, draw)


def _places(report: Mapping[str, Any], pair: Mapping[str, Any], models: list[str]) -> list[float]:
    """Places of models on one task by value: unlike its ranks they are distinct, so that bars can show who differs."""
    value = {model: values[1] for model, values in _values(report, pair).items()}
    order = sorted(value.values(), reverse=pair["higher_is_better"])
    return [1.0 + order.index(value[model]) if model in value else np.nan for model in models]


def _significance(pair: Mapping[str, Any], models: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Significance and "is better" of a comparison for the given models; False where one is not in it."""
    at = {model: i for i, model in enumerate(pair["models"])}
    significant, better = np.zeros((2, len(models), len(models)), bool)
    for i, a in enumerate(models):
        for j, b in enumerate(models):
            if a in at and b in at and i != j:
                difference = pair["difference"][at[a]][at[b]]
                significant[i, j] = bool(pair["significant"][at[a]][at[b]])
                better[i, j] = difference is not None and (difference > 0) == pair["higher_is_better"]
    return significant, better


def _forests(report: Mapping[str, Any]) -> Iterator[Plan]:
    level = f"{100 * report['settings']['level']:g} %"
    for (category, mode, protocol), pairs in _grouped(report["pairs"], "category", "mode", "protocol").items():
        panels = [forest.Panel(task_title(pair), pair["metric"], _values(report, pair)) for pair in pairs]
        panels = [panel for panel in panels if panel.values]
        if not panels:
            continue
        models = _order(report, category, mode, protocol, panels)
        title = f"{style.capital(style.category_name(category))}: values, {_setting(report, mode, protocol)}"
        subtitle = f"{level} intervals ({report['settings']['kind']} bootstrap); blue and filled: first rank"
        caption = (
            f"Values on each task with {level} intervals ({report['settings']['kind']} bootstrap of "
            f"{report['settings']['unit']}s, {report['settings']['replicates']:,} replicates). Blue and filled: "
            "first rank. Models by their rank in the category; scales differ between the panels."
        )
        draw = partial(forest.draw, panels, models, title, subtitle)
        yield Plan(_name("forest", category, mode, protocol), "forest", title, caption, draw)


def _values(report: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, Any]:
    rows = [report["rows"][i] for i in pair["rows"]]
    return {
        model: (rank, row["value"], row["low"], row["high"])
        for model, rank, row in zip(pair["models"], pair["rank"], rows, strict=True)
        if row["value"] is not None
    }


def _order(report: Mapping[str, Any], category: str, mode: str, protocol: str, panels: list[forest.Panel]) -> list[str]:
    models = list(dict.fromkeys(model for panel in panels for model in panel.values))
    for entry in report["ranks"]:
        if (entry["category"], entry["mode"], entry["protocol"]) == (category, mode, protocol):
            mean = dict(zip(entry["models"], entry["mean"], strict=True))
            return sorted(models, key=lambda model: np.inf if mean.get(model) is None else mean[model])
    return models


def _label_efficiency(report: Mapping[str, Any]) -> Iterator[Plan]:
    for study in report["label_efficiency"]:
        yield Plan(_name("label_efficiency", study["task"]), "label efficiency", *label_curves.plan(study))


def _similarity(report: Mapping[str, Any]) -> Iterator[Plan]:
    for pair in report["similarity"]:
        yield Plan(_name("similarity", pair["model_x"], pair["model_y"]), "similarity", *similarity_map.plan(pair))
    for (_, task), probes in _grouped(report["probes"], "path", "task").items():
        yield Plan(_name("probes", task), "similarity", *layer_probes.plan(task, probes))


def _curves(report: Mapping[str, Any]) -> Iterator[Plan]:
    for (task, label, mode, protocol), curves in _grouped(
        report["curves"], "task", "label", "mode", "protocol"
    ).items():
        where = f"{label} of {task}, {_setting(report, mode, protocol)}"
        yield Plan(_name("roc", task, label, mode, protocol), "curves", *roc.plan_roc(curves, where))
        yield Plan(_name("calibration", task, label, mode, protocol), "curves", *roc.plan_calibration(curves, where))


def task_title(entry: Mapping[str, Any]) -> str:
    """A task's name in the published tables, else its own."""
    return entry.get("row") or entry["task"]


def _pairs(report: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    keys = ("category", "mode", "protocol")
    return [pair for pair in report["pairs"] if all(pair[key] == entry[key] for key in keys)]


def _grouped(entries: list[Any], *keys: str) -> dict[tuple[str, ...], list[Any]]:
    found: dict[tuple[str, ...], list[Any]] = {}
    for entry in entries:
        found.setdefault(tuple(entry[key] for key in keys), []).append(entry)
    return found


def _setting(report: Mapping[str, Any], mode: str, protocol: str) -> str:
    synthetic = any(row["data"]["synthetic"] for row in report["rows"])
    mark = report.get("mark") or ("synthetic data" if synthetic else "")
    return f"{style.mode_name(mode)}, protocol {protocol}" + (f" ({mark})" if mark else "")


def rank_rule(report: Mapping[str, Any]) -> str:
    """How ranks on a task come about, in sentences."""
    settings = report["settings"]
    rules = {
        "groups": "The best model left opens a group, and every model not significantly worse than it shares its rank.",
        "wins": "A model's rank is 1 + the number of models that are significantly better.",
        "value": "Ranks are the order of the values alone: whether models differ significantly is not known here.",
    }
    level = f"{100 * settings['level']:g} %"
    tests = {
        "none": f"Significant: the {level} interval of the paired difference excludes 0; not adjusted.",
        "holm": f"Significant: Holm's adjusted p-value of the paired difference is below {1 - settings['level']:.2g}.",
    }
    rule, test = (table.get(settings[key], "") for table, key in ((rules, "rank_rule"), (tests, "multiplicity")))
    return f"{rule} {test}".strip()


def _name(*parts: Any) -> str:
    words = "-".join(str(part) for part in parts)
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in words)
