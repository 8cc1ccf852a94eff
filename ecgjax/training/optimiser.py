"""AdamW with one learning rate per named group of parameters.

Groups are ordered (group, patterns) data, as in `ModelSpec.lr_groups`. An empty group is silent in torch and in
`optax.multi_transform` alike, and is how one published model came to be never fine-tuned: here it is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from ecgjax.errors import UserError
from ecgjax.training.schedules import Schedule

FROZEN = "frozen"
"""Name of the group of parameters that are not trained: no update, no decay, no moments; its rate is 0."""


Rate = float | jax.Array


class GroupRow(NamedTuple):
    """One line of the table of groups."""

    group: str
    tensors: int
    values: int
    rate: float


def parameter_paths(params: Any) -> Any:
    """The tree of `params` with each leaf's path, such as "encoder/encoder/conv_0/kernel"."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )


def rate_groups(
    params: Any, groups: Sequence[tuple[str, Sequence[str]]], rates: Mapping[str, float]
) -> tuple[Any, list[GroupRow]]:
    """Assigns every parameter to exactly one group.

    Args:
        params: tree of arrays (or of anything with a shape), e.g. {"encoder": ..., "head": ...}.
        groups: (group, patterns); a pattern is a regular expression matched from the start of a parameter's path.
        rates: learning rate of each group.

    Returns:
        A tree like `params` of group names, and the table of groups in order.

    Raises:
        UserError: groups and rates name different groups, a group is empty, or a parameter is in none or several.
    """
    names = [name for name, _ in groups]
    if sorted(names) != sorted(rates):
        raise UserError(f"rate groups {', '.join(names)} need one learning rate each; rates are for {', '.join(rates)}")
    paths = parameter_paths(params)
    members = {path: _groups_of(path, groups) for path in jax.tree.leaves(paths)}
    faults = [
        f"group {name!r} has no parameter" for name in names if not any(name in found for found in members.values())
    ]
    faults += [f"{path} is in no group" for path, found in members.items() if not found]
    faults += [
        f"{path} is in {len(found)} groups ({', '.join(found)})" for path, found in members.items() if len(found) > 1
    ]
    if faults:
        raise UserError(f"learning-rate groups must cover every parameter once: {'; '.join(faults)}")
    labels = jax.tree.map(lambda path: members[path][0], paths)
    sizes: dict[str, list[int]] = {name: [] for name in names}
    for label, leaf in zip(jax.tree.leaves(labels), jax.tree.leaves(params), strict=True):
        sizes[label].append(leaf.size)
    return labels, [GroupRow(name, len(sizes[name]), sum(sizes[name]), float(rates[name])) for name in names]


def adamw(
    labels: Any, rates: Mapping[str, Rate], weight_decay: Rate, schedule: Schedule | None = None
) -> optax.GradientTransformation:
    """AdamW (betas 0.9 and 0.999, eps 1e-8) with a rate per group; decay acts on every parameter (protocol 3.3).

    Args:
        labels: group name of each parameter, from `rate_groups`.
        rates: base learning rate of each group, also as traced scalars; the group `FROZEN` is left alone.
        weight_decay: decoupled: a parameter shrinks by rate x weight_decay per update.
        schedule: factor on every base rate as a function of the updates made; None is constant.
    """

    def rate(base: Rate) -> optax.ScalarOrSchedule:
        return base if schedule is None else lambda count: base * schedule(count)

    # Only the groups in use: multi_transform takes labels from the tree, and an unused one would be silent.
    used = set(jax.tree.leaves(labels))
    return optax.multi_transform(
        {
            name: optax.set_to_zero()
            if name == FROZEN
            else optax.adamw(rate(rates[name]), b1=0.9, b2=0.999, eps=1e-8, weight_decay=weight_decay)
            for name in sorted(used)
        },
        labels,
    )


def group_table(rows: Sequence[GroupRow]) -> str:
    """The groups as printable text: tensors, values and rate of each."""
    lines = [("group", "tensors", "values", "rate")]
    lines += [(row.group, f"{row.tensors:,}", f"{row.values:,}", f"{row.rate:g}") for row in rows]
    lines.append(("all", f"{sum(row.tensors for row in rows):,}", f"{sum(row.values for row in rows):,}", ""))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(line[c].rjust(widths[c]) for c in (1, 2, 3))]).rstrip() for line in lines
    )


def _groups_of(path: str, groups: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    return [name for name, patterns in groups if any(re.match(pattern, path) for pattern in patterns)]
