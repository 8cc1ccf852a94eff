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


def rate(model: str, name: str, value: Any) -> None:
    """Refuses anything but a probability to drop.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UserError(f"model {model}: {name} is {value!r}; expected a number from 0 up to below 1")


def patches(model: str, seconds: Any, sampling_rate: float, patch: int, most: int) -> None:
    """Refuses a window that is not a whole number of patches, or of more than `most`.

    Raises:
        UserError: it is not.
    """
    window(model, seconds, sampling_rate)
    count = seconds * sampling_rate / patch
    if abs(count - round(count)) > 1e-6 or not 1 <= round(count) <= most:
        one = patch / sampling_rate
        raise UserError(f"model {model}: seconds is {seconds!r}; expected a multiple of {one:g} up to {most * one:g}")


def transformer(
    model: str, width: Any, layers: Any, heads: Any, most_layers: int = 1000, least_layers: int = 1, multiple: int = 1
) -> None:
    """Refuses sizes that a transformer cannot have.

    Raises:
        UserError: names the model and the argument.
    """
    for name, value in {"width": width, "layers": layers, "heads": heads}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"model {model}: {name} is {value!r}; expected a positive integer")
    if width % heads or width % multiple:
        step = f" and of {multiple}" if multiple > 1 else ""
        raise UserError(f"model {model}: width is {width}; expected a multiple of the {heads} heads{step}")
    if not least_layers <= layers <= most_layers:
        raise UserError(f"model {model}: layers is {layers}; expected {least_layers} to {most_layers}")


def some_leads(model: str, leads: Any, known: Sequence[str]) -> tuple[int, ...]:
    """The places of the leads among those that the model knows.

    Raises:
        UserError: none, or one that it does not know, twice or out of order.
    """
    rows = [known.index(lead) for lead in leads if lead in known] if isinstance(leads, (list, tuple)) else []
    if not rows or len(rows) != len(leads) or rows != sorted(set(rows)):
        raise UserError(f"model {model}: leads is {leads!r}; expected some of {', '.join(known)}, in this order")
    return tuple(rows)
