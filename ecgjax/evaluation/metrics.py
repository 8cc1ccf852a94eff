"""Exact metrics: area under the ROC curve and mean absolute error, with unknown (NaN) targets left out.

Difference from the benchmark's reference code: a class without positives or without negatives stays undefined (NaN)
and is skipped by `macro_auroc` unless `absent="half"` asks for the reference's rule, which counts it as 0.5.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError

Absent = Literal["skip", "half"]
"""What an undefined class does to a macro average: not counted, or counted as 0.5 (the paper)."""

_CLASSES_PER_BLOCK = 64  # columns copied to rows at a time: strided reads of one column at a time miss every cache line


def auroc(targets: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Area under the ROC curve of each class, ties counted half; exact in float64.

    Args:
        targets: (records, classes) of 0, 1 or NaN; a NaN drops that record from that class.
        scores: (records, classes); higher means more likely positive.

    Returns:
        (classes,) float64; NaN for a class without positives or without negatives.

    Raises:
        UserError: shapes differ or are not two-dimensional, a score is NaN, a target is not 0, 1 or NaN.
    """
    targets, scores = check_classification(targets, scores)
    result = np.empty(targets.shape[1])
    for start in range(0, len(result), _CLASSES_PER_BLOCK):
        block = slice(start, start + _CLASSES_PER_BLOCK)
        rows = zip(np.ascontiguousarray(targets[:, block].T), np.ascontiguousarray(scores[:, block].T), strict=True)
        result[block] = [_auroc_one_class(target, score) for target, score in rows]
    return result


def macro_auroc(targets: ArrayLike, scores: ArrayLike, absent: Absent = "skip") -> float:
    """Mean of the classes' areas under the ROC curve.

    Args:
        targets: as for `auroc`.
        scores: as for `auroc`.
        absent: "skip" averages the defined classes (NaN if there are none); "half" counts an undefined class as 0.5.

    Returns:
        The macro average.
    """
    return float(macro_average(auroc(targets, scores), absent))


def macro_average(values: NDArray[np.float64], absent: Absent = "skip") -> NDArray[np.float64]:
    """Mean over the last axis by the `absent` rule of `macro_auroc`.

    Args:
        values: (..., classes), NaN where undefined.
        absent: as for `macro_auroc`.

    Returns:
        (...,) float64; NaN where "skip" leaves no class.
    """
    check_choice("absent", absent, ("skip", "half"))
    undefined = np.isnan(values)
    if absent == "half":
        return np.where(undefined, 0.5, values).mean(axis=-1)
    defined = np.count_nonzero(~undefined, axis=-1)
    total = np.where(undefined, 0.0, values).sum(axis=-1)
    return np.where(defined > 0, total / np.maximum(defined, 1), np.nan)


def mae(targets: ArrayLike, predictions: ArrayLike, pooled: bool = False) -> NDArray[np.float64]:
    """Mean absolute error over the known targets.

    Args:
        targets: (records, targets), NaN where unknown.
        predictions: (records, targets), in the targets' unit.
        pooled: one mean over all known entries (frequently measured targets weigh more) instead of one per target.

    Returns:
        (targets,) float64, or a float64 scalar if `pooled`; NaN where nothing is known.

    Raises:
        UserError: shapes differ or are not two-dimensional, or a prediction is not finite.
    """
    targets, predictions = check_regression(targets, predictions)
    known = ~np.isnan(targets)
    errors = np.where(known, np.abs(predictions.astype(np.float64) - targets.astype(np.float64)), 0.0)
    axis = None if pooled else 0
    count = np.count_nonzero(known, axis=axis)
    return np.where(count > 0, errors.sum(axis=axis) / np.maximum(count, 1), np.nan)[()]


def _auroc_one_class(target: NDArray, score: NDArray) -> float:
    positive, negative = score[target == 1], np.sort(score[target == 0])
    pairs = len(positive) * len(negative)
    if not pairs:
        return np.nan
    positive.sort()  # neighbouring searches then share cache lines
    below = np.searchsorted(negative, positive, "left").sum() + np.searchsorted(negative, positive, "right").sum()
    return float(below) / (2.0 * pairs)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises a `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{name} is {value!r}; expected one of {', '.join(choices)}")


def check_classification(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray]:
    """Both as arrays (records, classes), or a `UserError` that names what is wrong with them."""
    targets, scores = _matrices(targets, scores, "scores")
    _refuse_columns(np.isnan(scores), "scores", "class", "NaN", "a number for every record")
    _refuse_columns((targets != 0) & (targets != 1) & ~np.isnan(targets), "targets", "class", "a value", "0, 1 or NaN")
    return targets, scores


def check_regression(targets: ArrayLike, predictions: ArrayLike) -> tuple[NDArray, NDArray]:
    """Both as arrays (records, targets), or a `UserError` that names what is wrong with them."""
    targets, predictions = _matrices(targets, predictions, "predictions")
    _refuse_columns(~np.isfinite(predictions), "predictions", "target", "a non-finite value", "finite numbers")
    _refuse_columns(np.isinf(targets), "targets", "target", "an infinite value", "finite numbers or NaN")
    return targets, predictions


def _matrices(targets: ArrayLike, scores: ArrayLike, name: str) -> tuple[NDArray, NDArray]:
    arrays = []
    for label, value in (("targets", targets), (name, scores)):
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise UserError(f"{label} holds {array.dtype} values; expected numbers")
        if array.ndim != 2 or not array.size:
            raise UserError(f"{label} has shape {array.shape}; expected (records, classes) with at least one of each")
        arrays.append(array if array.dtype.kind == "f" else array.astype(np.float64))
    if arrays[0].shape != arrays[1].shape:
        raise UserError(f"targets has shape {arrays[0].shape} and {name} {arrays[1].shape}; expected the same shape")
    return arrays[0], arrays[1]


def _refuse_columns(bad: NDArray[np.bool_], label: str, column: str, found: str, expected: str) -> None:
    if bad.any():
        record, index = np.argwhere(bad)[0]
        raise UserError(f"{label} of {column} {index} hold {found} (first at record {record}); expected {expected}")
