"""The algebra of axes: which settings a sweep runs through.

Axes are a tuple of points; a point maps fields of configs/evaluate.py (dotted, such as "data.ratio") to values.

    product(axis("model", ["s4", "net1d"]), axis("seed", range(3)))     every combination, the last axis fastest
    chain(a, b)                                                         the points of a, then those of b
    zipped(axis("model", ...), axis("learning_rate", ...))              first with first, second with second
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ecgjax.errors import UserError

Point = dict[str, Any]
Axes = tuple[Point, ...]


def axis(field: str, values: Iterable[Any]) -> Axes:
    """One field with several values."""
    return tuple({field: value} for value in values)


def fixed(point: Mapping[str, Any]) -> Axes:
    """A single point: fields that stay as they are."""
    return (dict(point),)


def product(*axes: Iterable[Point]) -> Axes:
    """Every combination of a point of each; the last one varies fastest. Of nothing: one empty point.

    Raises:
        UserError: two of them set the same field.
    """
    return tuple(_merged(points) for points in itertools.product(*map(tuple, axes)))


def chain(*axes: Iterable[Point]) -> Axes:
    """All points of each, one after the other."""
    return tuple(dict(point) for points in axes for point in points)


def zipped(*axes: Iterable[Point]) -> Axes:
    """The first points of all together, then the second ones, and so on.

    Raises:
        UserError: their lengths differ, or two of them set the same field.
    """
    listed = [tuple(points) for points in axes]
    if len({len(points) for points in listed}) > 1:
        raise UserError(
            f"axes of {', '.join(str(len(points)) for points in listed)} points are zipped; expected equal lengths"
        )
    return tuple(_merged(points) for points in zip(*listed, strict=True))


def _merged(points: Iterable[Point]) -> Point:
    merged: Point = {}
    for point in points:
        for field, value in point.items():
            if field in merged:
                raise UserError(f"axes: field {field!r} is set twice ({merged[field]!r} and {value!r}); expected once")
            merged[field] = value
    return merged
