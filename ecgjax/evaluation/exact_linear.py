"""Linear models fitted to the optimum: ridge and L2-regularised logistic regression, over a path of strengths.

Every label k is a problem of its own, over the records (or windows) i whose target is known:

    minimise over b, c    1/W_k sum_i w_i loss(y_ik, c + z_i b) + strength/2 |b|^2,    W_k = sum_i w_i

with z the features standardised by weighted mean and standard deviation, loss half the squared error (ridge) or the
cross-entropy (logistic), and c not penalised. In scikit-learn's terms, on z: `Ridge(alpha=strength * W)` and
`LogisticRegression(C=1 / (strength * W))` with `sample_weight=w`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation.logistic_problem import LogisticProblem

Solver = Literal["auto", "newton", "lbfgs"]
Floats = NDArray[np.float64]

NEWTON_CHANNELS = 128
"""Up to here "auto" takes Newton's method: a Hessian of channels x channels for every label is still small."""

_ROWS = 16384  # read at a time


class Standard(NamedTuple):
    """Weighted means and reciprocal standard deviations of features, (channels,); 1 for a constant one."""

    mean: Floats
    scale: Floats


class Path(NamedTuple):
    """Linear models of all strengths, in their order, as functions of the features as they are.

    Attributes:
        kernel: (strengths, channels, labels).
        bias: (strengths, labels).
        gradient: (strengths, labels) largest derivative that is left, of the standardised problem.
    """

    kernel: Floats
    bias: Floats
    gradient: Floats

    def predict(self, x: NDArray, strength: int) -> Floats:
        """(rows, labels) values, or logits, by the number of a strength."""
        return np.asarray(x, np.float64) @ self.kernel[strength] + self.bias[strength]


def standardise(x: NDArray, weight: Floats) -> Standard:
    """Of features (rows, channels); in float64, and never a copy of all of them.

    Raises:
        UserError: a feature is not finite.
    """
    total = weight.sum()
    mean = sum((weight[part] @ x[part].astype(np.float64) for part in _parts(len(x))), np.zeros(x.shape[1])) / total
    if not np.isfinite(mean).all():
        raise UserError(f"feature {int(np.flatnonzero(~np.isfinite(mean))[0])} is not finite; expected numbers")
    squares = (weight[part] @ (x[part].astype(np.float64) - mean) ** 2 for part in _parts(len(x)))
    sd = np.sqrt(sum(squares, np.zeros(x.shape[1])) / total)
    varies = sd > 1e-6 * np.abs(mean)
    return Standard(mean, np.where(varies, 1 / np.where(varies, sd, 1), 1.0))


def ridge(x: NDArray, y: NDArray, strengths: Sequence[float], weight: NDArray | None = None) -> Path:
    """Ridge regression of every label at all strengths.

    Labels that are known for the same rows share one eigendecomposition of the features' covariance, whatever the
    number of strengths.

    Args:
        x: (rows, channels).
        y: (rows, labels), NaN where unknown.
        strengths: positive.
        weight: (rows,) of each row; None: 1.

    Raises:
        UserError: a strength is not positive, or a feature is not finite.
    """
    weight = _weights(x, strengths, weight)
    standard = standardise(x, weight)
    kernel = np.zeros((len(strengths), x.shape[1], y.shape[1]))
    bias, gradient = np.zeros((2, len(strengths), y.shape[1]))
    known = ~np.isnan(y)
    patterns: dict[bytes, list[int]] = {}
    for label in range(y.shape[1]):
        patterns.setdefault(np.packbits(known[:, label]).tobytes(), []).append(label)
    for labels in patterns.values():
        rows = known[:, labels[0]]
        if not weight[rows].any():
            continue  # nothing is known of them
        mean, target, covariance, product = _moments(x, y[:, labels], np.where(rows, weight, 0), standard)
        values, vectors = np.linalg.eigh(covariance)
        rotated = vectors.T @ product
        for i, strength in enumerate(strengths):
            b = vectors @ (rotated / (np.maximum(values, 0) + strength)[:, None])
            kernel[i][:, labels], bias[i, labels] = b, target - mean @ b
            gradient[i, labels] = np.abs(covariance @ b + strength * b - product).max(axis=0)
    return _plain(kernel, bias, gradient, standard)


def logistic(
    x: NDArray,
    y: NDArray,
    strengths: Sequence[float],
    weight: NDArray | None = None,
    *,
    solver: Solver = "auto",
    dtype: str | None = None,
) -> Path:
    """Logistic regression of every label at all strengths, all labels together.

    From the largest strength to the smallest, each starts where the one before it ended. Labels without a positive, or
    without a negative, get a constant: the logarithm of their odds with half a row more of either.

    Args:
        x: (rows, channels).
        y: (rows, labels) of 0, 1, or NaN where unknown.
        strengths: positive.
        weight: (rows,) of each row; None: 1.
        solver: "newton", "lbfgs", or what suits the number of channels.
        dtype: in which sums over rows are computed on the device: "float64", or "float32" on TPUs, which have no other.

    Raises:
        UserError: a strength is not positive, a feature is not finite, or the solver is unknown.
    """
    if solver not in ("auto", "newton", "lbfgs"):
        raise UserError(f"solver is {solver!r}; expected auto, newton or lbfgs")
    weight = _weights(x, strengths, weight)
    standard = standardise(x, weight)
    counts = np.stack([weight @ (y == value) for value in (0, 1)])
    solved = np.flatnonzero((counts > 0).all(axis=0))
    kernel = np.zeros((len(strengths), x.shape[1], y.shape[1]))
    bias, gradient = np.zeros((2, len(strengths), y.shape[1]))
    bias += np.log(counts[1] + 0.5) - np.log(counts[0] + 0.5)
    if len(solved):
        if solver == "auto":
            solver = "newton" if x.shape[1] <= NEWTON_CHANNELS else "lbfgs"
        dtype = dtype or ("float32" if jax.default_backend() == "tpu" else "float64")
        covariance = _moments(x, np.zeros((len(x), 1)), weight, standard)[2]
        problem = LogisticProblem(x, y[:, solved], weight, standard, counts[:, solved], covariance, dtype)
        theta = np.zeros((x.shape[1] + 1, len(solved)))
        theta[-1] = np.log(counts[1, solved]) - np.log(counts[0, solved])
        for i in np.argsort(strengths)[::-1]:
            theta, left = problem.minimise(theta, float(strengths[i]), solver)
            kernel[i][:, solved], bias[i, solved], gradient[i, solved] = theta[:-1], theta[-1], left
    return _plain(kernel, bias, gradient, standard)


def _moments(x: NDArray, y: NDArray, weight: Floats, standard: Standard) -> tuple[Floats, Floats, Floats, Floats]:
    """Weighted means of standardised features and of targets, covariance of the features, and that with the targets."""
    total, channels = weight.sum(), x.shape[1]
    mean, target = np.zeros(channels), np.zeros(y.shape[1])
    covariance, product = np.zeros((channels, channels)), np.zeros((channels, y.shape[1]))
    for part in _parts(len(x)):
        rows = np.flatnonzero(weight[part] > 0)
        w = weight[part][rows] / total
        z = (x[part][rows].astype(np.float64) - standard.mean) * standard.scale
        own = y[part][rows].astype(np.float64)
        mean += w @ z
        target += w @ own
        covariance += z.T @ (w[:, None] * z)
        product += z.T @ (w[:, None] * own)
    return mean, target, covariance - np.outer(mean, mean), product - np.outer(mean, target)


def _plain(kernel: Floats, bias: Floats, gradient: Floats, standard: Standard) -> Path:
    """The same models of the features as they are."""
    kernel = kernel * standard.scale[None, :, None]
    return Path(kernel, bias - np.einsum("c,scl->sl", standard.mean, kernel), gradient)


def _weights(x: NDArray, strengths: Sequence[float], weight: NDArray | None) -> Floats:
    for strength in strengths:
        if not (strength > 0 and np.isfinite(strength)):
            raise UserError(f"strength is {strength}; expected a positive number")
    return np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)


def _parts(rows: int) -> list[slice]:
    return [slice(first, first + _ROWS) for first in range(0, rows, _ROWS)]
