"""Class lists from lists of labels per record: counted, filtered, ordered (datasets.md, section 1.3)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from ecgjax.data.preparation.source import LabelSet


def vocabulary(
    lists: Iterable[Sequence[str]], min_count: int = 1, order: Literal["name", "count"] = "name"
) -> tuple[str, ...]:
    """Labels that occur at least `min_count` times, repeats within a record counted.

    Args:
        lists: labels of each record.
        min_count: occurrences that a class needs.
        order: "name" sorts as strings; "count" by descending count, equal counts by name.
    """
    counts = Counter(label for labels in lists for label in labels)
    kept = sorted(label for label, count in counts.items() if count >= min_count)
    if order == "count":
        kept.sort(key=lambda label: -counts[label])
    return tuple(kept)


def multi_hot(lists: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """(records, classes) float32: 1 where a record has the label. Labels outside `classes` are ignored."""
    number = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(lists), len(classes)), np.float32)
    for row, labels in enumerate(lists):
        for label in labels:
            if label in number:
                targets[row, number[label]] = 1.0
    return targets


def label_set(lists: Sequence[Sequence[str]], classes: Sequence[str]) -> LabelSet:
    """A label set of classification targets."""
    return tuple(classes), multi_hot(lists, classes), ("classification",) * len(classes)
