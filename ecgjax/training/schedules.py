"""Learning-rate schedules: the factor on every group's base rate that is in force for update number `step` + 1.

The options of the benchmark's reference code (protocol 3.3), as plain functions of the number of updates already made.
They evaluate in float64 on numpy or Python numbers and trace in float32 under `jax.jit`, where optax calls them. All
take the steps of the warm-up and of the whole run, whether they need them or not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.errors import UserError

Schedule = Callable[[Any], Any]
"""Updates made so far -> factor on the base rate."""


def constant(step: Any, *, warmup: int = 0, total: int = 0) -> Any:
    """1 after a linear warm-up whose first update already has a non-zero rate."""
    return _warmed_up(step, warmup, _float(step) * 0 + 1)


def cosine(step: Any, *, warmup: int, total: int) -> Any:
    """Half a cosine from 1 to 0 at `total`; as in the reference it rises again afterwards."""
    return _warmed_up(step, warmup, 0.5 * (1 + _numpy(step).cos(np.pi * _progress(step, warmup, total))))


def cosine_restarts(step: Any, *, warmup: int, total: int, restarts: int = 4) -> Any:
    """`restarts` half cosines from 1 to 0, then 0; the warm-up starts at zero, unlike the other schedules'."""
    numpy, progress = _numpy(step), _progress(step, warmup, total)
    falling = 0.5 * (1 + numpy.cos(np.pi * ((restarts * progress) % 1.0)))
    return numpy.where(step < warmup, _float(step) / max(warmup, 1), numpy.where(progress >= 1, 0.0, falling))


def polynomial(step: Any, *, warmup: int, total: int, power: float = 1.0, end: float = 1e-4) -> Any:
    """(1 - end) (1 - progress)^power + end, and `end` from `total` on (the reference's own option raises a TypeError).

    Args:
        end: final rate as a fraction of the base rate.
    """
    remaining = 1 - _numpy(step).clip(_progress(step, warmup, total), 0.0, 1.0)
    return _warmed_up(step, warmup, (1 - end) * remaining**power + end)


def inverse_square_root(step: Any, *, warmup: int, total: int = 0) -> Any:
    """sqrt(warmup / step) after the warm-up."""
    numpy = _numpy(step)
    return _warmed_up(step, warmup, numpy.sqrt(max(warmup, 1) / numpy.maximum(_float(step), 1.0)))


def linear(step: Any, *, warmup: int = 0, total: int) -> Any:
    """A straight line from 1 to 0 at `total`."""
    return _warmed_up(step, warmup, 1 - _numpy(step).clip(_progress(step, warmup, total), 0.0, 1.0))


SCHEDULES: dict[str, Callable[..., Any]] = {
    "constant": constant,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "polynomial": polynomial,
    "inverse_square_root": inverse_square_root,
    "linear": linear,
}


def create(name: str, **arguments: Any) -> Schedule:
    """The schedule of a name with its arguments bound.

    Raises:
        UserError: no such schedule.
    """
    if name not in SCHEDULES:
        raise UserError(f"schedule {name!r} is unknown; expected one of {', '.join(SCHEDULES)}")
    return partial(SCHEDULES[name], **arguments)


def _warmed_up(step: Any, warmup: int, after: Any) -> Any:
    return _numpy(step).where(step < warmup, (1 + _float(step)) / (1 + warmup), after)


def _progress(step: Any, warmup: int, total: int) -> Any:
    return (_float(step) - warmup) / max(total - warmup, 1)


def _numpy(step: Any) -> Any:
    return jnp if isinstance(step, jax.Array) else np


def _float(step: Any) -> Any:
    return step.astype(jnp.float32) if isinstance(step, jax.Array) else np.asarray(step, np.float64)
