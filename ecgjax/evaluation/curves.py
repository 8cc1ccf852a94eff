"""ROC curve and calibration of one label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgjax.errors import UserError

MOST_POINTS = 400
"""Of a ROC curve that is drawn: more cannot be told apart."""


def roc(target: NDArray, score: NDArray) -> dict[str, list[float]]:
    """Corners of the ROC curve, thinned evenly if there are more than `MOST_POINTS`.

    Args:
        target: (records,) of 0 and 1, both of them present.
        score: (records,).

    Returns:
        "fpr" and "tpr", from 0 to 1.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # ties share one corner
    rates = []
    for positive in (0, 1):
        hits = np.cumsum(target[order] == positive)[last]
        rates.append(np.append(0.0, hits / hits[-1]))
    if len(last) >= MOST_POINTS:
        kept = np.unique(np.linspace(0, len(last), MOST_POINTS).round().astype(int))
        rates = [rate[kept] for rate in rates]
    return {"fpr": rates[0].tolist(), "tpr": rates[1].tolist()}


def calibration(target: NDArray, score: NDArray, bins: int = 10) -> dict[str, list[Any]]:
    """Share of positives against mean predicted probability, in bins of equally many records.

    Args:
        target: (records,) of 0 and 1.
        score: (records,) probabilities.
        bins: number of bins; fewer where there are fewer records.

    Returns:
        "predicted" (means), "observed", its 95 % limits "low" and "high" (Wilson's score interval), "count".
    """
    result: dict[str, list[Any]] = {key: [] for key in ("predicted", "observed", "low", "high", "count")}
    for rows in np.array_split(np.argsort(score, kind="stable"), min(bins, len(score))):
        count, share = len(rows), float(np.mean(target[rows]))
        low, high = _wilson(share, count)
        values = float(np.mean(score[rows], dtype=np.float64)), share, low, high, count
        for key, value in zip(result, values, strict=True):
            result[key].append(value)
    return result


def curve(name: str, target: NDArray, score: NDArray) -> dict[str, Any]:
    """Both of the records whose target is known, with their numbers.

    Raises:
        UserError: the label has no positive or no negative record.
    """
    known = ~np.isnan(target)
    target, score = target[known], score[known]
    positives = int(np.count_nonzero(target == 1))
    if not 0 < positives < len(target):
        raise UserError(
            f"config.curves: {name} has {positives} positives of {len(target)} records; expected both kinds"
        )
    return {
        "positives": positives,
        "known": len(target),
        "roc": roc(target, score),
        "calibration": calibration(target, score),
    }


def _wilson(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
