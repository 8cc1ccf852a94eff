"""What the command prints: a checkpoint's wrapper keys and tensors (their data is not read), a conversion's result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convert_weights.pickle_values import Name, Placeholder
from convert_weights.reader import Checkpoint
from convert_weights.tensors import Tensor

_LONGEST = 100
_MOST_KEYS = 50


def lines(checkpoint: Checkpoint) -> Iterator[str]:
    """The listing, line by line."""
    yield f"{checkpoint.path.name}: {checkpoint.kind}, {checkpoint.nbytes:,} bytes"
    contents = checkpoint.contents
    if isinstance(contents, dict) and "" not in checkpoint.groups:
        for key, value in list(contents.items())[:_MOST_KEYS]:
            yield f"  {printable(str(key))}: {describe(value)}"
        if len(contents) > _MOST_KEYS:
            yield f"  ... and {len(contents) - _MOST_KEYS} more keys"
    elif not isinstance(contents, dict):
        yield f"  {describe(contents)}"
    for group, tensors in checkpoint.groups.items():
        dense = [tensor for tensor in tensors.values() if isinstance(tensor, Tensor)]
        values = sum(tensor.size for tensor in dense)
        yield f"{printable(group) or 'top level'}: {len(tensors)} tensors, {values:,} values"
        width = min(max(len(printable(name)) for name in tensors), 60)
        for name, tensor in tensors.items():
            what = (
                f"{tensor.dtype.name} {list(tensor.shape)}"
                if isinstance(tensor, Tensor)
                else f"{tensor.reason}: cannot be read"
            )
            yield f"  {printable(name) or '(the file itself)':{width}}  {what}"
    if not checkpoint.groups:
        yield "no tensors"


def describe(value: Any) -> str:
    """One line about a value that is no tensor."""
    match value:
        case Placeholder():
            return f"{printable(str(value.name))} (an object, kept closed)"
        case Name():
            return f"{printable(str(value))} (a name, not looked up)"
        case dict() | list() | tuple() | set() | frozenset():
            return f"{type(value).__name__} of {len(value)}"
        case bool() | int() | float() | None:
            return str(value) if not isinstance(value, int) or abs(value) < 10**60 else "a huge number"
        case str():
            return repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "...")
        case bytes():
            return f"{len(value)} bytes"
        case _:
            return type(value).__name__.lower()


def printable(name: str, longest: int | None = _LONGEST) -> str:
    """A name without anything that a terminal would act on."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return shown if longest is None or len(shown) <= longest else shown[:longest] + "..."


def card_lines(card: dict[str, Any], out: Path) -> Iterator[str]:
    """What a conversion prints of the card it wrote."""
    source = card["source"]
    yield f"{source['file']}: {source['kind']}, SHA-256 {source['sha256']}"
    if source["known_as"]:
        yield f"  {source['known_as']}"
    where = f"under {source['group']}" if source["group"] else "at the top level"
    yield f"  {source['tensors']} tensors {where}" + (
        f", prefix {source['prefix']!r} taken off" if source["prefix"] else ""
    )
    for what, names in (
        ("without that prefix, left alone", source["outside_prefix"]),
        ("the model is also there as", source["alternatives"]),
        ("other tensors, left alone", source["other_groups"]),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            yield f"  {what}: {', '.join(printable(name) for name in names[:5])}{more}"
    check = card["self_check"]
    yield f"{out}: {card['model']}, {card['tensors']} tensors, {card['parameters']:,} parameters"
    pooled = ", ".join(f"{value:.5f}" for value in check["pooled"][:4])
    yield f"  self-check: pooled features {pooled} ..., rms {check['pooled_rms']:.5f}"
