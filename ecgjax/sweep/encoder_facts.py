"""What is found out about an encoder by tracing it, which takes seconds: found once and kept in the cache folder."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import jax

import ecgjax
from ecgjax import atomic, models, numerics
from ecgjax.data.embedded import cache_folder
from ecgjax.models.encoder import Encoder
from ecgjax.sweep.cells import hashed

Facts = TypeVar("Facts", bound=NamedTuple)


@cache
def encoder_of(model: str, arguments: str) -> Encoder:
    """The encoder of a model, by its arguments as JSON."""
    plain = json.loads(arguments).items()
    return models.create(model, **{key: tuple(value) if isinstance(value, list) else value for key, value in plain})


def remembered(
    kind: str, make: Callable[..., Facts], find: Callable[[Encoder], Facts], model: str, arguments: str
) -> Facts:
    """Facts of an encoder, from the cache folder where they were found before.

    Args:
        kind: of facts, a folder's name.
        make: the facts from their fields.
        find: finds them.
        model: name.
        arguments: as JSON.
    """
    key = hashed([model, arguments, numerics.VERSION, ecgjax.__version__, jax.__version__, jax.default_backend()])
    path = cache_folder() / kind / f"{key}.json"
    try:
        return make(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    found: Any = find(encoder_of(model, arguments))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, found._asdict())
    return found
