"""Calibration of one label's probabilities in numbers, with bootstrap intervals.

    ece        expected calibration error: mean over bins of |mean probability - share of positives|, each bin weighted
               by its records; bins of equally many records of the data, as `ecgjax.evaluation.curves` draws them, the
               same in every resample
    brier      mean squared difference of probability and outcome
    intercept  calibration in the large: the constant that a logistic regression adds to the logit; 0 if events are as
               frequent as predicted, below 0 if they are predicted too often
    slope      of a logistic regression on the logit; 1 is calibrated, below 1 is overconfident

(Van Calster et al. 2019, BMC Medicine 17:230). Chance alone makes an ECE positive, and more so in a resample, so its
interval lies too high: it says how precise the figure is, and not whether the model could be calibrated.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

BINS = 10
NAMES = ("ece", "brier", "intercept", "slope")

_EDGE = 1e-6  # probabilities are kept this far from 0 and 1: a logit must be finite
_STEPS = 30
_CELLS_AT_ONCE = 2**22

Floats = NDArray[np.float64]


def numbers(target: NDArray, score: NDArray, counts: NDArray, level: float) -> dict[str, dict[str, float | None]]:
    """The figures of a label.

    Args:
        target: (records,) of 0, 1, or NaN where unknown.
        score: (records,) probabilities.
        counts: (replicates, records) how often a resample holds a record.
        level: nominal coverage of the percentile intervals.

    Returns:
        By `NAMES`: "value", "low", "high"; None where undefined, as the slope of a label that the score separates.
    """
    known = ~np.isnan(target)
    y, p = np.asarray(target[known], np.float64), np.asarray(score[known], np.float64)
    weights = np.concatenate([np.ones((1, len(y))), counts[:, known]])
    at_once = max(1, _CELLS_AT_ONCE // max(len(y), 1))
    parts = [_weighted(y, p, weights[i : i + at_once].astype(np.float64)) for i in range(0, len(weights), at_once)]
    tail = 50 * (1 - level)
    found: dict[str, dict[str, float | None]] = {}
    for name, (value, *samples) in zip(NAMES, np.concatenate(parts).T, strict=True):
        defined = np.array(samples)[~np.isnan(samples)]
        low, high = np.percentile(defined, [tail, 100 - tail]) if len(defined) else (np.nan, np.nan)
        limits: dict[str, Any] = {"value": value, "low": low, "high": high}
        found[name] = {key: None if number != number else float(number) for key, number in limits.items()}
    return found


def _weighted(y: Floats, p: Floats, w: Floats) -> Floats:
    """(resamples, names)."""
    total = w.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        brier = w @ (p - y) ** 2 / total
        ece = np.zeros(len(w))
        for rows in np.array_split(np.argsort(p, kind="stable"), min(BINS, len(p))):
            ece += np.abs(w[:, rows] @ (p[rows] - y[rows])) / total
        x = logit(np.clip(p, _EDGE, 1 - _EDGE))
        intercept = _intercept(y, x, w)
        slope = _slope(y, x, w)
    both = (w @ y > 0) & (w @ (1 - y) > 0)
    undefined = np.where(both, 0, np.nan)
    return np.stack([ece, brier, intercept + undefined, slope + undefined], axis=1)


def _intercept(y: Floats, x: Floats, w: Floats) -> Floats:
    """Newton's method on one parameter; the logit is an offset."""
    a = np.zeros(len(w))
    step = np.full(len(w), np.inf)
    for _ in range(_STEPS):
        chance = expit(x[None] + a[:, None])
        step = (w * (y[None] - chance)).sum(axis=1) / (w * chance * (1 - chance)).sum(axis=1)
        a = a + np.clip(step, -2, 2)
        if np.nanmax(np.abs(step), initial=0) < 1e-10:
            break
    return np.where(np.abs(step) < 1e-6, a, np.nan)


def _slope(y: Floats, x: Floats, w: Floats) -> Floats:
    """Newton's method on constant and slope, from the calibrated model; NaN where it does not end (separated)."""
    a, b = np.zeros(len(w)), np.ones(len(w))
    step = np.full((2, len(w)), np.inf)
    for _ in range(_STEPS):
        chance = expit(a[:, None] + b[:, None] * x[None])
        residual, curvature = w * (y[None] - chance), w * chance * (1 - chance)
        g = np.stack([residual.sum(axis=1), residual @ x])
        h00, h01, h11 = curvature.sum(axis=1), curvature @ x, curvature @ x**2
        determinant = h00 * h11 - h01**2
        step = np.stack([h11 * g[0] - h01 * g[1], h00 * g[1] - h01 * g[0]]) / determinant
        a, b = a + np.clip(step[0], -3, 3), b + np.clip(step[1], -1, 1)
        if np.nanmax(np.abs(step), initial=0) < 1e-10:
            break
    return np.where((np.abs(step) < 1e-6).all(axis=0), b, np.nan)
