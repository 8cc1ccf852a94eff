"""Torch tensors <-> ecgjax variables by data-only rules, strict both ways. Needs numpy, not torch.

A names module (`convert_weights.names`) is data about one model:

    MODEL              registry name
    PREFIXES           wrappers' prefixes to strip, e.g. "module." of DistributedDataParallel
    RULES              tuple of `Rule`: torch name <-> variable path
    DERIVED            tuple of `Derived`: torch buffers that follow from others
    IGNORE             regular expressions of torch names to leave out
    arguments(tensors) keyword arguments of `ecgjax.models.create`, read off the shapes

Every source tensor is used once, derived or ignored; every variable is filled once; shapes agree. All faults of a file
are reported together.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from convert_weights.rules import LAYOUTS, Derived, Names, Rule, Tensors
from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder, Variables

HEADS = "heads/"
_SHOWN = 12


def strip_prefixes(names: Names, tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors without the prefixes that wrappers put before their names.

    A module that is registered twice is in the file twice; with equal values it counts once.

    Raises:
        UserError: two names become the same, and their values differ.
    """
    out: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        bare = name
        while prefix := next((p for p in names.PREFIXES if bare.startswith(p)), ""):
            bare = bare[len(prefix) :]
        if bare in out and not np.array_equal(out[bare], value):
            raise UserError(f"{names.MODEL}: tensor {name!r} and another are both {bare!r} without their prefixes")
        out[bare] = value
    return out


def arguments(names: Names, tensors: Tensors) -> dict[str, Any]:
    """Keyword arguments of `ecgjax.models.create` for the model that the tensors belong to.

    Raises:
        UserError: a tensor that tells them is missing or has a shape it cannot have.
    """
    try:
        return names.arguments(strip_prefixes(names, tensors))
    except KeyError as error:
        name = str(error.args[0])
        hint = get_close_matches(name, strip_prefixes(names, tensors), n=1)
        raise UserError(
            f"{names.MODEL}: tensor {name!r} is missing{_closest(hint)}; is this its checkpoint?"
        ) from error
    except (IndexError, ValueError) as error:
        raise UserError(f"{names.MODEL}: a tensor has a shape that this model cannot have ({error})") from error


def to_variables(names: Names, encoder: Encoder, tensors: Tensors) -> Variables:
    """Torch tensors to the encoder's variables.

    Args:
        names: the model's names module.
        encoder: made from `arguments(names, tensors)`.
        tensors: torch name -> array.

    Returns:
        Variables with float32 leaves.

    Raises:
        UserError: lists every tensor that is missing, unknown, of a wrong shape or inconsistent.
    """
    paths = _read(names, encoder, tensors)
    return dict(unflatten_dict({path: x for path, x in paths.items() if not path.startswith(HEADS)}, sep="/"))


def to_heads(names: Names, encoder: Encoder, tensors: Tensors) -> dict[str, Any]:
    """Parameters of the heads that the tensors hold beside the encoder, by name; arguments as in `to_variables`."""
    paths = _read(names, encoder, tensors)
    heads = {path.removeprefix(HEADS): x for path, x in paths.items() if path.startswith(HEADS)}
    return dict(unflatten_dict(heads, sep="/"))


def to_torch(
    names: Names, encoder: Encoder, variables: Variables, heads: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """The inverse of `to_variables` and `to_heads`, exactly; derived buffers are made anew.

    Args:
        names: the model's names module.
        encoder: the model.
        variables: its variables.
        heads: parameters of heads, by name.

    Returns:
        Torch name -> array, in the model's own names (no prefix).

    Raises:
        UserError: a variable is missing, of a wrong shape or without a torch name.
    """
    flat = flatten_dict(variables, sep="/")
    shapes = flatten_dict(encoder.shapes(), sep="/")
    faults = [f"variable {path!r} is missing" for path in shapes.keys() - flat.keys()]
    faults += [f"variable {path!r} is not of this model" for path in flat.keys() - shapes.keys()]
    flat.update({HEADS + path: value for path, value in flatten_dict(dict(heads or {}), sep="/").items()})
    out: dict[str, np.ndarray] = {}
    for path, value in flat.items():
        found = _match(path, [rule.target for rule in names.RULES])
        if found is None:
            faults.append(f"variable {path!r} has no torch name")
            continue
        rule, fields = names.RULES[found[0]], found[1]
        if path in shapes and np.shape(value) != shapes[path].shape:
            faults.append(f"variable {path!r} is {np.shape(value)}, expected {shapes[path].shape}")
            continue
        out[rule.source.format(**fields)] = np.ascontiguousarray(LAYOUTS[rule.layout][1](np.asarray(value)))
    _report(names, faults)
    buffers = {name: derived.make(encoder, out[beside]) for name, (derived, beside) in _derived(names, out).items()}
    return {**out, **buffers}


def _read(names: Names, encoder: Encoder, tensors: Tensors) -> dict[str, np.ndarray]:
    """Variable path -> array, heads included, after all checks."""
    tensors = _without_unfit_heads(names, strip_prefixes(names, tensors), encoder.spec.channels)
    shapes = {path: value.shape for path, value in flatten_dict(encoder.shapes(), sep="/").items()}
    faults: list[str] = []
    paths: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    left: list[str] = []
    for name, value in tensors.items():
        found = _match(name, [rule.source for rule in names.RULES])
        if found is None:
            left.append(name)
            continue
        rule, path = names.RULES[found[0]], names.RULES[found[0]].target.format(**found[1])
        if path not in shapes and not path.startswith(HEADS):
            left.append(name)  # e.g. a layer more than the model has
            continue
        if path in used:
            faults.append(f"{name!r} and {used[path]!r} are both {path}")
            continue
        used[path] = name
        try:
            out = np.asarray(LAYOUTS[rule.layout][0](value), np.float32)
            exact = LAYOUTS[rule.layout][1](out).shape == value.shape
        except (IndexError, ValueError):
            exact = False
        if not exact or (path in shapes and out.shape != shapes[path]):
            wanted = _torch_shape(rule, shapes[path]) if path in shapes else f"layout {rule.layout!r}"
            faults.append(f"{name!r} is {value.shape}, expected {wanted}")
            continue
        if path.startswith(HEADS) and not path.endswith("/bias") and out.shape[0] != encoder.spec.channels:
            faults.append(f"{name!r} is {value.shape}, expected {encoder.spec.channels} inputs")
            continue
        paths[path] = out

    expected = _expected(names, shapes)
    missing = [name for path, name in expected.items() if path not in used]
    for path in used:
        head = path.split("/")[1]
        if path.startswith(HEADS):
            siblings = [rule for rule in names.RULES if rule.target.startswith(f"{HEADS}{head}/")]
            missing += [rule.source for rule in siblings if rule.target not in used and rule.source not in missing]
    derived = _derived(names, expected.values())
    unknown = [name for name in left if name not in derived and not _ignored(names, name)]
    faults += [f"{name!r} is missing{_closest(get_close_matches(name, unknown, n=1))}" for name in missing]
    faults += [f"{name!r} is unknown{_closest(get_close_matches(name, missing, n=1))}" for name in unknown]
    for name in derived.keys() & set(left):
        buffer, beside = derived[name]
        if beside in tensors:
            faults += _compare(name, tensors[name], buffer.make(encoder, tensors[beside]), buffer.tolerance)
    _report(names, faults)
    return paths


def _without_unfit_heads(names: Names, tensors: Tensors, channels: int) -> Tensors:
    """The tensors without those of a head on the ignore list that is not there as a whole, or not this wide."""

    def fits(rule: Rule) -> bool:
        try:
            return LAYOUTS[rule.layout][0](tensors[rule.source]).shape[0] == channels
        except (KeyError, IndexError, ValueError):
            return False

    ignorable = [rule for rule in names.RULES if rule.target.startswith(HEADS) and _ignored(names, rule.source)]
    unfit = {rule.target.split("/")[1] for rule in ignorable if not fits(rule)}
    left_out = {rule.source for rule in ignorable if rule.target.split("/")[1] in unfit}
    return {name: value for name, value in tensors.items() if name not in left_out}


def _compare(name: str, value: np.ndarray, wanted: np.ndarray, tolerance: float | None) -> list[str]:
    if value.shape != wanted.shape:
        return [f"{name!r} is {value.shape}, expected {wanted.shape}"]
    if tolerance is None:
        return []
    worst = float(np.max(np.abs(value.astype(np.float64) - wanted)))
    return [] if worst <= tolerance else [f"{name!r} differs by {worst:.2g} from what the other tensors say"]


def _expected(names: Names, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Variable path -> the torch name it is filled from."""
    out = {}
    for path in shapes:
        found = _match(path, [rule.target for rule in names.RULES])
        if found is None:
            raise LookupError(f"no rule of {names.MODEL} fills {path}")
        out[path] = names.RULES[found[0]].source.format(**found[1])
    return out


def _derived(names: Names, present: Iterable[str]) -> dict[str, tuple[Derived, str]]:
    """Torch name of every derived buffer -> its rule and the name of the tensor beside it."""
    out = {}
    for name in present:
        for derived in names.DERIVED:
            if found := _match(name, [derived.beside]):
                out[derived.source.format(**found[1])] = (derived, name)
    return out


def _match(name: str, templates: list[str]) -> tuple[int, dict[str, str]] | None:
    for index, template in enumerate(templates):
        if found := _pattern(template).fullmatch(name):
            return index, found.groupdict()
    return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(template)))


def _torch_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
    return LAYOUTS[rule.layout][1](np.broadcast_to(np.float32(0), shape)).shape


def _ignored(names: Names, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in names.IGNORE)


def _closest(matches: list[str]) -> str:
    return f" (closest: {matches[0]!r})" if matches else ""


def _report(names: Names, faults: list[str]) -> None:
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        what = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise UserError(f"{names.MODEL}: {what} in the tensors: {'; '.join(faults[:_SHOWN])}{more}")
