"""Data sets that `python -m ecgjax.prepare NAME` makes stores of: one module each, see `preparation.source.Source`.

Adding one here is one file and one line below. Your own is a Python file named by its path (docs/own_data.md), or an
entry point of the group "ecgjax.sources" in your package, whose name is the source's and whose value is the module.
"""

import importlib
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, cast

from ecgjax import plugins
from ecgjax.errors import UserError

if TYPE_CHECKING:  # it needs pandas, which importing a model should not
    from ecgjax.data.preparation.source import Source

_MODULES = {
    "ptbxl": "ecgjax.data.sources.ptbxl",
    "ptb": "ecgjax.data.sources.ptb",
    "sph": "ecgjax.data.sources.sph",
    "chapman": "ecgjax.data.sources.chapman",
    "ningbo": "ecgjax.data.sources.ningbo",
    "cpsc2018": "ecgjax.data.sources.cpsc2018",
    "cpsc_extra": "ecgjax.data.sources.cpsc_extra",
    "georgia": "ecgjax.data.sources.georgia",
    "code15": "ecgjax.data.sources.code15",
    "code_test": "ecgjax.data.sources.code_test",
    "echonext": "ecgjax.data.sources.echonext",
    "zzu_pecg": "ecgjax.data.sources.zzu_pecg",
    "mimic": "ecgjax.data.sources.mimic",
    "heedb": "ecgjax.data.sources.heedb",
    "folder": "ecgjax.data.sources.folder",
    "synthetic": "ecgjax.data.sources.synthetic_store",
}
GROUP = "ecgjax.sources"


def names() -> tuple[str, ...]:
    """Names of the sources, those of other packages last."""
    others = sorted({entry.name for entry in entry_points(group=GROUP)} - set(_MODULES))
    return (*_MODULES, *others)


def load(name: str) -> "Source":
    """The module of a source.

    Args:
        name: one of `names()`, or the path of a Python file that is a source.

    Raises:
        UserError: there is no such source, or somebody's own is not one.
    """
    if name in _MODULES:
        return cast("Source", importlib.import_module(_MODULES[name]))
    if plugins.is_file(name):
        return _checked(plugins.load_file(name), name)
    for entry in entry_points(group=GROUP, name=name):
        return _checked(entry.load(), f"source {name!r} ({entry.value})")
    close = get_close_matches(name, names(), n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(f"no source {name!r}{hint}; expected one of {', '.join(names())}, or the path of a Python file")


def _checked(module: ModuleType, called: str) -> "Source":
    missing = [part for part in ("FACTS", "add_arguments", "listing", "read", "label") if not hasattr(module, part)]
    if missing:
        raise UserError(f"{called} has no {missing[0]}; expected a module like those of ecgjax.data.sources")
    return cast("Source", module)
