"""What a pickle's program works on, as data: names never looked up, objects never made, keys that cost nothing."""

from dataclasses import dataclass, field
from typing import Any

from ecgjax.errors import UserError

_LARGEST_KEY = 2**60  # larger integers can be made to collide, so that filling a dict takes forever
_DEEPEST_KEY = 3


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the file refers to. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Placeholder:
    """What stands where the file would have made an object.

    Attributes:
        name: the class or function named.
        arguments: what it would have been called with.
        state: what the object's attributes would have been set from, a mapping as far as the file gave one.
    """

    name: Name
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)


def key(value: Any, depth: int = 0) -> Any:
    """`value` if it may be a dictionary key: what torch files use, and nothing that is slow or deep to hash."""
    if isinstance(value, int):
        if abs(value) < _LARGEST_KEY:
            return value
    elif value is None or isinstance(value, (str, float, bytes, Name, Placeholder)):
        return value
    elif isinstance(value, tuple) and depth < _DEEPEST_KEY and len(value) < 16:
        return tuple(key(item, depth + 1) for item in value)
    raise UserError(f"the file uses a {type(value).__name__} as a dictionary key; expected a name or a small number")


def pairs(items: list[Any]) -> dict[Any, Any]:
    """A dict of alternating keys and values."""
    return {key(name): value for name, value in zip(items[::2], items[1::2], strict=True)}
