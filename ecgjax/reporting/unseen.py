"""Ranks among models that never saw a task's data: a model pretrained on the test recordings has an advantage there.

Nothing is trained or resampled for it. The models whose weights saw the data's recordings in pretraining, and those of
which it is not known, are left out of a comparison, and the others are ranked by the report's own rule; with Holm's
method p-values are adjusted over the pairs that are left.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ecgjax.evaluation.multiplicity import holm_pairs
from ecgjax.evaluation.ranks import Rule, aggregate, ranks

Pretraining = Literal["never", "saw", "unknown"]

WORDS: dict[str, str] = {"never": "never saw this data", "saw": "saw this data", "unknown": "not known"}


def pretraining(row: Mapping[str, Any]) -> Pretraining:
    """What a row's weights saw of its data; those that are no one's pretraining saw nothing."""
    if row["weights"] is None or row["seen"] is False:
        return "never"
    return "saw" if row["seen"] else "unknown"


def add(report: dict[str, Any]) -> None:
    """Adds "rank_unseen" to rows, pairs and categories' ranks of a report, and "mean_unseen" to the last.

    Args:
        report: see `ecgjax.reporting.schema`; plain, that is of lists and numbers.
    """
    rows = report["rows"]
    for row in rows:
        row["rank_unseen"] = None
    for pair in report["pairs"]:
        pair["rank_unseen"] = _of_pair(pair, report)
        for i, rank in zip(pair["rows"], pair["rank_unseen"], strict=True):
            if rows[i]["comparison"] == pair["mode"]:
                rows[i]["rank_unseen"] = rank
    for entry in report["ranks"]:
        keys = ("category", "mode", "protocol")
        members = [pair for pair in report["pairs"] if all(pair[key] == entry[key] for key in keys)]
        by_task = [
            [dict(zip(pair["models"], pair["rank_unseen"], strict=True)).get(model) for model in entry["models"]]
            for pair in members
        ]
        table = [[np.nan if rank is None else rank for rank in task] for task in by_task]
        rank, mean = aggregate(table, report["settings"]["aggregation"])
        entry["rank_unseen"], entry["mean_unseen"] = _plain(rank), _plain(mean)


def matters(report: Mapping[str, Any], pair: Mapping[str, Any]) -> bool:
    """Whether a comparison has a model that saw the data, or may have, and several others that did not."""
    never = sum(pretraining(report["rows"][i]) == "never" for i in pair["rows"])
    return 1 < never < len(pair["rows"])


def _of_pair(pair: Mapping[str, Any], report: Mapping[str, Any]) -> list[float | None]:
    settings, higher = report["settings"], pair["higher_is_better"]
    rows = [report["rows"][i] for i in pair["rows"]]
    chosen = np.array([i for i, row in enumerate(rows) if pretraining(row) == "never"], int)
    values = np.array([np.nan if row["value"] is None else row["value"] for row in rows], float)[chosen]
    found: list[float | None] = [None] * len(rows)
    if not len(chosen):
        return found
    rule: Rule = settings["rank_rule"]
    if rule not in ("groups", "wins"):  # published values are ranked by value: their differences have no interval
        differ, rule = values[:, None] != values, "wins"
    elif settings["multiplicity"] == "holm":
        p = np.array([[np.nan if x is None else x for x in line] for line in pair["p"]], float)[np.ix_(chosen, chosen)]
        differ = holm_pairs(p) < 1 - settings["level"]
    else:
        differ = np.array(pair["significant"], bool)[np.ix_(chosen, chosen)]
    np.fill_diagonal(differ, False)
    rank = ranks(values, differ, higher_is_better=higher, rule=rule, numbering=settings["numbering"])
    for i, own in zip(chosen, _plain(rank), strict=True):
        found[i] = own
    return found


def _plain(values: Any) -> list[float | None]:
    return [None if value != value else float(value) for value in np.asarray(values).tolist()]
