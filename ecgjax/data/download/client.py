"""Polite and patient HTTP: kept connections, a limit per host, back-off, mirrors.

Proxies (HTTPS_PROXY, NO_PROXY) and certificate bundles (REQUESTS_CA_BUNDLE) are taken from the environment;
certificates are always checked.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ecgjax import __version__
from ecgjax.errors import UserError

MIRROR_VARIABLE = "ECGJAX_DOWNLOAD_MIRROR"
"""Environment variable with pairs PREFIX=REPLACEMENT of addresses, separated by blanks."""

ATTEMPTS = 8
"""Failures in a row after which a file is given up."""

_CONNECTIONS = {"physionet.org": 8}
_CONNECTIONS_ELSEWHERE = 4
_TIMEOUT = (15.0, 60.0)
_CHUNK = 1 << 16  # what a connection that is reset loses at most
_LONGEST_PAUSE = 60.0
_LONGEST_REQUESTED_PAUSE = 900.0
# 202 is what figshare's firewall answers before it lets a client through.
_TRANSIENT = {202, 408, 425, 429, 500, 502, 503, 504}

Result = TypeVar("Result")


class TransientError(Exception):
    """An attempt failed in a way that another may not.

    Attributes:
        after: seconds that the server asks to wait, or None.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class StoppedError(Exception):
    """Another thread asked all downloads to end."""


class _Host:
    def __init__(self, connections: int) -> None:
        self.slots = threading.BoundedSemaphore(connections)
        self.not_before = 0.0


class Client:
    """Fetches from any thread.

    Args:
        mirrors: prefix of an address -> what to put in its place; None reads the environment.
        wait: sleeps for the given seconds; for tests.
        clock: seconds since the epoch.
        draw: uniform random number in [0, 1), for the jitter.
    """

    def __init__(
        self,
        mirrors: Mapping[str, str] | None = None,
        wait: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._mirrors = mirrors_from(os.environ.get(MIRROR_VARIABLE, "")) if mirrors is None else dict(mirrors)
        self._stop = threading.Event()
        self._wait, self._clock, self._draw = wait or self._stop.wait, clock, draw
        self._local = threading.local()
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Makes every thread that fetches raise `StoppedError` soon."""
        self._stop.set()

    def check(self) -> None:
        """Raises `StoppedError` after `stop`."""
        if self._stop.is_set():
            raise StoppedError

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[requests.Response]:
        """One attempt to get `url`; yields the answer if its status is 200, 206 or 416.

        Raises:
            TransientError: trying again may help.
            UserError: it will not.
        """
        host = self._host(url)
        self._sleep(host.not_before - self._clock())
        while not host.slots.acquire(timeout=0.2):
            self.check()
        try:
            self.check()
            response = self._request(url, headers or {})
            try:
                _judge(url, response, self._clock())
                yield response
            finally:
                response.close()
        finally:
            host.slots.release()

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The body in pieces.

        Raises:
            TransientError: the connection broke off.
        """
        pieces = response.raw.stream(_CHUNK, decode_content=True)
        while True:
            self.check()
            try:
                piece = next(pieces, None)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise TransientError(_short(error)) from error
            if piece is None:
                return
            yield piece

    def read(self, url: str, limit: int) -> bytes:
        """The whole of a small file, with retries.

        Raises:
            UserError: it cannot be had, or is longer than `limit` bytes.
        """

        def attempt() -> bytes:
            body = bytearray()
            with self.open(url, {"Accept-Encoding": "gzip"}) as response:
                for piece in self.chunks(response):
                    body += piece
                    if len(body) > limit:
                        raise UserError(f"{url}: longer than {limit:,} bytes; expected a list of files")
            return bytes(body)

        return self.patiently(url, attempt)

    def patiently(
        self, url: str, attempt: Callable[[], Result], progressed: Callable[[], bool] = lambda: False
    ) -> Result:
        """Repeats `attempt` with growing pauses while it raises `TransientError`.

        Args:
            url: what it fetches.
            attempt: does it.
            progressed: whether the last attempt got further than any before; failures are then counted anew.

        Raises:
            UserError: too many failures in a row.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures = 1 if progressed() else failures + 1
                if failures >= ATTEMPTS:
                    raise UserError(
                        f"{url}: {error}, {failures} times in a row; start the same command again later, it goes on "
                        "where it stopped"
                    ) from error
                self._pause(url, failures, error.after)

    def _pause(self, url: str, failures: int, after: float | None) -> None:
        if after is not None and after > _LONGEST_REQUESTED_PAUSE:
            raise UserError(f"{url}: the server asks to come back in {after / 60:.0f} minutes; try again then")
        # Half of the pause is random, so that clients that failed together do not come back together.
        delay = min(_LONGEST_PAUSE, 2.0 ** (failures - 1)) * (0.5 + self._draw() / 2)
        if after is not None:
            delay = max(after, delay)
            host = self._host(url)
            host.not_before = max(host.not_before, self._clock() + after)
        self._sleep(delay)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._wait(seconds)
        self.check()

    def _host(self, url: str) -> _Host:
        try:
            name = urlsplit(url).hostname or ""
        except ValueError as error:
            raise UserError(f"{ascii(url)[:200]}: no address; expected https://HOST/PATH") from error
        with self._lock:
            if name not in self._hosts:
                self._hosts[name] = _Host(_CONNECTIONS.get(name, _CONNECTIONS_ELSEWHERE))
            return self._hosts[name]

    def _request(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        address = self._address(url)
        try:
            response = self._session().get(address, headers=dict(headers), stream=True, timeout=_TIMEOUT)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise UserError(
                    f"{url}: the server's certificate is not trusted; behind a proxy with certificates of its own set "
                    "REQUESTS_CA_BUNDLE"
                ) from error
            raise TransientError(_short(error)) from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise TransientError(_short(error)) from error
        except (requests.exceptions.RequestException, ValueError) as error:
            raise UserError(f"{url}: {_short(error)}") from error
        if address.startswith("https:") and not response.url.startswith("https:"):
            response.close()
            raise UserError(f"{url}: the server redirects to an address without encryption")
        return response

    def _address(self, url: str) -> str:
        for prefix in sorted(self._mirrors, key=len, reverse=True):
            if url == prefix or url.startswith(prefix.rstrip("/") + "/"):
                return self._mirrors[prefix].rstrip("/") + url[len(prefix.rstrip("/")) :]
        if not url.startswith("https://"):
            raise UserError(f"{ascii(url)[:200]}: not fetched; expected an https address")
        return url

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.headers["User-Agent"] = f"ecgjax/{__version__}"
            session.headers["Accept-Encoding"] = "identity"
            session.max_redirects = 10
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=1, max_retries=0))
            self._local.session = session
        return session


def mirrors_from(text: str) -> dict[str, str]:
    """Pairs PREFIX=REPLACEMENT, separated by blanks, as a dict.

    Raises:
        UserError: a pair is malformed.
    """
    mirrors = {}
    for pair in text.split():
        prefix, _, replacement = pair.partition("=")
        if not prefix.startswith("https://") or not replacement.startswith(("https://", "http://")):
            raise UserError(f"{MIRROR_VARIABLE}: {pair!r}; expected https://HOST/PATH=https://MIRROR/PATH")
        mirrors[prefix] = replacement
    return mirrors


def _judge(url: str, response: requests.Response, now: float) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    if status in _TRANSIENT:
        raise TransientError(f"the server answers {status}", _retry_after(response.headers.get("Retry-After"), now))
    if status in (401, 403):
        raise UserError(f"{url}: the server refuses access ({status}); is an account or a licence needed?")
    if status in (404, 410):
        raise UserError(f"{url}: not there ({status}); has the publisher moved it?")
    raise UserError(f"{url}: the server answers {status}; expected 200")


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, from a number of seconds or a date."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _short(error: BaseException) -> str:
    """The innermost reason of an error, in one line."""
    reason: BaseException = error
    for _ in range(5):
        inner = getattr(reason, "reason", None) or next((a for a in reason.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text[:200]
