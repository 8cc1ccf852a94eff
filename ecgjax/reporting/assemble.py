"""From rows to a report: seeds, comparisons within each mode, ranks of categories, what a reader must know."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ecgjax
from ecgjax import tasks
from ecgjax.errors import UserError
from ecgjax.evaluation import published, replicated
from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.evaluation.multiplicity import holm_pairs
from ecgjax.evaluation.ranks import Aggregation, Numbering, Rule, aggregate, ranks
from ecgjax.reporting import notes, schema, unseen
from ecgjax.reporting.rows import Entry, grouped, mean_over_seeds
from ecgjax.reporting.schema import HIGHER_IS_BETTER, SCRATCH


@dataclass(frozen=True)
class Rules:
    """How differences become ranks; see protocol.md, section 4.5.

    Attributes:
        multiplicity: "none" (the paper), or "holm" over the pairs of a comparison.
        rank_rule: see `ecgjax.evaluation.ranks.ranks`.
        numbering: the same.
        aggregation: see `ecgjax.evaluation.ranks.aggregate`.
    """

    multiplicity: str = "none"
    rank_rule: Rule = "groups"
    numbering: Numbering = "dense"
    aggregation: Aggregation = "median"


def assemble(
    entries: Sequence[Entry],
    settings: Bootstrap,
    rules: Rules,
    *,
    sources: Sequence[str] = (),
    excluded: Sequence[tuple[str, str]] = (),
    others: Mapping[str, Sequence[tuple[str, dict[str, Any]]]] | None = None,
    curves: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The report of entries that may be compared.

    Args:
        entries: of single runs, on the same records within each task and protocol.
        settings: of the intervals.
        rules: of the ranks.
        sources: where the runs were.
        excluded: (path, reason).
        others: job -> (path, results) to show beside.
        curves: see `ecgjax.reporting.schema`.

    Returns:
        The report, all numbers plain and None where undefined.
    """
    entries = _with_means(entries, settings)
    entries.sort(key=_order)
    shown = _shown_names(entries)
    pairs = []
    compared = [i for i, entry in enumerate(entries) if entry.row["role"] != "seed"]
    for chosen in grouped(compared, lambda i: tuple(entries[i].row[k] for k in ("task", "metric", "protocol"))):
        modes = [mode for mode in schema.MODES if any(entries[i].row["mode"] == mode for i in chosen)]
        for mode in [mode for mode in modes if mode != SCRATCH] or [SCRATCH]:
            members = [i for i in chosen if entries[i].row["mode"] in (mode, SCRATCH)]
            pairs.append(_compare(entries, members, mode, shown, settings, rules))
    # Labels are most of a report, and plain already.
    rows = [{**plain({**entry.row, "labels": {}}), "labels": entry.row["labels"]} for entry in entries]
    others = others or {}
    report = {
        "format": schema.FORMAT,
        "kind": schema.KIND,
        "ecgjax": ecgjax.__version__,
        "sources": list(sources),
        "settings": {
            **asdict(settings),
            "absent": {row["protocol"]: row["absent"] for row in rows},
            **asdict(rules),
        },
        "rows": rows,
        "pairs": plain(pairs),
        "ranks": plain(_of_categories(pairs, rules)),
        "runs": {entry.run["path"]: plain(entry.run) for entry in entries if entry.run is not None},
        "label_efficiency": plain([{"path": path, **found} for path, found in others.get("label_efficiency", ())]),
        "similarity": _beside(others, "similarity", "pairs"),
        "probes": _beside(others, "similarity", "probes"),
        "curves": list(curves),
        "paper": plain(_paper(rows)),
        "excluded": [{"path": path, "reason": reason} for path, reason in sorted(excluded)],
        "notes": notes.of(entries, pairs, settings),
    }
    unseen.add(report)
    return report


def _beside(others: Mapping[str, Sequence[tuple[str, dict[str, Any]]]], job: str, key: str) -> list[dict[str, Any]]:
    """Entries of one list of each run of a job, with the run's path and data."""
    return [
        plain({"path": path, "data": content.get("data"), **entry})
        for path, content in others.get(job, ())
        for entry in content.get(key, ())
    ]


def plain(value: Any) -> Any:
    """As JSON has it: lists, Python numbers, None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _with_means(entries: Sequence[Entry], settings: Bootstrap) -> list[Entry]:
    result: list[Entry] = []
    keys = ("model", "task", "mode", "protocol", "metric")
    for group in grouped(entries, lambda entry: tuple(entry.row[key] for key in keys)):
        group.sort(key=lambda entry: entry.row["seeds"])
        result += group if len(group) == 1 else [mean_over_seeds(group, settings), *group]
    return result


_TASK_ORDER = {task.name: i for i, task in enumerate(tasks.TASKS.values())}


def _order(entry: Entry) -> tuple[Any, ...]:
    row = entry.row
    mode = schema.MODES.index(row["mode"]) if row["mode"] in schema.MODES else len(schema.MODES)
    task = _TASK_ORDER.get(row["task"], len(_TASK_ORDER))
    role = ("single", "mean", "seed").index(row["role"])
    return task, row["task"], row["metric"], row["protocol"], mode, row["model"], role, row["seeds"]


def _shown_names(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """(model, mode) -> name in a comparison: a model may also have been trained from scratch."""
    pretrained = {entry.row["model"] for entry in entries if entry.row["mode"] != SCRATCH}
    every = {(entry.row["model"], entry.row["mode"]) for entry in entries}
    return {
        (model, mode): f"{model} (scratch)" if mode == SCRATCH and model in pretrained else model
        for model, mode in every
    }


def _check_replicates(models: int, settings: Bootstrap) -> None:
    """Refuses too few replicates for Holm's adjustment ever to call anything significant."""
    pairs = models * (models - 1) // 2
    needed = int(2 * pairs / (1 - settings.level))
    if settings.replicates <= needed:
        raise UserError(
            f"config.multiplicity=holm over {pairs} pairs of {models} models: the smallest p-value of "
            f"{settings.replicates:,} replicates cannot fall below {1 - settings.level:.3g} once it is adjusted; "
            f"expected config.interval.replicates above {needed:,}"
        )


def _compare(
    entries: Sequence[Entry],
    members: Sequence[int],
    mode: str,
    shown: Mapping[tuple[str, str], str],
    settings: Bootstrap,
    rules: Rules,
) -> dict[str, Any]:
    """One comparison; writes the ranks into the rows."""
    rows, first = [entries[i].row for i in members], entries[members[0]].row
    models = [entries[i].value.replicated for i in members]
    found = replicated.differences(models, settings.level, settings.kind)
    if rules.multiplicity == "holm":
        _check_replicates(len(models), settings)
    adjusted = holm_pairs(found.p) if rules.multiplicity == "holm" else None
    significant = (found.low > 0) | (found.high < 0) if adjusted is None else adjusted < 1 - settings.level
    np.fill_diagonal(significant, False)
    higher, value = HIGHER_IS_BETTER[first["metric"]], np.array([model.value for model in models])
    rank = ranks(value, significant, higher_is_better=higher, rule=rules.rank_rule, numbering=rules.numbering)
    for row, entry in zip(rows, _rank_entries(value if higher else -value, rank), strict=True):
        row["ranks"][mode] = entry
        # Scratch models take part in every mode; the first is the one their rank is shown of.
        if row["comparison"] is None:
            row.update(comparison=mode, **entry)
    return {
        **{key: first[key] for key in ("task", "row", "category", "protocol", "metric")},
        "mode": mode,
        "higher_is_better": higher,
        "models": [shown[row["model"], row["mode"]] for row in rows],
        "rows": list(members),
        "rank": rank,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "delong_se": found.delong_se,
        "delong_p": found.delong_p,
        "adjusted": adjusted,
        "significant": significant,
    }


def _rank_entries(goodness: NDArray, rank: NDArray) -> list[dict[str, Any]]:
    best = goodness == np.nanmax(goodness, initial=-np.inf)
    return [
        {
            "rank": float(own),
            "best": bool(top and len(goodness) > 1),  # alone is not best
            "tied": bool(np.count_nonzero(rank == own) > 1),
        }
        for own, top in zip(rank, best, strict=True)
    ]


def _of_categories(pairs: Sequence[dict[str, Any]], rules: Rules) -> list[dict[str, Any]]:
    result = []
    for group in grouped(pairs, lambda pair: (pair["category"], pair["mode"], pair["protocol"])):
        models = list(dict.fromkeys(model for pair in group for model in pair["models"]))
        by_task = [
            [dict(zip(pair["models"], pair["rank"], strict=True)).get(model, np.nan) for model in models]
            for pair in group
        ]
        rank, mean = aggregate(by_task, rules.aggregation)
        names = [pair["task"] for pair in group]
        result.append(
            {
                **{key: group[0][key] for key in ("category", "mode", "protocol")},
                "models": models,
                "tasks": [
                    f"{pair['task']} ({pair['metric']})" if names.count(pair["task"]) > 1 else pair["task"]
                    for pair in group
                ],
                "rank": rank,
                "mean": mean,
            }
        )
    return result


def _paper(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    compared = published.compare_paper([row for row in rows if row["role"] != "seed"])
    if compared.empty:
        return None
    return {"counts": published.summary(compared), "cells": compared.to_dict("records")}
