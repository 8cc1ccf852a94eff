"""A file as its publisher lists it, and the rules for names that come from outside."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ecgjax.errors import UserError

STATE_FOLDER = ".download"
"""Folder below raw for what the download remembers; nothing may be fetched or unpacked into it."""

_DIGITS = {"md5": 32, "sha256": 64}


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: where it is.
        name: path relative to raw, in posix form.
        size: in bytes as published, or None.
        checksum: as published, "sha256:HEX" or "md5:HEX", or None.
    """

    url: str
    name: str
    size: int | None = None
    checksum: str | None = None


def safe_name(name: str, source: str) -> str:
    """`name` as a relative posix path that stays below the folder it is joined to.

    Raises:
        UserError: it is absolute, climbs out, is empty or has characters that no file name needs.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    unsafe = (
        not parts
        or name.startswith(("/", "\\"))
        or ".." in parts
        or parts[0] == STATE_FOLDER
        or re.match(r"[A-Za-z]:", name) is not None
        or any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in name)
    )
    if unsafe:
        raise UserError(f"{source}: unsafe file name {name!a}; expected a relative path without '..'")
    return "/".join(parts)


def checked(checksum: str | None, source: str) -> str | None:
    """A published checksum in lower case; None where there is none.

    Raises:
        UserError: it is not the hexadecimal number that its algorithm gives.
    """
    if not checksum:
        return None
    algorithm, _, digest = checksum.lower().partition(":")
    if len(digest) != _DIGITS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digest):
        raise UserError(f"{source}: checksum {ascii(checksum)[:100]} is none; expected md5:HEX or sha256:HEX")
    return f"{algorithm}:{digest}"


def size_in_bytes(value: object, source: str) -> int | None:
    """A published size; None where there is none.

    Raises:
        UserError: it is not a whole number of bytes.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{source}: size {ascii(value)[:100]}; expected a number of bytes")
    return value


def matching(files: Iterable[RemoteFile], patterns: Iterable[str], source: str) -> list[RemoteFile]:
    """Files whose name matches one of the shell patterns, each once.

    Raises:
        UserError: a pattern matches no file: the publisher's layout is not the one that was expected.
    """
    listed = list(files)
    chosen: dict[str, RemoteFile] = {}
    for pattern in patterns:
        found = [file for file in listed if fnmatchcase(file.name, pattern)]
        if not found:
            raise UserError(
                f"{source}: none of its {len(listed)} files is called {pattern}; has the publisher moved it?"
            )
        chosen.update((file.name, file) for file in found)
    return list(chosen.values())
