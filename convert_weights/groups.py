"""Finds the tensors in a checkpoint's contents, and the ones that are a given model's."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from convert_weights.pickle_values import Placeholder
from convert_weights.tensors import Tensor
from convert_weights.torch_objects import Unreadable
from ecgjax.errors import UserError

Groups = dict[str, dict[str, Tensor | Unreadable]]
"""Tensors by name for each dict or module that holds any, by its dotted path."""

# A few hundred bytes of pickle can describe a structure with more paths than atoms; real checkpoints have thousands.
_MOST_ITEMS = 10_000_000
_DEEPEST = 100


def tensor_groups(contents: Any) -> Groups:
    """Every tensor by name, grouped by the dict or list that holds it; a pickled module is one group.

    Raises:
        UserError: nested absurdly deep or wide, or two tensors of one name.
    """
    groups: Groups = {}
    seen = 0
    # (path of the group, name in it, value, depth, whether inside a module)
    pending: list[tuple[str, str, Any, int, bool]] = [("", "", contents, 0, False)]
    while pending:
        group, name, value, depth, in_module = pending.pop()
        if isinstance(value, (Tensor, Unreadable)):
            if name in groups.setdefault(group, {}):
                raise UserError(f"two tensors are named {join(group, name)!r}; expected one")
            groups[group][name] = value
            continue
        if not in_module:
            group, name = join(group, name), ""
        children = _module_state(value) if isinstance(value, Placeholder) else {} if in_module else _items(value)
        seen += len(children)
        if seen > _MOST_ITEMS or depth > _DEEPEST:
            raise UserError("the contents are nested beyond all use (or hold themselves); expected a checkpoint")
        inside = in_module or isinstance(value, Placeholder)
        pending.extend(
            (group, join(name, str(key)), child, depth + 1, inside)
            for key, child in reversed(children.items())
            if isinstance(child, (Tensor, Unreadable, Placeholder, dict, list, tuple))
        )
    return groups


def join(path: str, name: str) -> str:
    """A dotted path."""
    return f"{path}.{name}" if path and name else path or name


def _items(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, (list, tuple)) else {}


def _module_state(value: Placeholder) -> dict[Any, Any]:
    """Parameters, buffers and children of a pickled `torch.nn.Module`; nothing for any other object."""
    parameters, buffers, modules = (value.state.get(part) for part in ("_parameters", "_buffers", "_modules"))
    if not (isinstance(parameters, dict) and isinstance(buffers, dict) and isinstance(modules, dict)):
        return {}
    hidden = value.state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, (set, frozenset)) else ()
    return {**parameters, **{name: buffer for name, buffer in buffers.items() if name not in hidden}, **modules}


@dataclass(frozen=True)
class Selection:
    """The tensors of one model out of a checkpoint.

    Attributes:
        group: path of the dict or module they lie in; "" is the top.
        prefix: what stood before each name and is taken off, such as "model." or "module.".
        tensors: by name without the prefix.
        outside: names in the group without the prefix, which are left alone.
        alternatives: other places (group and prefix) that hold as many of the model's names.
    """

    group: str
    prefix: str
    tensors: dict[str, Tensor]
    outside: tuple[str, ...]
    alternatives: tuple[str, ...]


def select(groups: Groups, templates: Iterable[str]) -> Selection:
    """The group and prefix under which most of a model's names are found.

    Wrappers ("state_dict", "model", "ecg_model") and prefixes ("module.", "model.", "ts_encoder.") differ from release
    to release, and one file may hold several networks; the names themselves say which one is meant.

    Args:
        groups: as from `tensor_groups`.
        templates: the names of the model's tensors in its authors' code; "{i}" stands for a number.

    Raises:
        UserError: none of the names is anywhere in the file, or a tensor of the model cannot be read.
    """
    templates = sorted(templates)
    known = re.compile("|".join(re.sub(r"\\{\w+\\}", r"\\d+", re.escape(template)) for template in templates))
    found: Counter[tuple[str, str]] = Counter()
    for group, tensors in groups.items():
        for name in tensors:
            for start in [0, *(dot.end() for dot in re.finditer(r"\.", name))]:
                if known.fullmatch(name, start):
                    found[group, name[:start]] += 1
    if not found:
        held = [join(group, name) for group, tensors in groups.items() for name in tensors]
        raise UserError(
            f"holds none of the model's tensors; expected names such as {', '.join(templates[:3])}, "
            f"found {', '.join(held[:3]) or 'no tensors at all'}{' ...' if len(held) > 3 else ''}"
        )
    most = max(found.values())
    # Counter keeps the file's order: of equals the first, and the others are told.
    (group, prefix), *others = [place for place, count in found.items() if count == most]
    inside: dict[str, Tensor] = {}
    for name, tensor in groups[group].items():
        if not name.startswith(prefix):
            continue
        if isinstance(tensor, Unreadable):
            raise UserError(f"{join(group, name)} is {tensor.reason}; expected a dense tensor")
        inside[name.removeprefix(prefix)] = tensor
    outside = tuple(name for name in groups[group] if not name.startswith(prefix))
    return Selection(group, prefix, inside, outside, tuple(join(*other) for other in others))
