"""Checks of the arguments that models are created with; each names the model and the argument."""

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


def positive(model: str, name: str, value: Any) -> None:
    """Refuses anything but a positive number.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise UserError(f"model {model}: {name} is {value!r}; expected a positive number")
