"""Other people's data sources and tasks: entry points of installed packages, or one Python file named by its path."""

import importlib
import importlib.util
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from ecgjax.errors import UserError


@cache
def installed(group: str) -> dict[str, str]:
    """Name -> module of the entry points of a group, e.g. "ecgjax.sources"."""
    return {point.name: point.value for point in entry_points(group=group)}


def is_file(name: str) -> bool:
    """Whether a name is the path of a Python file."""
    return name.endswith(".py")


def load_file(name: str) -> ModuleType:
    """The module in a Python file; loaded once, and importable by name in this process from then on.

    Raises:
        UserError: no such file, a name that another module has, or an error while it runs.
    """
    path = Path(name).absolute()
    if not path.is_file():
        raise UserError(f"{name}: no such file; expected a Python file with a data source and its task")
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    # Python finds the file itself where its folder is on the path, as the current one is for `python -m`.
    found = None if loaded is not None else importlib.util.find_spec(path.stem)
    if loaded is not None or (found is not None and (found.origin is None or Path(found.origin).absolute() != path)):
        raise UserError(f"{name}: another Python module is called {path.stem!r}; expected a name of its own")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        raise UserError(f"{name}: cannot be loaded ({type(error).__name__}: {error})") from error
    return module
