"""From errors after training on shares of the data to fitted curves with bands, and to data needs with intervals.

The bands come from the same resamples of the test records for all models and shares: the curve is fitted anew to each
replicate. They say how much the finite test set moves the curve, and nothing of another draw of training records or
another random initialisation; several seeds show that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import limits, scaling
from ecgjax.evaluation.scaling import Curve

FULL = "full"
_BAND_POINTS = 50


@dataclass(frozen=True)
class Learner:
    """One model's errors and curves.

    Attributes:
        sizes: (shares,) training records.
        error: (shares,) on the test set.
        samples: (replicates, shares) on its resamples.
        curve: fitted to `error`.
        curves: (replicates,) fitted to `samples`.
    """

    sizes: NDArray[np.float64]
    error: NDArray[np.float64]
    samples: NDArray[np.float64]
    curve: Curve
    curves: Curve


def learners(
    measured: Mapping[str, tuple[ArrayLike, ArrayLike, NDArray[np.float64]]],
) -> dict[str, Learner]:
    """Fits all models' curves, on the replicates in which every error of every model is defined.

    Args:
        measured: model -> training records (shares,), errors (shares,), replicates of the errors (replicates, shares);
            replicates are of the same resamples.

    Raises:
        UserError: fewer than two replicates are defined, or fewer than three different sizes; the model is named.
    """
    usable = ~np.any([np.isnan(samples).any(axis=1) for _, _, samples in measured.values()], axis=0)
    if usable.sum() < 2:
        raise UserError(
            f"{int(usable.sum())} of {len(usable)} bootstrap replicates define every error; expected two or more "
            "(a larger test set)"
        )
    found = {}
    for name, (sizes, error, samples) in measured.items():
        kept = samples[usable]
        try:
            curve, curves = scaling.fit(sizes, error), scaling.fit(sizes, kept)
        except UserError as reason:
            raise UserError(f"model {name}: {reason}") from reason
        found[name] = Learner(np.asarray(sizes, float), np.asarray(error, float), kept, curve, curves)
    return found


def describe(
    name: str, models: Mapping[str, Learner], baseline: str, at: Sequence[float], level: float
) -> dict[str, Any]:
    """A model's entry in label_efficiency.json: "n", "value", "low", "high", "fit" and "ratio" (none for the baseline).

    Args:
        name: of the model.
        models: all of them.
        baseline: the model whose training records are counted.
        at: numbers N of them; all that it had are added.
        level: coverage of all limits.
    """
    learner, base = models[name], models[baseline]
    low, high = limits.percentile(learner.samples, level)
    grid = np.geomspace(learner.sizes.min(), learner.sizes.max(), _BAND_POINTS)
    below, above = limits.percentile(learner.curves.error(grid), level)
    parameters = {"C": "scale", "alpha": "alpha", "L0": "floor"}
    return {
        "n": learner.sizes,
        "value": learner.error,
        "low": low,
        "high": high,
        "fit": {
            **{key: float(getattr(learner.curve, field)) for key, field in parameters.items()},
            "limits": {
                key: np.percentile(getattr(learner.curves, field), [50 * (1 - level), 50 * (1 + level)])
                for key, field in parameters.items()
            },
            "rmse": float(np.sqrt(learner.curve.sse / len(learner.sizes))),
            "band": {"n": grid, "value": learner.curve.error(grid), "low": below, "high": above},
        },
        "ratio": {}
        if name == baseline
        else {
            key: _need(learner, base, n, level)
            for key, n in [*((f"{n:g}", float(n)) for n in at), (FULL, float(base.sizes.max()))]
        },
    }


def _need(learner: Learner, base: Learner, n: float, level: float) -> dict[str, Any]:
    """Share of the baseline's n records that a model needs for the baseline's error; see `scaling.ratio`."""
    r = float(scaling.ratio(learner.curve, base.curve, n))
    low, high, undefined = scaling.interval(scaling.ratio(learner.curves, base.curves, n), level)
    reached = not np.isnan(r)
    inside = _within(n, base.sizes) and reached and _within(r * n, learner.sizes)
    return {
        "n": n,
        "r": r,
        "low": low,
        "high": high,
        "undefined": undefined,
        "error": float(base.curve.error(n)),
        "needed": r * n,
        "extrapolated": not inside,
        "reason": None if reached else "the curve does not fall to the baseline's error at any number of records",
    }


def _within(n: float, sizes: NDArray[np.float64]) -> bool:
    return bool(sizes.min() <= n <= sizes.max())
