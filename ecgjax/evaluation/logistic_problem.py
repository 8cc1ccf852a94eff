"""L2-regularised logistic regression of many labels at once: the objective on the device, the steps on the host.

Sums over rows are computed block by block in float64, so that the features lie on the device once, as float32.
Newton's method solves with each label's Hessian. L-BFGS starts from the inverse of the features' covariance times the
label's variance plus the strength, which is the Hessian where the prediction is the label's frequency.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROWS = 2048  # of a block
_MEMORY = 10  # pairs that L-BFGS keeps
_MOST_STEPS = {"newton": 100, "lbfgs": 1000}
_HALVINGS = 30


class LogisticProblem:
    """The problems of some labels, each with both classes; parameters are (channels + 1, labels), the last the bias.

    Args:
        x: (rows, channels).
        y: (rows, labels) of 0, 1, or NaN where unknown.
        weight: (rows,).
        standard: means and reciprocal standard deviations of the features, (channels,) each.
        counts: (2, labels) sums of weights of the negative and of the positive rows.
        covariance: (channels, channels) of the standardised features.
        dtype: see `ecgjax.evaluation.exact_linear.logistic`.
    """

    def __init__(
        self,
        x: NDArray,
        y: NDArray,
        weight: Floats,
        standard: tuple[Floats, Floats],
        counts: Floats,
        covariance: Floats,
        dtype: str,
    ) -> None:
        self._x64 = dtype == "float64"
        self._tolerance, self._slack = (1e-9, 1e-14) if self._x64 else (2e-6, 1e-6)
        padding = -len(x) % _ROWS
        blocks = len(x) + padding, _ROWS

        def blocked(array: NDArray, fill: float) -> NDArray:
            widths = [(0, padding), *[(0, 0)] * (array.ndim - 1)]
            padded = np.pad(array, widths, constant_values=fill)
            return padded.reshape(blocks[0] // blocks[1], _ROWS, *array.shape[1:])

        targets = np.where(np.isnan(y), -1, y).astype(np.int8)
        with jax.enable_x64(self._x64):
            self._data = (
                jnp.asarray(blocked(np.asarray(x, np.float32), 0)),
                jnp.asarray(blocked(targets, -1)),
                jnp.asarray(blocked(weight.astype(dtype), 0)),
                tuple(jnp.asarray(part.astype(dtype)) for part in standard),
                jnp.asarray(counts.sum(axis=0).astype(dtype)),
            )
        self._values, self._vectors = np.linalg.eigh(covariance)
        share = counts[1] / counts.sum(axis=0)
        self._variance = share * (1 - share)

    def evaluate(self, theta: Floats, strength: float) -> tuple[Floats, Floats]:
        """Values (labels,) and gradients, as `theta`."""
        with jax.enable_x64(self._x64):
            value, gradient = jax.device_get(_value_and_gradient(*self._data, theta))
        penalised = theta[:-1]
        gradient = np.array(gradient, np.float64)
        gradient[:-1] += strength * penalised
        return np.asarray(value, np.float64) + strength / 2 * (penalised**2).sum(axis=0), gradient

    def minimise(self, start: Floats, strength: float, solver: str) -> tuple[Floats, Floats]:
        """The minimum from a start, and the largest derivative left, (labels,)."""
        theta: Any = start
        directions = {"newton": self._newton, "lbfgs": self._lbfgs}[solver](strength)
        value, gradient = self.evaluate(theta, strength)
        stuck = np.zeros(theta.shape[1], bool)
        for _ in range(_MOST_STEPS[solver]):
            left = np.abs(gradient).max(axis=0)
            going = (left > self._tolerance) & ~stuck
            if not going.any():
                break
            direction = np.where(going, directions(theta, gradient), 0)
            slope = (direction * gradient).sum(axis=0)
            step, before = np.ones(theta.shape[1]), (theta, gradient)
            for _ in range(_HALVINGS):
                theta = before[0] + step * direction
                new, gradient = self.evaluate(theta, strength)
                enough = new <= value + 1e-4 * step * slope + self._slack * (1 + np.abs(value))
                if enough.all():
                    break
                step = np.where(enough, step, step / 2)
            else:  # no step of these makes the value smaller: as far as the arithmetic goes
                stuck |= ~enough
                theta = np.where(enough, theta, before[0])
                new, gradient = self.evaluate(theta, strength)
            value = new
        return np.asarray(theta, np.float64), np.asarray(np.abs(gradient).max(axis=0), np.float64)

    def _newton(self, strength: float) -> Callable[[Floats, Floats], Floats]:
        def direction(theta: Floats, gradient: Floats) -> Floats:
            with jax.enable_x64(self._x64):
                hessian = np.array(_hessian(*self._data, theta), np.float64)
            diagonal = np.arange(len(theta) - 1)
            hessian[:, diagonal, diagonal] += strength
            hessian[:, -1, -1] += 1e-12
            return np.asarray(-np.linalg.solve(hessian, gradient.T[..., None])[..., 0].T, np.float64)

        return direction

    def _lbfgs(self, strength: float) -> Callable[[Floats, Floats], Floats]:
        """Nocedal and Wright (2006), algorithm 7.4, for all labels at once."""
        pairs: list[tuple[Floats, Floats, Floats]] = []
        last: list[tuple[Floats, Floats]] = []
        curvature = np.maximum(self._values, 0)[:, None] * self._variance + strength

        def precondition(q: Floats) -> Floats:
            inner = self._vectors @ ((self._vectors.T @ q[:-1]) / curvature)
            return np.concatenate([inner, (q[-1] / self._variance)[None]])

        def direction(theta: Floats, gradient: Floats) -> Floats:
            if last:
                s, y = theta - last[0][0], gradient - last[0][1]
                product = (s * y).sum(axis=0)
                use = product > 1e-14 * np.sqrt((s**2).sum(axis=0) * (y**2).sum(axis=0))
                # A label that did not move, or whose curvature is lost in rounding, has no pair.
                pairs.append((s, y, np.where(use, 1 / np.where(use, product, 1), 0)))
                del pairs[:-_MEMORY]
            last[:] = [(theta, gradient)]
            q, found = gradient.copy(), []
            for s, y, rho in reversed(pairs):
                found.append(rho * (s * q).sum(axis=0))
                q = q - found[-1] * y
            q = precondition(q)
            for (s, y, rho), a in zip(pairs, reversed(found), strict=True):
                q = q + (a - rho * (y * q).sum(axis=0)) * s
            return -q

        return direction


_HIGHEST = jax.lax.Precision.HIGHEST


def _block(standard: tuple, total: jax.Array, theta: jax.Array, block: tuple) -> tuple[jax.Array, ...]:
    """Of a block of rows: features with a constant, logits, targets, and each known target's share of its label."""
    x, y, weight = block
    z = (x.astype(weight.dtype) - standard[0][None]) * standard[1][None]
    z = jnp.concatenate([z, jnp.ones((len(z), 1), z.dtype)], axis=1)
    share = jnp.where(y >= 0, weight[:, None], 0) / total[None]
    return z, jnp.dot(z, theta.astype(z.dtype), precision=_HIGHEST), jnp.maximum(y, 0).astype(z.dtype), share


@jax.jit
def _value_and_gradient(
    x: jax.Array, y: jax.Array, weight: jax.Array, standard: tuple, total: jax.Array, theta: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def add(sums: tuple, block: tuple) -> tuple[tuple, None]:
        z, logits, target, share = _block(standard, total, theta, block)
        loss = (share * (jax.nn.softplus(logits) - target * logits)).sum(axis=0)
        residual = share * (jax.nn.sigmoid(logits) - target)
        return (sums[0] + loss, sums[1] + jnp.dot(z.T, residual, precision=_HIGHEST)), None

    start = jnp.zeros(theta.shape[1], weight.dtype), jnp.zeros(theta.shape, weight.dtype)
    return jax.lax.scan(add, start, (x, y, weight))[0]


@jax.jit
def _hessian(
    x: jax.Array, y: jax.Array, weight: jax.Array, standard: tuple, total: jax.Array, theta: jax.Array
) -> jax.Array:
    def add(sums: jax.Array, block: tuple) -> tuple[jax.Array, None]:
        z, logits, _, share = _block(standard, total, theta, block)
        probability = jax.nn.sigmoid(logits)
        curvature = share * probability * (1 - probability)
        of_label = partial(jax.lax.map, lambda c: jnp.dot(z.T, c[:, None] * z, precision=_HIGHEST))
        return sums + of_label(curvature.T), None

    start = jnp.zeros((theta.shape[1], theta.shape[0], theta.shape[0]), weight.dtype)
    return jax.lax.scan(add, start, (x, y, weight))[0]
