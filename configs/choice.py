"""What stands behind the colon of --config=FILE:CHOICE: "key=value,key=value"."""

from collections.abc import Mapping

from ecgjax.errors import UserError
from ecgjax.sweep.axes import Axes, chain, fixed


def parse(choice: str, defaults: Mapping[str, str], file: str, alone: str = "") -> dict[str, str]:
    """The values of all keys.

    Args:
        choice: such as "task=ptbxl_super,models=s4:scratch".
        defaults: value of each key where the choice has none.
        file: name of the config, for the message.
        alone: key of a part without one; none: there is no such part.

    Raises:
        UserError: a key that is not in `defaults`, or a part without key or value.
    """
    chosen = dict(defaults)
    for part in filter(None, choice.split(",")):
        key, equals, value = part.partition("=")
        if not equals and alone:
            key, value = alone, part
        if key not in chosen or not value:
            raise UserError(f"{file}:{choice}: {part!r} is unknown; expected {'=, '.join(defaults)}=")
        chosen[key] = value
    return chosen


def models(text: str) -> Axes:
    """The axes of "MODEL:MODE+MODEL:MODE"; without a mode it is linear."""
    pairs = (name.partition(":")[::2] for name in text.split("+"))
    return chain(*(fixed({"model": model, "mode": mode or "linear"}) for model, mode in pairs))


def some_of(text: str, known: tuple[str, ...], file: str) -> list[str]:
    """The names of "A+B", of those that are known.

    Raises:
        UserError: another name.
    """
    names = text.split("+")
    for name in names:
        if name not in known:
            raise UserError(f"{file}: {name!r} is unknown; expected some of {', '.join(known)}")
    return names
