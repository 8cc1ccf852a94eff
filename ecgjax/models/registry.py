"""The one place that lists models."""

import importlib
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder

# Name -> module whose `create(**arguments)` builds the encoder. Another package adds its own through the entry point
# group "ecgjax.models" (name = "module").
_MODELS = {
    "ecg_cpc": "ecgjax.models.ecg_cpc",
    "ecg_fm": "ecgjax.models.ecg_fm",
    "ecg_founder": "ecgjax.models.ecg_founder",
    "ecg_jepa": "ecgjax.models.ecg_jepa",
    "ecgfm_ked": "ecgjax.models.ecgfm_ked",
    "hubert_ecg": "ecgjax.models.hubert_ecg",
    "merl_resnet": "ecgjax.models.merl_resnet",
    "merl_vit": "ecgjax.models.merl_vit",
    "net1d": "ecgjax.models.net1d",
    "s4": "ecgjax.models.s4",
    "st_mem": "ecgjax.models.st_mem",
}


@cache
def _modules() -> dict[str, str]:
    return {**{point.name: point.value for point in entry_points(group="ecgjax.models")}, **_MODELS}


def names() -> tuple[str, ...]:
    """Names of all models, sorted."""
    return tuple(sorted(_modules()))


def create(name: str, **arguments: Any) -> Encoder:
    """Builds an encoder.

    Args:
        name: one of `names()`.
        **arguments: what the model's own `create` takes (width, layers ...); its defaults are the published model.

    Returns:
        The encoder; `Encoder.arguments` holds all arguments, defaults included.

    Raises:
        UserError: unknown model or argument, or a value the model cannot have.
    """
    if name not in _modules():
        raise UserError(f"model {name!r} is unknown{_closest(name, names())}; expected one of {', '.join(names())}")
    build: Callable[..., Encoder] = importlib.import_module(_modules()[name]).create
    accepted = tuple(inspect.signature(build).parameters)
    for argument in arguments:
        if argument not in accepted:
            raise UserError(
                f"model {name} has no argument {argument!r}{_closest(argument, accepted)}; "
                f"expected some of {', '.join(accepted)}"
            )
    return build(**arguments)


def _closest(word: str, words: tuple[str, ...]) -> str:
    matches = get_close_matches(word, words, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
