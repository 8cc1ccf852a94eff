"""The paper's published values (arXiv 2509.25095), and how results compare with them.

reporting/published_results.csv holds all 728 cells with their 95 % limits, from the results table of the paper's
repository, and marks 56 that are not to be taken at face value (protocol.md, section 7).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from ecgjax import tasks

CELL = ["row", "mode", "model", "metric"]


@cache
def published() -> pd.DataFrame:
    """The published cells: task (name here), row (name in the paper), mode, model, metric, value, low, high, flag.

    Metrics are "auroc" (macro average, undefined classes 0.5) and "mae" (pooled, standardised targets); `flag` says
    why a cell is suspicious and is empty for the others.
    """
    file = resources.files("ecgjax.reporting") / "published_results.csv"
    with file.open(encoding="utf-8") as text:
        table = pd.read_csv(text, keep_default_na=False)
    names = {task.row: task.name for task in tasks.TASKS.values() if task.row}
    table.insert(0, "task", table["row"].map(names))
    return table


def compare_paper(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Every cell beside the published one.

    Args:
        rows: results with "row", "mode", "model", "metric", "value", "low", "high" and "protocol"; those of tasks,
            models, modes or data outside the paper are left out.

    Returns:
        One row per result that the paper has too: task, row, mode, model, metric, protocol; value, low, high;
        published, published_low, published_high; difference (ours minus theirs), overlap (whether the intervals do),
        flag.
    """
    keys = [*CELL, "protocol", "value", "low", "high"]
    ours = pd.DataFrame([{key: row[key] for key in keys} for row in rows], columns=keys)
    theirs = published().rename(columns={name: f"published_{name}" for name in ("low", "high")})
    both = ours.merge(theirs.rename(columns={"value": "published"}), on=CELL, how="inner")
    both["difference"] = both["value"] - both["published"]
    both["overlap"] = (both["low"] <= both["published_high"]) & (both["high"] >= both["published_low"])
    columns = ["task", *CELL, "protocol", "value", "low", "high", "published", "published_low", "published_high"]
    return both[[*columns, "difference", "overlap", "flag"]]


def summary(compared: pd.DataFrame, close: float = 0.01) -> dict[str, int]:
    """Counts over compared cells.

    Args:
        compared: from `compare_paper`.
        close: largest difference that counts as close.

    Returns:
        "cells", "overlap" (intervals), "close" (values), "flagged", and "unflagged_apart": cells without a flag whose
        intervals do not overlap.
    """
    flagged = compared["flag"] != ""
    return {
        "cells": len(compared),
        "overlap": int(compared["overlap"].sum()),
        "close": int((compared["difference"].abs() <= close).sum()),
        "flagged": int(flagged.sum()),
        "unflagged_apart": int((~flagged & ~compared["overlap"]).sum()),
    }
