"""Label-efficiency curves: error(N) = C N^-alpha + L0, and how much less data another model needs (protocol.md, 5).

The paper does not say how it fitted; here it is unweighted least squares on the error (1 - macro AUROC, or the mean
absolute error) with C, L0 >= 0 and 0.001 <= alpha <= 5. For a given alpha the problem is linear, so the search is over
alpha alone and finds the global optimum. Many curves (bootstrap replicates) are fitted at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError

ALPHA = (1e-3, 5.0)
_GRID = 400
_REFINEMENTS = 12


@dataclass(frozen=True)
class Curve:
    """Fitted curves; arrays of one shape, () for one curve.

    Attributes:
        scale: C.
        alpha: the speed of learning.
        floor: L0, the error with endless data.
        sse: sum of squared residuals.
    """

    scale: NDArray[np.float64]
    alpha: NDArray[np.float64]
    floor: NDArray[np.float64]
    sse: NDArray[np.float64]

    def error(self, n: ArrayLike) -> NDArray[np.float64]:
        """Error at training sizes: (curves..., sizes...)."""
        sizes = np.asarray(n, np.float64)
        shape = (*self.scale.shape, *(1,) * sizes.ndim)
        scale, alpha, floor = (part.reshape(shape) for part in (self.scale, self.alpha, self.floor))
        return scale * sizes**-alpha + floor

    def size(self, error: ArrayLike) -> NDArray[np.float64]:
        """Training size at which the error is reached, per curve.

        NaN if it never is, because `floor` is not below it; 0 if a flat curve lies below it at every size.
        """
        excess = np.asarray(error, np.float64) - self.floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            size = (self.scale / excess) ** (1 / self.alpha)
        return np.where((excess > 0) & np.isfinite(size), size, np.nan)


def fit(n: ArrayLike, error: ArrayLike) -> Curve:
    """Fits curves.

    Args:
        n: (sizes,) numbers of training records or patients, at least three different ones.
        error: (..., sizes) errors.

    Returns:
        `Curve` of shape (...).

    Raises:
        UserError: fewer than three sizes, or values that are not finite and positive.
    """
    sizes, errors = np.asarray(n, np.float64), np.asarray(error, np.float64)
    if sizes.ndim != 1 or errors.shape[-1:] != sizes.shape:
        raise UserError(f"sizes of shape {sizes.shape} and errors {errors.shape}; expected (sizes,) and (..., sizes)")
    if len(np.unique(sizes)) < 3:
        raise UserError(f"{len(np.unique(sizes))} training sizes; expected at least 3 to fit C, alpha and L0")
    if not (np.isfinite(sizes).all() and (sizes > 0).all() and np.isfinite(errors).all()):
        raise UserError("training sizes and errors must be finite, and sizes positive")
    flat = errors.reshape(-1, len(sizes))
    logs = np.linspace(np.log(ALPHA[0]), np.log(ALPHA[1]), _GRID)
    best = _sse(sizes, flat, np.broadcast_to(logs, (len(flat), _GRID)))[0].argmin(axis=1)
    low, high = logs[np.maximum(best - 1, 0)], logs[np.minimum(best + 1, _GRID - 1)]
    # The sum of squares is smooth between neighbours of the grid's minimum: look closer there, again and again.
    for _ in range(_REFINEMENTS):
        finer = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 9)
        best = _sse(sizes, flat, finer)[0].argmin(axis=1)
        rows = np.arange(len(flat))
        low, high = finer[rows, np.maximum(best - 1, 0)], finer[rows, np.minimum(best + 1, 8)]
    middle = (low + high) / 2
    sse, scale, floor = (part[:, 0] for part in _sse(sizes, flat, middle[:, None]))
    shape = errors.shape[:-1]
    return Curve(*(part.reshape(shape) for part in (scale, np.exp(middle), floor, sse)))


def ratio(model: Curve, baseline: Curve, n: float) -> NDArray[np.float64]:
    """The share r = N*/N of the baseline's N training records with which a model reaches the baseline's error.

    NaN where it is not defined: the model's floor lies at or above that error.
    """
    return model.size(baseline.error(n)) / n


def interval(values: NDArray[np.float64], level: float) -> tuple[float, float, float]:
    """Percentile limits of replicates that may be undefined, and the share that is.

    A size that is never reached lies beyond all sizes: undefined replicates count as larger than all others, and are
    not left out, which would make the limits too favourable.

    Returns:
        Lower and upper limit (NaN where that is undefined: there is no limit), and the share of undefined replicates.
    """
    undefined = np.isnan(values)
    if undefined.all():
        return np.nan, np.nan, float(len(values) > 0)
    # Any number that interpolation cannot bring near the others will do for infinity.
    beyond = 1e200
    limits = np.percentile(np.where(undefined, beyond, values), [50 * (1 - level), 50 * (1 + level)])
    low, high = (np.nan if limit > 1e190 else float(limit) for limit in limits)
    return low, high, float(undefined.mean())


def _sse(sizes: NDArray, errors: NDArray, logs: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Best C and L0 for each alpha: (curves, alphas) sums of squares, C and L0."""
    basis = sizes[None, None] ** -np.exp(logs)[..., None]  # (curves, alphas, sizes)
    centre, mean = basis.mean(-1, keepdims=True), errors.mean(-1)[:, None, None]
    centred, deviation = basis - centre, errors[:, None] - mean
    spread = (centred**2).sum(-1)
    scale = np.maximum(np.where(spread > 0, (centred * deviation).sum(-1) / np.where(spread > 0, spread, 1), 0), 0)
    floor = mean[..., 0] - scale * centre[..., 0]
    # Below 0 the floor is 0 and the scale fits alone.
    through_zero = (basis * errors[:, None]).sum(-1) / (basis**2).sum(-1)
    scale, floor = np.where(floor < 0, np.maximum(through_zero, 0), scale), np.maximum(floor, 0)
    residual = errors[:, None] - scale[..., None] * basis - floor[..., None]
    return (residual**2).sum(-1), scale, floor
