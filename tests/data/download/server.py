"""A local HTTP server with ranges and validators that misbehaves as told, and publishers' sites made of it."""

import gzip
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

HOSTS = ("physionet.org", "api.figshare.com", "ndownloader.figshare.com", "zenodo.org", "raw.githubusercontent.com")


@dataclass
class Fault:
    """One misbehaviour, used up by one request.

    kind: "status" (answers `value`), "reset" (the connection breaks after `value` bytes of the body), "end" (it is
    closed in order after `value` bytes), "short" (says and sends only `value` bytes), "wrong" (the first byte is
    another), "whole" (ignores the range), "nameless" (no length, no validators), "gzip", "replaced" (the file is from
    now on `content`), "other range" (answers 206 from another byte), "silent" (closes without an answer).
    """

    kind: str
    value: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass
class Resource:
    content: bytes
    etag: str | None
    modified: str | None = None
    location: str | None = None
    faults: deque[Fault] = field(default_factory=deque)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    connection: tuple[str, int]


class Server:
    """Serves `resources` on 127.0.0.1 while used as a context manager."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.ignore: tuple[str, ...] = ()  # headers of requests
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *about: None  # clients that are killed break connections too
        self.port = self._http.server_address[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.mirrors = {f"https://{host}": f"{self.base}/{host}" for host in HOSTS}

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def add(self, url: str, content: bytes, *faults: Fault, **more) -> Resource:
        """Serves `content` at an https address of one of the hosts."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        resource = Resource(content, **{"etag": etag, **more}, faults=deque(faults))
        self.resources[url.removeprefix("https://")] = resource
        return resource

    def fetched(self, text: str = "") -> list[Request]:
        return [request for request in self.requests if text in request.path]

    def physionet(self, project: str, version: str, folder: Path, prefix: str = "") -> None:
        """A project with the files of `folder`."""
        lines = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = prefix + path.relative_to(folder).as_posix()
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}\n")
            self.add(f"https://physionet.org/files/{project}/{version}/{name}", path.read_bytes())
        sums = f"https://physionet.org/files/{project}/{version}/SHA256SUMS.txt"
        before = self.resources.get(sums.removeprefix("https://"))
        self.add(sums, (before.content if before else b"") + "".join(lines).encode())

    def figshare(self, article: int, version: int | None, files: Mapping[str, bytes]) -> None:
        """An article; its download addresses redirect, as figshare's do."""
        entries = []
        for number, (name, content) in enumerate(files.items(), article * 100):
            entries.append(
                {
                    "id": number,
                    "name": name,
                    "size": len(content),
                    "is_link_only": False,
                    "download_url": f"https://ndownloader.figshare.com/files/{number}",
                    "supplied_md5": "",
                    "computed_md5": hashlib.md5(content).hexdigest(),
                    "mimetype": "application/octet-stream",
                }
            )
            self.resources[f"ndownloader.figshare.com/files/{number}"] = Resource(
                b"", None, location=f"{self.base}/s3/{number}"
            )
            self.add(f"https://s3/{number}", content)
        where = f"articles/{article}" + (f"/versions/{version}" if version else "")
        self.add(f"https://api.figshare.com/v2/{where}/files?page=1&page_size=100", json.dumps(entries).encode())

    def figshare_collection(self, number: int, version: int, articles: list[int]) -> None:
        api = f"https://api.figshare.com/v2/collections/{number}"
        self.add(api, json.dumps({"id": number, "version": version, "articles_count": len(articles)}).encode())
        for page in range(1, len(articles) // 100 + 2):
            entries = [{"id": article, "title": "x"} for article in articles[(page - 1) * 100 : page * 100]]
            self.add(f"{api}/articles?page={page}&page_size=100", json.dumps(entries).encode())

    def zenodo(self, record: int, files: Mapping[str, bytes]) -> None:
        entries = []
        for name, content in files.items():
            address = f"https://zenodo.org/api/records/{record}/files/{quote(name)}/content"
            entries.append(
                {
                    "id": "0",
                    "key": name,
                    "size": len(content),
                    "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                    "links": {"self": address},
                }
            )
            self.add(address, content)
        self.add(f"https://zenodo.org/api/records/{record}", json.dumps({"id": record, "files": entries}).encode())


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.time, self.waits = 1_000_000.0, []
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> None:
        with self._lock:
            self.waits.append(seconds)
            self.time += seconds

    def now(self) -> float:
        return self.time


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.owner
        path = re.sub("^http://[^/]*", "", self.path).lstrip("/")  # a proxy gets whole addresses
        resource = owner.resources.get(path) or owner.resources.get(unquote(path))
        with owner.lock:
            owner.requests.append(Request(unquote(path), dict(self.headers), self.client_address))
            owner.open += 1
            owner.most_open = max(owner.most_open, owner.open)
            fault = resource.faults.popleft() if resource and resource.faults else None
        for name in owner.ignore:
            del self.headers[name]
        try:
            self._answer(resource, fault or Fault("none"))
        finally:
            with owner.lock:
                owner.open -= 1

    def _answer(self, resource: Resource | None, fault: Fault) -> None:
        if resource is None:
            return self._send(404, {}, b"nothing here")
        if fault.kind == "silent":
            self.close_connection = True
            return None
        if fault.kind == "status":
            return self._send(fault.value, fault.headers, b"<html>busy</html>")
        if resource.location:
            return self._send(302, {"Location": resource.location}, b"")
        if fault.kind == "replaced":
            resource.content = fault.content
            resource.etag = f'"{hashlib.sha256(fault.content).hexdigest()[:16]}"' if resource.etag else None
        content, headers = resource.content, {"Accept-Ranges": "bytes"}
        if resource.etag:
            headers["ETag"] = resource.etag
        if resource.modified:
            headers["Last-Modified"] = resource.modified
        if fault.kind == "wrong":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault.kind == "nameless":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: fault.value or None])
            self.close_connection = True
            return None
        if fault.kind == "gzip":
            return self._send(200, {**headers, "Content-Encoding": "gzip"}, gzip.compress(content))
        if fault.kind == "short":
            return self._send(200, headers, content[: fault.value])
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if wanted and fault.kind != "whole" and condition in (None, resource.etag, resource.modified):
            start, status = int(wanted[1]), 206
            if start >= len(content):
                return self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            start -= fault.kind == "other range"
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(status, headers, content[start:], fault)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault = Fault("none")) -> None:  # noqa: B008
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.kind in ("reset", "end"):
            self.wfile.write(body[: fault.value])
            self.wfile.flush()
            self.close_connection = True
            if fault.kind == "reset":
                # Without lingering, closing resets the connection; the client needs a moment to read what came before.
                time.sleep(0.03)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            return
        self.wfile.write(body)
