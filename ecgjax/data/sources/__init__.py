"""Data sets that `python -m ecgjax.prepare NAME` makes stores of: one module each.

A source is a module with `add_arguments(parser)` and `prepare(arguments) -> Prepared`; it writes through
`ecgjax.data.store_writer.StoreWriter`. Adding one is one file here and one line below.
"""

import importlib
from types import ModuleType

from ecgjax.errors import UserError

_MODULES = {
    "folder": "ecgjax.data.sources.folder",
    "synthetic": "ecgjax.data.sources.synthetic_store",
}


def names() -> tuple[str, ...]:
    """Names of the sources."""
    return tuple(_MODULES)


def load(name: str) -> ModuleType:
    """The module of a source.

    Raises:
        UserError: there is no such source.
    """
    if name not in _MODULES:
        raise UserError(f"no source {name!r}; expected one of {', '.join(_MODULES)}")
    return importlib.import_module(_MODULES[name])
