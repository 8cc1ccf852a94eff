"""Linear centred kernel alignment (CKA): how alike two representations of the same records are.

Kornblith et al. 2019 (biased), Song et al. 2012 (the unbiased HSIC_1), Nguyen et al. 2021 (HSIC_1 averaged over
batches). No Gram matrix of records x records is made: with a linear kernel every term is a product of features, so
memory grows with records x features and time with records x features^2.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation.metrics import check_choice

Estimator = Literal["biased", "unbiased", "minibatch"]
_LEAST = {"biased": 2, "unbiased": 4, "minibatch": 4}


def linear(x: ArrayLike, y: ArrayLike, estimator: Estimator = "biased", batch: int | None = None) -> float:
    """CKA of two representations, in float64.

    Args:
        x: (records, features) of one model or layer.
        y: (records, other features) of another, records in the same order.
        estimator: "biased" (0 to 1); "unbiased" (about 0 for unrelated representations, may be negative); "minibatch",
            the unbiased one from terms averaged over consecutive batches, what is left over at the end not used.
        batch: records in a batch, for "minibatch".

    Returns:
        The alignment; NaN if a representation is constant.

    Raises:
        UserError: shapes that do not fit, values that are not finite, too few records, an unknown estimator.
    """
    with jax.enable_x64(True):
        return float(matrix([np.asarray(x, np.float64)], [np.asarray(y, np.float64)], estimator, batch)[0, 0])


def matrix(
    xs: Sequence[ArrayLike],
    ys: Sequence[ArrayLike] | None = None,
    estimator: Estimator = "unbiased",
    batch: int | None = None,
) -> NDArray[np.floating]:
    """CKA of every pair of layers, in the precision of the features; one layer pair at a time on the device.

    Args:
        xs: (records, features) of each layer.
        ys: the same of another model's layers, records in the same order; None compares `xs` with themselves.
        estimator: as for `linear`.
        batch: as for `linear`.

    Returns:
        (layers of xs, layers of ys).

    Raises:
        UserError: as for `linear`.
    """
    check_choice("estimator", estimator, ("biased", "unbiased", "minibatch"))
    if (batch is not None) != (estimator == "minibatch"):
        raise UserError(f"batch is {batch} for the {estimator} estimator; expected one for minibatch and for no other")
    symmetric = ys is None
    first = [_checked(x, estimator, batch) for x in xs]
    second = first if ys is None else [_checked(y, estimator, batch) for y in ys]
    if len({len(features) for features in [*first, *second]}) > 1:
        counts = sorted({len(features) for features in [*first, *second]})
        raise UserError(f"representations of {counts[0]} and {counts[-1]} records; expected the same records")
    hsic = partial(_hsic, biased=estimator == "biased", batch=batch)
    own_x = [float(hsic(x, x)) for x in first]
    own_y = own_x if symmetric else [float(hsic(y, y)) for y in second]
    values = np.full((len(first), len(second)), np.nan, np.result_type(*(x.dtype for x in first)))
    for i, x in enumerate(first):
        for j, y in enumerate(second):
            if symmetric and j < i:
                values[i, j] = values[j, i]
            elif own_x[i] > 0 and own_y[j] > 0:
                values[i, j] = float(hsic(x, y)) / np.sqrt(own_x[i] * own_y[j])
    return values


def _checked(features: ArrayLike, estimator: Estimator, batch: int | None) -> Array:
    array = np.asarray(features)
    if array.ndim != 2 or not array.shape[1]:
        raise UserError(f"a representation of shape {array.shape}; expected (records, features)")
    least = _LEAST[estimator]
    if len(array) < least or (batch is not None and not least <= batch <= len(array)):
        size = f"a batch of {batch} out of {len(array)}" if batch is not None else str(len(array))
        raise UserError(f"CKA of {size} records; expected at least {least}")
    if not np.isfinite(array).all():
        raise UserError("a representation holds NaN or infinite values; expected numbers")
    # Alignment does not change with the mean, and products of large means would lose digits. float32 at least.
    wide = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    return jnp.asarray(wide - wide.mean(axis=0))


@partial(jax.jit, static_argnames=("biased", "batch"))
def _hsic(x: Array, y: Array, *, biased: bool, batch: int | None) -> Array:
    """A multiple of HSIC that is the same for every pair of as many records."""
    if biased:
        return _squared(x, y)
    if batch is None:
        return _hsic_1(x, y)
    used = len(x) // batch * batch
    batches = (x[:used].reshape(-1, batch, x.shape[1]), y[:used].reshape(-1, batch, y.shape[1]))
    return jax.lax.map(lambda pair: _hsic_1(*pair), batches).mean()


def _squared(x: Array, y: Array) -> Array:
    """The squared Frobenius norm of Y'X, which is the trace of the product of both Gram matrices."""
    if min(x.shape[1], y.shape[1]) > len(x):
        return jnp.vdot(_dot(x, x.T), _dot(y, y.T))
    product = _dot(x.T, y)
    return jnp.vdot(product, product)


def _hsic_1(x: Array, y: Array) -> Array:
    """HSIC_1 times n (n - 3): Gram matrices K = XX', L = YY' without their diagonals, from sums over features."""
    n = len(x)
    diagonal_x, diagonal_y = (x * x).sum(axis=1), (y * y).sum(axis=1)
    rows_x = _dot(x, x.sum(axis=0)) - diagonal_x
    rows_y = _dot(y, y.sum(axis=0)) - diagonal_y
    trace = _squared(x, y) - jnp.vdot(diagonal_x, diagonal_y)
    return trace + rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * jnp.vdot(rows_x, rows_y)


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
