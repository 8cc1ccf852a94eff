"""`python -m ecgjax.reporting.published_page --out=DIR`: the paper's published table as figures and an HTML page.

A worked example of the report on numbers that are not ecgjax's own (arXiv 2509.25095). The paper publishes values and
intervals but no paired differences, and whether two models differ significantly does not follow from their intervals:
ranks are therefore by value alone, and there are no critical-difference diagrams.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ecgjax
from ecgjax import tasks
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation.published import published
from ecgjax.evaluation.ranks import aggregate
from ecgjax.main import fail
from ecgjax.reporting import schema, unseen
from ecgjax.reporting.page import write_page
from ecgjax.reporting.report_figures import write_figures
from ecgjax.seen import saw

TITLE = "Published numbers of the ECG foundation-model benchmark"
_NOTES = (
    "These are the numbers published with arXiv 2509.25095, not results of ecgjax.",
    "Ranks are by value alone. Which models differ significantly cannot be told from published intervals: that needs "
    "paired differences on the same resamples, which were not published.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry point; exits with 2 and one line on stderr if the folder cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m ecgjax.reporting.published_page", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for index.html and figures")
    out = parser.parse_args(argv).out
    try:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        report = published_report()
        write_page(report, write_figures(report, out / "figures"), out / "index.html")
    except UserError as error:
        fail(error)
    print(out / "index.html")


def published_report() -> dict[str, Any]:
    """The published cells in the form of a report; see `ecgjax.reporting.schema`."""
    rows = [_row(cell) for cell in published().to_dict("records")]
    modes = [mode for mode in schema.MODES if any(row["mode"] == mode for row in rows) and mode != schema.SCRATCH]
    pairs = [_pair(task, mode, rows) for task in dict.fromkeys(row["task"] for row in rows) for mode in modes]
    categories = dict.fromkeys(row["category"] for row in rows)
    report = {
        "format": schema.FORMAT,
        "kind": schema.KIND,
        "ecgjax": ecgjax.__version__,
        "title": TITLE,
        "mark": "published numbers",
        "sources": ["arXiv 2509.25095"],
        "settings": {
            "level": 0.95,
            "replicates": 1000,
            "kind": "percentile",
            "unit": "record",
            "seed": 0,
            "absent": {"paper": "half"},
            "multiplicity": "unknown",
            "rank_rule": "value",
            "numbering": "competition",
            "aggregation": "median",
        },
        "rows": rows,
        "pairs": pairs,
        "ranks": [_ranks(category, mode, pairs) for category in categories for mode in modes],
        "runs": {},
        **{key: [] for key in ("label_efficiency", "similarity", "probes", "curves", "excluded")},
        "paper": None,
        "notes": list(_NOTES),
    }
    unseen.add(report)
    return report


def _row(cell: Mapping[Any, Any]) -> dict[str, Any]:
    task = tasks.TASKS[cell["task"]]
    run, _ = tasks.get(task.name)
    scratch = cell["mode"] == schema.SCRATCH
    return {
        **{key: cell[key] for key in ("task", "row", "model", "mode", "metric", "value", "low", "high", "flag")},
        "category": task.category,
        "protocol": "paper",
        "absent": "half",
        "role": "single",
        "seeds": [],
        "spread": None,
        "delong": None,
        "comparison": None,
        "rank": None,
        "best": False,
        "tied": False,
        "ranks": {},
        "records": 0,
        "patients": None,
        "classes": 0,
        "defined": 0,
        "undefined": [],
        "seconds": {},
        "device": None,
        "parameters": {},
        "weights": None if scratch else "as released",
        "arguments": {},
        "data": {"source": run.source, "fingerprint": None, "label_set": run.label_set, "synthetic": False},
        "seen": saw(cell["model"], run.source, None if scratch else ""),
        "run": None,
        "runs": [],
        "population": "",
        "cells": [],
        "labels": {},
    }


def _pair(task: str, mode: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = [i for i, row in enumerate(rows) if row["task"] == task and row["mode"] in (mode, schema.SCRATCH)]
    higher = schema.HIGHER_IS_BETTER[rows[chosen[0]]["metric"]]
    value = np.array([rows[i]["value"] for i in chosen])
    goodness = value if higher else -value
    rank = [1 + int(np.sum(goodness > own)) for own in goodness]
    for i, own in zip(chosen, rank, strict=True):
        about = {"rank": float(own), "best": own == 1, "tied": rank.count(own) > 1}
        rows[i]["ranks"][mode] = about
        if rows[i]["comparison"] is None:
            rows[i].update(comparison=mode, **about)
    unknown = [[None] * len(chosen) for _ in chosen]
    return {
        **{key: rows[chosen[0]][key] for key in ("task", "row", "category", "protocol", "metric")},
        "mode": mode,
        "higher_is_better": higher,
        "models": [rows[i]["model"] for i in chosen],
        "rows": chosen,
        "rank": [float(own) for own in rank],
        "difference": unknown,
        **dict.fromkeys(("low", "high", "p"), unknown),
        **dict.fromkeys(("adjusted", "significant", "delong_se", "delong_p")),
    }


def _ranks(category: str, mode: str, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = [pair for pair in pairs if pair["category"] == category and pair["mode"] == mode]
    rank, mean = aggregate([pair["rank"] for pair in chosen])
    return {
        "category": category,
        "mode": mode,
        "protocol": "paper",
        "models": chosen[0]["models"],
        "tasks": [pair["task"] for pair in chosen],
        "rank": rank.tolist(),
        "mean": mean.tolist(),
    }


if __name__ == "__main__":
    main()
