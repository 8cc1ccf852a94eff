"""What a model that was trained in one place is worth in another, on the labels that both have.

Which terms count for (A, B), trained on A and tested on B: those that have at least `least` records with and as many
without them in A's training folds, in B's test fold, and in B's training folds if a model was trained there too. On the
same terms and test records stands the model that was trained on B; the drop is its value minus that of A's model,
bootstrapped as a paired difference. The common terms are those that count for all pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.evaluation import bootstrap


@dataclass(frozen=True)
class Counts:
    """How many records of some folds have a term and how many are known not to have it."""

    positive: Mapping[str, int]
    negative: Mapping[str, int]

    def enough(self, least: int) -> set[str]:
        """Terms with at least `least` of both."""
        return {term for term, count in self.positive.items() if min(count, self.negative[term]) >= least}


def count(terms: Sequence[str], targets: NDArray[np.float32], rows: NDArray[np.int64]) -> Counts:
    """Counts of some rows of (records, terms) targets."""
    chosen = targets[rows]
    return Counts(
        dict(zip(terms, (chosen == 1).sum(axis=0).tolist(), strict=True)),
        dict(zip(terms, (chosen == 0).sum(axis=0).tolist(), strict=True)),
    )


def shared_terms(
    trained: Mapping[str, Counts], tested: Mapping[str, Counts], least: int
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Terms that count for each pair (trained on, tested on), sorted.

    Args:
        trained: place -> counts of its training folds.
        tested: place -> counts of its test fold.
        least: records with a term, and without it, that it needs everywhere.
    """
    found = {}
    for a, own in trained.items():
        for b, there in tested.items():
            terms = own.enough(least) & there.enough(least)
            if b in trained:
                terms &= trained[b].enough(least)
            found[a, b] = tuple(sorted(terms))
    return found


def common_terms(shared: Mapping[tuple[str, str], Sequence[str]]) -> tuple[str, ...]:
    """Terms that count for all pairs, sorted."""
    sets = [set(terms) for terms in shared.values()]
    return tuple(sorted(set.intersection(*sets))) if sets else ()


def measure(
    targets: ArrayLike, scores: ArrayLike, reference: ArrayLike | None, terms: Sequence[str], **options: Any
) -> dict[str, Any]:
    """Macro AUROC and that of each term, with intervals, beside a model that was trained where the records are from.

    Args:
        targets: (records, terms), NaN where unknown.
        scores: (records, terms) of the model trained elsewhere.
        reference: of the model trained there; None if there is none.
        terms: names of the columns.
        **options: of `ecgjax.bootstrap.intervals`.

    Returns:
        value, low, high, defined (terms in the value), reference and drop (value, low, high each, or None), and labels:
        the same for each term, with known and positives.
    """
    known = np.asarray(targets)
    own = bootstrap.intervals(known, scores, **options)
    there = None if reference is None else bootstrap.intervals(known, reference, **options)
    drop = None if reference is None else bootstrap.differences(known, reference, scores, **options)

    def macro(found: bootstrap.Intervals | None) -> dict[str, float] | None:
        if found is None:
            return None
        return {"value": found.macro_value, "low": found.macro_low, "high": found.macro_high}

    def single(found: bootstrap.Intervals | None, i: int) -> dict[str, float] | None:
        if found is None:
            return None
        return {"value": float(found.value[i]), "low": float(found.low[i]), "high": float(found.high[i])}

    return {
        **(macro(own) or {}),
        "defined": int(np.count_nonzero(~np.isnan(own.value))),
        "reference": macro(there),
        "drop": macro(drop),
        "labels": {
            term: {
                **(single(own, i) or {}),
                "known": int(np.count_nonzero(~np.isnan(known[:, i]))),
                "positives": int(np.count_nonzero(known[:, i] == 1)),
                "reference": single(there, i),
                "drop": single(drop, i),
            }
            for i, term in enumerate(terms)
        },
    }
