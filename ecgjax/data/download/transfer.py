"""One file from a server to the disk: resumed, verified, whole or absent."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests

from ecgjax.data.download.client import Client, TransientError
from ecgjax.data.download.remote_file import RemoteFile
from ecgjax.errors import UserError, disk_errors

_WORTH_RESUMING = 1 << 20  # bytes; a smaller file is fetched anew by the next process

Report = Callable[[int], None]
"""Is told how many more bytes (fewer, if negative) are there."""


class _WrongContentError(Exception):
    """What arrived is not what was published."""


def download(client: Client, file: RemoteFile, target: Path, report: Report = lambda count: None) -> None:
    """Fetches `file` to `target` by way of TARGET.part; goes on where an earlier attempt or process stopped.

    Raises:
        UserError: the server, the checksum (twice) or the disk does not allow it.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            part = _Part(target, file, report)
            try:
                client.patiently(file.url, partial(_attempt, client, file, part), part.progressed)
                part.verify()
            except _WrongContentError as error:
                part.discard()
                if last:
                    raise UserError(
                        f"{file.name}: {error}, twice; fetch {file.url} by hand to {target} if the publisher has "
                        "replaced it"
                    ) from error
            else:
                part.commit(target)
                return


def verified(path: Path, file: RemoteFile) -> bool:
    """Whether the file at `path` is the published one; a file without published checksum and size never is."""
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    if file.checksum is None:
        return file.size is not None
    algorithm, _, expected = file.checksum.partition(":")
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected


class _Part:
    """The beginning of a file, what the server said of it, and its running checksum."""

    def __init__(self, target: Path, file: RemoteFile, report: Report) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._file, self._report = file, report
        self._hash: Any = None
        self.seen: dict[str, Any] = {}
        self.size = self._furthest = 0
        self._reset()
        self._resume()

    def _reset(self) -> None:
        self._hash = hashlib.new(self._file.checksum.partition(":")[0]) if self._file.checksum else None

    def _resume(self) -> None:
        try:
            seen = json.loads(self._note.read_text(encoding="utf-8"))
            if not isinstance(seen, dict) or seen.get("url") != self._file.url:
                return
            with open(self.path, "rb") as stream:
                while piece := stream.read(1 << 20):
                    self._count(piece)
        except (OSError, ValueError):
            return
        self.seen = seen
        self._furthest = self.size

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
        self._report(len(piece))

    def discard(self) -> None:
        """Forgets what is there."""
        self._report(-self.size)
        self.size, self.seen = 0, {}
        self._reset()
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def begin(self, seen: dict[str, Any], length: int | None) -> None:
        """Starts anew with what the server now says of the file."""
        self.discard()
        self.seen = seen
        if length is None or length > _WORTH_RESUMING:
            self._note.write_text(json.dumps(seen), encoding="utf-8")

    @contextmanager
    def writing(self) -> Iterator[Callable[[bytes], None]]:
        """Yields a function that appends; what was appended is on the disk afterwards, whatever happens."""
        with open(self.path, "ab") as stream:
            stream.truncate(self.size)

            def append(piece: bytes) -> None:
                stream.write(piece)
                self._count(piece)

            try:
                yield append
            finally:
                stream.flush()
                os.fsync(stream.fileno())

    def progressed(self) -> bool:
        """Whether more is there than ever before; a server that starts over each time makes no progress."""
        further = self.size > self._furthest
        self._furthest = max(self._furthest, self.size)
        return further

    def verify(self) -> None:
        """Raises `_WrongContentError` unless size and checksum are the published ones."""
        if self._file.size is not None and self.size != self._file.size:
            raise _WrongContentError(f"expected {self._file.size:,} bytes, found {self.size:,}")
        if self._hash is not None and self._file.checksum is not None:
            algorithm, _, expected = self._file.checksum.partition(":")
            if self._hash.hexdigest() != expected:
                raise _WrongContentError(f"expected {algorithm} {expected}, found {self._hash.hexdigest()}")

    def commit(self, target: Path) -> None:
        """Gives the file its name."""
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)


def _attempt(client: Client, file: RemoteFile, part: _Part) -> None:
    if part.size and part.size == (part.seen.get("length") or file.size):
        return
    with client.open(file.url, _range_headers(part)) as response:
        length = _begin_or_go_on(response, file, part)
        with part.writing() as append:
            for piece in client.chunks(response):
                append(piece)
                if length is not None and part.size > length:
                    raise _WrongContentError(f"expected {length:,} bytes, found more")
    if length is not None and part.size < length:
        raise TransientError(f"the connection ended after {part.size:,} of {length:,} bytes")


def _range_headers(part: _Part) -> dict[str, str]:
    if not part.size:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    # A weak ETag does not vouch for every byte and may not be sent here.
    etag = part.seen.get("etag") or ""
    validator = etag if etag and not etag.startswith("W/") else part.seen.get("modified")
    if validator:
        headers["If-Range"] = str(validator)
    return headers


def _begin_or_go_on(response: requests.Response, file: RemoteFile, part: _Part) -> int | None:
    """Prepares `part` for the body that follows; returns the length of the whole file if known."""
    encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
    seen: dict[str, Any] = {"url": file.url, "length": None}
    seen["etag"], seen["modified"] = response.headers.get("ETag"), response.headers.get("Last-Modified")
    if response.status_code == 200:
        declared = None if encoded else _number(response.headers.get("Content-Length"))
        if declared is not None and file.size is not None and declared != file.size:
            raise _WrongContentError(f"expected {file.size:,} bytes, found {declared:,}")
        seen["length"] = declared
        # Encoded bytes cannot be resumed: without a note the next process starts anew, and so does the next attempt.
        part.begin(seen, 0 if encoded else declared)
        return declared if declared is not None else file.size
    start, total = _content_range(response.headers.get("Content-Range"))
    seen["length"] = total
    same = all(seen[key] == part.seen.get(key) for key in ("etag", "modified", "length") if seen[key] is not None)
    if response.status_code == 416 or start != part.size or encoded or not same:
        part.discard()
        raise TransientError("the file on the server is not the one that was begun")
    return total if total is not None else file.size


def _content_range(value: str | None) -> tuple[int | None, int | None]:
    """First byte and total length of "bytes 5-9/10"; None where absent or unknown."""
    match = re.fullmatch(r"\s*bytes\s+(\d{1,18})-\d{1,18}/(\d{1,18}|\*)\s*", value or "", re.ASCII)
    return (int(match[1]), _number(match[2])) if match else (None, None)


def _number(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch("[0-9]{1,18}", value) else None
