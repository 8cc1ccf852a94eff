"""ecgjax: the ECG foundation-model benchmark in JAX/Flax. The README says how to start."""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> (module, attribute or None for the module itself). Loaded on first use: `import ecgjax` stays cheap.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "load_model": ("ecgjax.models.model", "load_model"),
    "embed": ("ecgjax.models.model", "embed"),
    "read_recording": ("ecgjax.data.readers", "read_recording"),
    "open_store": ("ecgjax.data.store", "open_store"),
    "models": ("ecgjax.models", None),
    "tasks": ("ecgjax.tasks", None),
    "data": ("ecgjax.data", None),
    "metrics": ("ecgjax.evaluation.metrics", None),
    "bootstrap": ("ecgjax.evaluation.bootstrap", None),
    "cka": ("ecgjax.evaluation.cka", None),
    "losses": ("ecgjax.training.losses", None),
    "stratify": ("ecgjax.data.stratify", None),
}

__all__ = ["UserError", "__version__", *_PUBLIC]

from ecgjax.errors import UserError  # noqa: E402


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ecgjax' has no attribute {name!r}; it has {', '.join(__all__)}")
    module_name, attribute = _PUBLIC[name]
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
