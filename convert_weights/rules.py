"""What name maps are made of: a torch name, the variable it belongs to, and how the two are laid out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from ecgjax.models.encoder import Encoder

Tensors = Mapping[str, np.ndarray]


class Rule(NamedTuple):
    """One torch name and one variable path, or a family of them.

    Attributes:
        source: torch name; "{i}" stands for a number.
        target: variable path with the same fields, e.g. "params/encoder/conv_{i}/kernel". Paths under "heads/" are
            optional: a head is there with all its tensors or not at all.
        layout: one of `LAYOUTS`.
    """

    source: str
    target: str
    layout: str = "same"


class Derived(NamedTuple):
    """A torch buffer that follows from another tensor: compared when read, made when written.

    Attributes:
        source: torch name; "{i}" stands for a number.
        beside: torch name, with the same fields, of the tensor it goes with.
        make: (encoder, the tensor beside it) -> the buffer.
        tolerance: greatest absolute difference allowed in a file; None compares shapes only.
    """

    source: str
    beside: str
    make: Callable[[Encoder, np.ndarray], np.ndarray]
    tolerance: float | None = None


class Names(Protocol):
    """What a names module holds, see `convert_weights.mapping`."""

    MODEL: str
    PREFIXES: tuple[str, ...]
    RULES: tuple[Rule, ...]
    DERIVED: tuple[Derived, ...]
    IGNORE: tuple[str, ...]

    def arguments(self, tensors: Tensors) -> dict[str, Any]:
        """Keyword arguments of `ecgjax.models.create`."""


# Layout -> (torch to ecgjax, ecgjax to torch).
LAYOUTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "same": (lambda x: x, lambda x: x),
    "dense": (lambda x: x.T, lambda x: x.T),  # (out, in) <-> (in, out)
    "conv": (lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0)),  # (out, in, taps) <-> (taps, in, out)
    "row": (lambda x: x[0], lambda x: x[None]),  # (1, ...) <-> (...)
    "column": (lambda x: x[..., 0], lambda x: x[..., None]),  # (..., 1) <-> (...)
    "query": (lambda x: x[0, 0], lambda x: x[None, None]),  # (1, 1, n) <-> (n,)
}
