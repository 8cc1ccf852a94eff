"""Iterative stratification (Sechidis et al. 2011) of multi-label records, or of patients with their records."""

from collections.abc import Hashable, Sequence

import numpy as np

from ecgjax.errors import UserError


def stratify(
    labels: Sequence[Sequence[Hashable]],
    classes: Sequence[Hashable],
    ratios: Sequence[float],
    samples_per_group: Sequence[int] | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Splits groups into subsets so that every label is spread as the ratios ask, the rarest label first.

    The same subsets, tie for tie, as the greedy algorithm of the ECG foundation-model benchmark's data preparation,
    in time that grows with the number of label occurrences. NumPy's global random state is neither used nor touched.

    Args:
        labels: per group (a record, or a patient) all its labels, with repeats.
        classes: all labels that occur; their order breaks ties.
        ratios: share of each subset.
        samples_per_group: records per group; by default 1.
        seed: of the choice among equally good subsets.

    Returns:
        Sorted group numbers of each subset. Groups without labels are in none.

    Raises:
        UserError: a label that is not in `classes`, or arguments whose lengths differ.
    """
    weights = [1] * len(labels) if samples_per_group is None else list(samples_per_group)
    if len(weights) != len(labels):
        raise UserError(f"samples_per_group has {len(weights)} entries for {len(labels)} groups; expected one each")
    groups, holders = _index(labels, classes)
    remaining = [sum(count for _, count in holder) for holder in holders]
    # Float64, and one subtraction at a time: subsets are compared with ==, so rounding must be the original's.
    desired_size = [float(ratio) * sum(weights) for ratio in ratios]
    desired = [[float(ratio) * count for ratio in ratios] for count in remaining]
    subset_of = [-1] * len(labels)
    random = np.random.RandomState(seed)  # The original's generator.

    for _ in classes:
        label = min((i for i, count in enumerate(remaining) if count), key=remaining.__getitem__, default=None)
        if label is None:
            break
        # Most occurrences first, and among equals the highest number first.
        for group, _count in sorted(holders[label], key=lambda holder: (-holder[1], -holder[0])):
            if subset_of[group] >= 0:
                continue
            chosen = _choose(desired[label], desired_size, random)
            subset_of[group] = chosen
            desired_size[chosen] -= weights[group]
            for other in groups[group]:
                desired[other][chosen] -= 1.0
                remaining[other] -= 1
    subsets: list[list[int]] = [[] for _ in ratios]
    for group, chosen in enumerate(subset_of):
        if chosen >= 0:
            subsets[chosen].append(group)
    return subsets


def stratify_in_batches(
    labels: Sequence[Sequence[Hashable]],
    classes: Sequence[Hashable],
    ratios: Sequence[float],
    batch_size: int,
    samples_per_group: Sequence[int] | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """As `stratify`, on consecutive batches of about `batch_size` groups, each with the same seed.

    Some published folds (CODE-15%) were made in this way. There are `len(labels) // batch_size` batches, at least one,
    of equal size; the last one takes what is left.
    """
    n_batches = max(len(labels) // batch_size, 1)
    size = len(labels) // n_batches
    subsets: list[list[int]] = [[] for _ in ratios]
    for batch in range(n_batches):
        start, stop = batch * size, (batch + 1) * size if batch < n_batches - 1 else len(labels)
        weights = None if samples_per_group is None else samples_per_group[start:stop]
        for subset, chosen in zip(subsets, stratify(labels[start:stop], classes, ratios, weights, seed), strict=True):
            subset.extend(start + group for group in chosen)
    return subsets


def _index(
    labels: Sequence[Sequence[Hashable]], classes: Sequence[Hashable]
) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
    """Class numbers of each group, and (group, occurrences) of each class in the order of the groups."""
    number = {label: i for i, label in enumerate(classes)}
    if len(number) != len(classes):
        raise UserError("classes of a stratification must be unique")
    groups: list[list[int]] = []
    holders: list[list[tuple[int, int]]] = [[] for _ in classes]
    for group, names in enumerate(labels):
        unknown = [name for name in names if name not in number]
        if unknown:
            raise UserError(f"label {unknown[0]!r} of group {group} is not among the classes to stratify")
        own = [number[name] for name in names]
        groups.append(own)
        for label in dict.fromkeys(own):
            holders[label].append((group, own.count(label)))
    return groups, holders


def _choose(desired: list[float], desired_size: list[float], random: np.random.RandomState) -> int:
    best = max(desired)
    tied = [subset for subset, value in enumerate(desired) if value == best]
    if len(tied) == 1:
        return tied[0]
    largest = max(desired_size[subset] for subset in tied)
    tied = [subset for subset in tied if desired_size[subset] == largest]
    return tied[int(random.choice(len(tied)))]
