"""What a reader of a report must know, in sentences."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.reporting.rows import Entry, grouped
from ecgjax.reporting.schema import SCRATCH


def of(entries: Sequence[Entry], pairs: Sequence[Mapping[str, Any]], settings: Bootstrap) -> list[str]:
    """Sentences about the rows, the comparisons and the runs behind them.

    Args:
        entries: all rows.
        pairs: comparisons, with matrices as arrays.
        settings: of the intervals.
    """
    rows = [entry.row for entry in entries]
    notes = []
    synthetic = sorted({row["task"] for row in rows if row["data"]["synthetic"]})
    if synthetic:
        notes.append(f"Synthetic data, not real patients: {', '.join(synthetic)}.")
    seeded = sum(row["role"] == "mean" for row in rows)
    if seeded:
        notes.append(
            f"Cells that were run with several seeds ({seeded}) are compared by their mean over the seeds; its "
            "interval is over test records, not over seeds, whose values stand beside it."
        )
    notes += _notes_on_labels(rows) + _notes_on_weights(rows) + _notes_on_runs(entries) + _check(pairs, settings)
    return notes


def _notes_on_labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    for group in grouped(rows, lambda row: (row["task"], row["metric"], row["protocol"])):
        row = group[0]
        if row["undefined"]:
            names = ", ".join(row["undefined"][:5]) + (", ..." if len(row["undefined"]) > 5 else "")
            effect = "count 0.5 in" if row["absent"] == "half" and row["metric"] == "auroc" else "are left out of"
            notes.append(
                f"{row['task']}: {len(row['undefined'])} of {row['classes']} labels have no value among the test "
                f"records ({names}) and {effect} the average."
            )
    return notes


def _notes_on_weights(rows: Sequence[dict[str, Any]]) -> list[str]:
    notes, by_seed = [], []
    for group in grouped([row for row in rows if row["mode"] != SCRATCH], lambda row: row["model"]):
        weights = list(dict.fromkeys(row["weights"] for row in group))
        of_seeds = {(*row["seeds"], row["weights"]) for row in group if row["role"] != "mean"}
        if len(weights) > 1 and len(of_seeds) == len({seed for seed, _ in of_seeds}):
            by_seed.append(group[0]["model"])
        elif len(weights) > 1:
            names = ", ".join("random initialisation" if name is None else name[:12] for name in weights)
            notes.append(f"{group[0]['model']} was run with different weights in different cells ({names}).")
        elif weights == [None]:
            notes.append(f"{group[0]['model']} has no pretrained weights here: random initialisation.")
    if by_seed:
        notes.insert(0, f"Each seed has weights of its own: {', '.join(by_seed)}.")
    return notes


def _notes_on_runs(entries: Sequence[Entry]) -> list[str]:
    notes = []
    runs = {entry.key: entry.run for entry in entries if entry.run is not None}
    broken = [key for key, run in runs.items() if run.get("non_finite_windows")]
    if broken:
        notes.append(
            f"{len(broken)} runs have test windows with outputs that are not finite, counted as 0 or the largest "
            f"number: {_some(broken)}."
        )
    versions = sorted({str(run["environment"].get("versions", {}).get("ecgjax")) for run in runs.values()})
    if len(versions) > 1:
        notes.append(f"The runs were made by different versions of ecgjax: {', '.join(versions)}.")
    by_file: dict[str, dict[str, None]] = defaultdict(dict)
    for entry in entries:
        if entry.row["role"] != "mean":
            by_file[entry.row["cells"][0]][entry.key] = None
    for keys in by_file.values():
        if len(keys) > 1:
            notes.append(f"Different cells with the very same predictions: {_some(list(keys))}.")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _check(pairs: Sequence[Mapping[str, Any]], settings: Bootstrap) -> list[str]:
    """How often DeLong's closed form and the bootstrap agree on which models differ; neither is adjusted."""
    count = agreed = 0
    for pair in pairs:
        if pair["delong_p"] is not None:
            upper = np.triu_indices(len(pair["models"]), 1)
            low, high, p = (pair[key][upper] for key in ("low", "high", "delong_p"))
            count += len(p)
            agreed += int(np.sum(((low > 0) | (high < 0)) == (p < 1 - settings.level)))
    if not count:
        return []
    return [
        f"As a check, DeLong's closed form agrees with the bootstrap on whether two models differ at "
        f"{100 * settings.level:g} % (not adjusted) in {agreed:,} of {count:,} pairs."
    ]
