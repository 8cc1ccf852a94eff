"""Ranks that respect significance: models that do not differ significantly share a rank (protocol.md, section 4.5)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation.metrics import check_choice

Rule = Literal["groups", "wins"]
Numbering = Literal["dense", "competition"]
Aggregation = Literal["median", "mean"]


def ranks(
    value: ArrayLike,
    significant: ArrayLike,
    *,
    higher_is_better: bool,
    rule: Rule = "groups",
    numbering: Numbering = "dense",
) -> NDArray[np.float64]:
    """Ranks of models on one task, 1 is best.

    Args:
        value: (models,) point values; NaN is not ranked.
        significant: (models, models) whether two models differ significantly.
        higher_is_better: False for errors.
        rule: "groups": the best model left opens a group, and every model left that is not significantly worse than it
            joins. "wins": 1 + the number of models that are significantly better.
        numbering: of groups: "dense" (1, 2, 3), or "competition" (a group's rank is 1 + the number of models before
            it). Wins are counts already.

    Returns:
        (models,) ranks, NaN for a NaN value.

    Raises:
        UserError: shapes that do not fit, a matrix that is not symmetric, an unknown rule.
    """
    check_choice("rank rule", rule, ("groups", "wins"))
    check_choice("rank numbering", numbering, ("dense", "competition"))
    values, differ = np.asarray(value, np.float64), np.asarray(significant, bool)
    if values.ndim != 1 or differ.shape != (len(values), len(values)):
        raise UserError(f"{values.shape} values and significance of shape {differ.shape}; expected (n,) and (n, n)")
    if (differ != differ.T).any():
        raise UserError("significance is not symmetric; expected the same for a - b and b - a")
    goodness = values if higher_is_better else -values
    result = np.full(len(values), np.nan)
    ranked = ~np.isnan(values)
    if rule == "wins":
        better = differ & (goodness[:, None] > goodness[None, :])
        result[ranked] = 1 + np.count_nonzero(better[:, ranked], axis=0)
        return result
    # Stable: models of equal value keep their order, and whoever opens the group has no influence on the others.
    left = [int(i) for i in np.argsort(-goodness, kind="stable") if ranked[i]]
    rank, before = 1, 0
    while left:
        group = [i for i in left if i == left[0] or not differ[left[0], i]]
        result[group] = rank if numbering == "dense" else before + 1
        rank, before = rank + 1, before + len(group)
        left = [i for i in left if i not in group]
    return result


def aggregate(by_task: Sequence[ArrayLike], how: Aggregation = "median") -> tuple[NDArray, NDArray]:
    """Ranks of a category from the ranks on its tasks.

    Args:
        by_task: (models,) ranks of each task, NaN where a model has no result.
        how: "median", the mean breaking ties for display; or "mean".

    Returns:
        The aggregated ranks and the mean ranks, (models,) each; NaN for a model without a result in every task, since
        ranks over different tasks do not compare.

    Raises:
        UserError: no task, or an unknown rule.
    """
    check_choice("rank aggregation", how, ("median", "mean"))
    table = np.array([np.asarray(task, np.float64) for task in by_task])
    if table.ndim != 2 or not len(table):
        raise UserError("no task to aggregate ranks over; expected at least one, with ranks for the same models")
    mean = table.mean(axis=0)
    return (np.median(table, axis=0) if how == "median" else mean), mean
