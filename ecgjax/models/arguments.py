"""Checks of the arguments that models are created with; each names the model and the argument."""

import math
from collections.abc import Sequence
from typing import Any

from ecgjax.errors import UserError

DTYPES = ("float32", "bfloat16")


def one_of(model: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses a value that is not among the choices.

    Raises:
        UserError: it is not.
    """
    if value not in choices:
        raise UserError(f"model {model}: {name} is {value!r}; expected {' or '.join(repr(c) for c in choices)}")


def window(model: str, seconds: Any, rate: float) -> None:
    """Refuses a window without a sample.

    Raises:
        UserError: names the model, the value and what is expected.
    """
    if isinstance(seconds, bool) or not (isinstance(seconds, (int, float)) and 1 <= seconds * rate < math.inf):
        raise UserError(f"model {model}: seconds is {seconds!r}; expected a number, at least one sample at {rate:g} Hz")
