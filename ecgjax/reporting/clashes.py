"""What must not be compared: one cell run twice, other data under one name, other test records.

Clashing fingerprints are refused: only the user knows which run is meant. Single runs on other records are left out,
with the reason.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from ecgjax.errors import UserError
from ecgjax.evaluation.predictions import Predictions
from ecgjax.reporting.rows import Entry
from ecgjax.training.run_directory import FREE_FIELDS

_HINT = "leave one out (config.exclude) or show its model under another name (config.rename)"
# What a fingerprint says better, what does not change predictions, and what the report does anew.
_UNCOMPARED = {*FREE_FIELDS, "seed", "weights", "interval", "save_crops", "task", "job"}
_UNCOMPARED_OF_DATA = {"store", "placement", "labels"}


def without_copies(entries: Sequence[Entry]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Entries without second copies of the same run, and (key, reason) of those."""
    first: dict[Hashable, Entry] = {}
    left, copies = [], {}
    for entry in sorted(entries, key=lambda entry: entry.key):
        config = json.dumps(_flat(entry.run["config"]) if entry.run else None, sort_keys=True)
        same = (*_cell(entry), entry.row["seeds"][0], entry.row["weights"], entry.row["cells"][0], config)
        if same in first and first[same].key != entry.key:
            copies[entry.key] = f"the same predictions as {first[same].key}"
        else:
            first[same] = entry
            left.append(entry)
    return left, list(copies.items())


def refuse_clashes(entries: Sequence[Entry], *, weights_by_seed: bool = False) -> None:
    """Refuses runs of one cell that are not one experiment, and comparisons over different data.

    Args:
        entries: all rows.
        weights_by_seed: each seed of a cell may have weights of its own.

    Raises:
        UserError: naming two runs, and how many more there are.
    """
    found: dict[frozenset[str], str] = {}
    for group in _groups(entries, _cell):
        for other in group[1:]:
            problem = _one_cell(group[0], other, weights_by_seed) or _same_seed(group, other)
            if problem:
                found.setdefault(frozenset((group[0].key, other.key)), problem)
    for group in _groups(entries, lambda e: (e.row["task"], e.row["protocol"], e.row["metric"])):
        for other in group[1:]:
            problem = _one_data_set(group[0], other)
            if problem:
                found.setdefault(frozenset((group[0].key, other.key)), problem)
    if found:
        problems = list(found.values())
        more = f" ({len(problems) - 1} more such pairs)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}; {_HINT}{more}")


def without_other_records(entries: Sequence[Entry]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Entries on the test records that most runs of a task have, and (key, reason) of the others."""
    left: list[Entry] = []
    tasks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group in _groups(entries, lambda e: (e.row["task"], e.row["protocol"], e.row["metric"])):
        populations = [entry.row["population"] for entry in group]
        # The first of the most frequent: ties go to the run whose name comes first.
        usual = max(dict.fromkeys(populations), key=populations.count)
        example = group[populations.index(usual)]
        left += [entry for entry in group if entry.row["population"] == usual]
        for entry in group:
            if entry.row["population"] != usual:
                tasks[entry.key, _describe(entry, example)].append(entry.row["task"])
    reasons = [(key, f"task {', '.join(dict.fromkeys(names))}: {why}") for (key, why), names in tasks.items()]
    return left, reasons


def _cell(entry: Entry) -> tuple[str, ...]:
    return tuple(entry.row[key] for key in ("model", "task", "mode", "protocol", "metric"))


def _groups(entries: Iterable[Entry], key: Any) -> list[list[Entry]]:
    groups: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.key):
        groups[key(entry)].append(entry)
    return list(groups.values())


def _one_cell(a: Entry, b: Entry, weights_by_seed: bool) -> str | None:
    same = f"{a.key} and {b.key} are both {a.row['model']}, task {a.row['task']}, mode {a.row['mode']}"
    own = weights_by_seed and a.row["seeds"] != b.row["seeds"] and None not in (a.row["weights"], b.row["weights"])
    if a.row["weights"] != b.row["weights"] and not own:
        return f"{same}, but with different weights ({_short(a.row['weights'])} and {_short(b.row['weights'])})"
    configs = [_flat(entry.run["config"]) if entry.run else {} for entry in (a, b)]
    # A field that only one has is of another version of ecgjax.
    changed = [key for key in configs[0] if key in configs[1] and configs[0][key] != configs[1][key]]
    if not changed:
        return None
    fields = ", ".join(f"{key} {configs[0][key]} and {configs[1][key]}" for key in changed[:3])
    return f"{same}, but with different configs ({fields})"


def _same_seed(group: Sequence[Entry], other: Entry) -> str | None:
    for entry in group[: group.index(other)]:
        if entry.row["seeds"] == other.row["seeds"]:
            row = other.row
            return (
                f"{entry.key} and {other.key} are both {row['model']}, task {row['task']}, mode {row['mode']}, seed "
                f"{row['seeds'][0]}, but with different predictions"
            )
    return None


def _one_data_set(a: Entry, b: Entry) -> str | None:
    first, second = a.row["data"], b.row["data"]
    for key, what in (("fingerprint", "data"), ("label_set", "label sets")):
        if first[key] != second[key]:
            return (
                f"{a.key} and {b.key} are both task {a.row['task']}, but on different {what} "
                f"({_short(first[key])} and {_short(second[key])})"
            )
    if a.row["absent"] != b.row["absent"]:
        return f"{a.key} and {b.key} count undefined classes differently ({a.row['absent']} and {b.row['absent']})"
    return None


def _describe(entry: Entry, usual: Entry) -> str:
    """How the test set of a run differs from the usual one."""
    if entry.cell is None or usual.cell is None:
        return f"other test records, labels or targets than {usual.key}"
    here, there = entry.cell.predictions(), usual.cell.predictions()
    for what, own, other in (
        ("record", here.record_id.tolist(), there.record_id.tolist()),
        ("label", list(entry.row["labels"]), list(usual.row["labels"])),
    ):
        lacking, further = sorted(set(other) - set(own)), sorted(set(own) - set(other))
        if lacking or further:
            parts = [f"lacks {len(lacking):,} {what}s of {usual.key} (first: {lacking[0]})"] if lacking else []
            parts += [f"has {len(further):,} {what}s that {usual.key} lacks (first: {further[0]})"] if further else []
            return " and ".join(parts)
    return _differing_target(here, there, list(entry.row["labels"]), usual.key)


def _differing_target(here: Predictions, there: Predictions, labels: list[str], key: str) -> str:
    own, other = _sorted_targets(here, labels), _sorted_targets(there, labels)
    differing = (own != other) & ~(np.isnan(own) & np.isnan(other))
    if not differing.any():
        return f"other patients than {key}"
    i, j = np.argwhere(differing)[0]
    where = f"record {sorted(here.record_id)[i]}, label {labels[j]}"
    return (
        f"{np.count_nonzero(differing):,} targets differ from those of {key} ({where}: {own[i, j]:g}, {other[i, j]:g})"
    )


def _sorted_targets(found: Predictions, labels: list[str]) -> Any:
    columns = [found.labels.index(label) for label in labels]
    return found.targets[np.argsort(found.record_id, kind="stable")][:, columns]


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(config, dict):
        return {prefix: json.dumps(config)}
    skipped = {"": _UNCOMPARED, "data": _UNCOMPARED_OF_DATA}.get(prefix, set())
    return {
        name: leaf
        for key, item in config.items()
        if key not in skipped
        for name, leaf in _flat(item, f"{prefix}.{key}".lstrip(".")).items()
    }


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else str(fingerprint)[:12]
