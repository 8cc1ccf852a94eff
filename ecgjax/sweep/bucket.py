"""Objects below a URL (gs://, s3://, or whatever else fsspec knows), as a sweep needs them.

Credentials, endpoints and the like are the clients' own: GOOGLE_APPLICATION_CREDENTIALS, AWS_PROFILE, AWS_ENDPOINT_URL,
or fsspec's configuration files and FSSPEC_* variables. The clients (gcsfs, s3fs: pip install 'ecgjax[bucket]') try a
request several times where a server answers with 5xx or "slow down", or the connection breaks.

An object is written whole or not at all, and seen at once by all: what Google Cloud Storage and S3 promise. `create`
writes one only if there is none of that name, which both can check by themselves (If-None-Match, ifGenerationMatch).
Some servers that speak S3 leave that out: there, of two at the same moment the later one wins.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from ecgjax.errors import UserError

_MOST_REASON = 200


def is_url(place: object) -> bool:
    """Whether a place is below a URL, and not a folder of this machine."""
    return "://" in str(place)


class Bucket:
    """The objects below a URL; their names are relative to it.

    Args:
        url: such as gs://bucket/folder; nothing is asked of the server yet.

    Raises:
        UserError: (all methods, too) naming the URL: no client for it, no access, no such bucket, no answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it cannot do is raised, and said in one line
        try:
            # Other processes write there, so listings are not kept.
            # Our objects are small: s3fs would ask for the size of each, to read it in parts.
            options = {"max_concurrency": 1} if protocol in ("s3", "s3a") else {}
            self._system = fsspec.filesystem(protocol, use_listings_cache=False, **options)
        except ImportError as error:
            raise UserError(
                f"{self.url}: {protocol}:// needs a client ({' '.join(str(error).split())}); "
                "pip install 'ecgjax[bucket]' for gs:// and s3://"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.url}: {protocol}:// is not known; expected gs://, s3:// or a folder") from error
        self._root = self._system._strip_protocol(self.url)

    def names(self, folder: str = "") -> list[str]:
        """All objects at any depth below a folder, sorted, by one listing."""
        with self._errors(folder):
            self._system.invalidate_cache()
            found = self._system.find(self._path(folder))
        return sorted(self._system._strip_protocol(path)[len(self._root) :].lstrip("/") for path in found)

    def read(self, name: str) -> bytes | None:
        """Content of an object; None if there is none."""
        return self.read_all([name]).get(name)

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Content of those objects that there are, read in parallel."""
        paths = {self._path(name): name for name in names}
        if not paths:
            return {}
        with self._errors(names[0]):
            found = self._system.cat(list(paths), on_error="return")
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {paths[path]: content for path, content in found.items() if isinstance(content, bytes)}

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, over one that is there."""
        with self._errors(name):
            self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bytes:
        """Writes an object unless there is one; returns the content that is there now."""
        with self._errors(name):
            try:
                self._system.pipe_file(self._path(name), content, mode="create")
                return content
            except FileExistsError:  # also if this very request was made before, and its answer was lost
                pass
            except (NotImplementedError, ValueError):  # the server cannot: look, then write
                there = self.read(name)
                if there is not None:
                    return there
                self._system.pipe_file(self._path(name), content)
        there = self.read(name)
        if there is None:
            raise UserError(f"{self.url}/{name}: was there and is not any more; start the same command again")
        return there

    def upload(self, files: Mapping[str, Path]) -> None:
        """Writes files as objects, in parallel."""
        if files:
            with self._errors(next(iter(files))):
                self._system.put([str(path) for path in files.values()], [self._path(name) for name in files])

    def remove(self, names: Sequence[str]) -> None:
        """Removes objects."""
        if names:
            with self._errors(names[0]):
                self._system.rm([self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (UserError, FileExistsError):
            raise
        except Exception as error:  # every client has its own
            raise UserError(f"{self.url}/{name}".rstrip("/") + f": {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:_MOST_REASON] or type(error).__name__
    code: Any = getattr(error, "code", None)
    if isinstance(error, PermissionError) or text.startswith("Forbidden") or code in (401, 403):
        return f"access denied ({text}); expected credentials that may list, read and write there"
    if isinstance(error, FileNotFoundError):
        return f"not there ({text}); expected a bucket that exists"
    if "credentials" in text.lower():
        return f"{text}; expected credentials of this service"
    return f"{type(error).__name__}: {text}; expected a server that answers (start the same command again)"
