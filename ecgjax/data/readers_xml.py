"""XML files of ECG carts: parsed without entities, without network and within bounds.

A document type is tolerated, because MUSE files have one, but never fetched. Declared entities, tags of more than a
megabyte, files of more than `LARGEST_FILE` bytes and documents of more than `MOST_ELEMENTS` elements are refused.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from ecgjax.errors import UserError

LARGEST_FILE = 2**24
MOST_ELEMENTS = 200_000
_DEEPEST = 100
_LONGEST_TAG = 2**20
_CHUNK = 2**16


class _FoundError(Exception):
    pass


def root_name(path: Path) -> str | None:
    """Name of the root element without its namespace, or None if the file does not begin like XML."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _root_name(str(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _root_name(path: str, modified: int, size: int) -> str | None:
    """Remembered, because each of the XML formats asks. `modified` and `size` tell when the answer is out of date."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        head = file.read(_CHUNK)
    if head[:1] not in (b"<", b"\xef", b"\xff", b"\xfe") and not head.lstrip().startswith(b"<"):
        return None
    parser = expat.ParserCreate(namespace_separator="}")
    found: list[str] = []

    def start(name: str, attributes: object) -> None:
        found.append(name.rpartition("}")[2])
        raise _FoundError

    def refuse(*declaration: object) -> None:
        raise _FoundError

    parser.StartElementHandler = start
    parser.EntityDeclHandler = refuse
    with contextlib.suppress(expat.ExpatError, _FoundError, ValueError, LookupError):
        parser.Parse(head.lstrip() if head[:1].isspace() else head, False)
    return found[0] if found else None


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree without namespaces; refuses what grows out of bounds."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.elements = self.depth = 0

    def start(self, tag: str, attributes: dict[Any, Any], /) -> ElementTree.Element:
        self.elements += 1
        self.depth += 1
        if self.elements > MOST_ELEMENTS or self.depth > _DEEPEST:
            raise UserError(f"{self.path}: more than {MOST_ELEMENTS} elements or {_DEEPEST} levels; expected one ECG")
        local = {name.rpartition("}")[2]: value for name, value in attributes.items()}
        return super().start(tag.rpartition("}")[2], local)

    def end(self, tag: str, /) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag.rpartition("}")[2])


def parse(path: Path, what: str) -> ElementTree.Element:
    """The root element of a file, names without namespaces.

    Args:
        path: the file.
        what: the format, to be named in an error.

    Raises:
        UserError: defusedxml is not installed, or the file is no XML, declares entities or is out of bounds.
    """
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser
    except ImportError as error:
        raise UserError(
            f"{path}: reading {what} needs defusedxml; install it with: pip install 'ecgjax[formats]'"
        ) from error
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise UserError(f"{path}: {size} bytes; expected {what} of at most {LARGEST_FILE}")
    parser = DefusedXMLParser(target=_Builder(path))
    read = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                chunk = chunk.lstrip() if read == 0 and chunk[:1].isspace() else chunk
                read += len(chunk)
                parser.feed(chunk)
                # expat hands text on in pieces, but keeps a tag until its end.
                if read - parser.parser.CurrentByteIndex > _LONGEST_TAG:
                    raise UserError(f"{path}: a tag of more than {_LONGEST_TAG} bytes; expected {what}")
        root: ElementTree.Element = parser.close()
    except UserError:
        raise
    except DefusedXmlException as error:
        raise UserError(f"{path}: declares entities or refers to other files; expected {what} without") from error
    except (ElementTree.ParseError, ValueError, LookupError, AssertionError) as error:
        raise UserError(f"{path}: damaged or not {what} ({' '.join(str(error).split())})") from error
    return root


def text(element: ElementTree.Element | None, path: str = ".") -> str:
    """Text at `path` below an element, with single blanks; "" if there is none."""
    found = None if element is None else element.find(path)
    return "" if found is None else " ".join((found.text or "").split())


def number(element: ElementTree.Element | None, path: str = ".") -> float | None:
    """The finite number at `path` below an element, or None."""
    return as_number(text(element, path))


def as_number(value: str) -> float | None:
    """The finite number that `value` writes, or None."""
    try:
        result = float(value)
    except ValueError:
        return None
    return result if np.isfinite(result) else None


def numbers(values: str, separator: str | None, what: str) -> np.ndarray:
    """A long list of numbers as float64, converted in pieces to hold no list of a million strings.

    Args:
        values: the text.
        separator: "," or None for white space.
        what: what to name in an error.

    Raises:
        UserError: something between two separators is not a finite number.
    """
    if separator:
        values = values.strip().removesuffix(separator)
    pieces, start = [], 0
    while start < len(values):
        end = start + _CHUNK
        while end < len(values) and not (values[end] == separator if separator else values[end].isspace()):
            end += 1
        fields = values[start:end].split(separator)
        try:
            pieces.append(np.array([float(field) for field in fields]))
        except ValueError as error:
            raise UserError(f"{what}: {' '.join(str(error).split())}; expected numbers") from error
        start = end + 1
    result = np.concatenate(pieces) if pieces else np.empty(0)
    if not np.isfinite(result).all():
        raise UserError(f"{what}: not all values are finite; expected numbers")
    return result


def age_in_years(value: str, unit: str) -> float | None:
    """Age from a number and a unit such as YEARS, MONTHS, WEEKS, DAYS or HOURS; years if there is no unit."""
    years = as_number(value)
    per_year = {"": 1.0, "y": 1.0, "m": 12.0, "w": 52.18, "d": 365.25, "h": 8766.0}.get(unit.strip().lower()[:1])
    if years is None or per_year is None or not 0 <= years / per_year < 150:
        return None
    return years / per_year


def sex(value: str) -> str | None:
    """Sex as "male" or "female" from what files write (M, F, MALE, Female), or None."""
    return {"m": "male", "male": "male", "f": "female", "female": "female"}.get(value.strip().lower())
