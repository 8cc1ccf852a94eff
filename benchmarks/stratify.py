"""Iterative stratification in time that grows with the labels, against the algorithm as it is written down.

    python -m benchmarks.stratify [--output=FILE]

Records have 1 to 4 of 71 labels of very different frequency, as PTB-XL's do, and go to 10 folds. The plain
implementation follows the published text: every label has a list of the records that hold it, and a record that was
placed is taken out of all lists, so that its time grows with the square of the number of records. Up to 30,000 records
both run in turn on the same labels and must give the same folds; 100,000 are ecgjax alone. Processor time, medians of
three rounds (the plain one runs once).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.timing import save
from ecgjax.data.stratify import stratify

CLASSES, FOLDS = 71, 10
BOTH, ALONE = (3_000, 10_000, 30_000), (100_000,)
ROUNDS = 3


def plain(labels: Sequence[Sequence[int]], classes: Sequence[int], ratios: Sequence[float]) -> list[list[int]]:
    """The algorithm step by step, for records (groups of one) and seed 0."""
    random = np.random.RandomState(0)
    holders = {label: [i for i, own in enumerate(labels) for other in own if other == label] for label in classes}
    desired_size = [ratio * len(labels) for ratio in ratios]
    desired = {label: [ratio * len(holders[label]) for ratio in ratios] for label in classes}
    subsets: list[list[int]] = [[] for _ in ratios]
    for _ in classes:
        left = [label for label in classes if holders[label]]
        if not left:
            break
        label = min(left, key=lambda one: len(holders[one]))
        records, counts = np.unique(holders[label], return_counts=True)
        for record in records[np.argsort(counts, kind="stable")[::-1]].tolist():
            tied = [k for k in range(len(ratios)) if desired[label][k] == max(desired[label])]
            if len(tied) > 1:
                largest = max(desired_size[k] for k in tied)
                tied = [k for k in tied if desired_size[k] == largest]
                chosen = tied[random.choice(len(tied))]
            else:
                chosen = tied[0]
            subsets[chosen].append(record)
            desired_size[chosen] -= 1
            for other in labels[record]:
                desired[other][chosen] -= 1
            holders = {other: [i for i in own if i != record] for other, own in holders.items()}
    return [sorted(subset) for subset in subsets]


def made_up(records: int) -> list[list[int]]:
    """Labels of each record: the k-th label is as frequent as 1 / k, in a shuffled order."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, CLASSES + 1)
    drawn = rng.choice(rng.permutation(CLASSES), size=(records, 4), p=frequency / frequency.sum()).tolist()
    return [list(dict.fromkeys(row[:n])) for row, n in zip(drawn, rng.integers(1, 5, records).tolist(), strict=True)]


def timed(function: Callable[[], list[list[int]]], rounds: int) -> tuple[float, list[list[int]]]:
    """Seconds of the process on the CPU, the median of the rounds, and the result."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        found = function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), found


def measure(records: int, *, both: bool) -> dict[str, float | int | None]:
    """One row of the table."""
    labels, classes, ratios = made_up(records), range(CLASSES), [1 / FOLDS] * FOLDS
    seconds, found = timed(lambda: stratify(labels, classes, ratios), ROUNDS)
    row: dict[str, float | int | None] = {
        "records": records,
        "labels": sum(map(len, labels)),
        "ecgjax_seconds": seconds,
        "microseconds_per_label": 1e6 * seconds / sum(map(len, labels)),
        "plain_seconds": None,
        "ratio": None,
    }
    if both:
        plain_seconds, expected = timed(lambda: plain(labels, classes, ratios), 1)
        if found != expected:
            raise AssertionError(f"{records} records: the two implementations give different folds")
        row |= {"plain_seconds": plain_seconds, "ratio": plain_seconds / seconds}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="iterative stratification against the algorithm as written down")
    parser.add_argument("--output", type=Path, help="JSON")
    output = parser.parse_args().output
    rows = [measure(records, both=records in BOTH) for records in (*BOTH, *ALONE)]
    print(f"{'records':>9} {'labels':>9} {'ecgjax s':>9} {'us/label':>9} {'plain s':>9} {'ratio':>8}")
    for row in rows:
        plain_columns = f"{row['plain_seconds']:9.2f} {row['ratio']:7.0f}x" if row["ratio"] else f"{'-':>9} {'-':>8}"
        print(
            f"{row['records']:9,} {row['labels']:9,} {row['ecgjax_seconds']:9.3f} {row['microseconds_per_label']:9.2f} "
            + plain_columns
        )
    ratios = {
        f"stratifying {row['records']:,} records: the plain algorithm's time / ecgjax's": {
            "cpu": {"median": row["ratio"]}
        }
        for row in rows
        if row["ratio"]
    }
    save(output, "stratify", {"rows": rows, "ratios": ratios})


if __name__ == "__main__":
    main()
