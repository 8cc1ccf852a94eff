"""One file whose download was broken off: what is there is used if it can be trusted."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecgjax.data.download.client import Client
from ecgjax.data.download.remote_file import RemoteFile
from ecgjax.data.download.transfer import download
from tests.data.download.published import LARGE, SMALL, URL, leftovers, published
from tests.data.download.server import Fault, Server


def begun(folder: Path, content: bytes, seen: dict | None = None) -> None:
    """What an earlier process left."""
    (folder / "file.bin.part").write_bytes(content)
    note = {"url": URL, "length": len(LARGE), "etag": f'"{hashlib.sha256(LARGE).hexdigest()[:16]}"', "modified": None}
    (folder / "file.bin.part.json").write_text(json.dumps({**note, **(seen or {})}))


def test_another_process_goes_on(server, client, tmp_path) -> None:
    server.add(URL, LARGE)
    begun(tmp_path, LARGE[:1_234_567])
    counts: list[int] = []
    download(client, published(LARGE), tmp_path / "file.bin", counts.append)
    assert (tmp_path / "file.bin").read_bytes() == LARGE
    assert leftovers(tmp_path) == []
    assert [request.headers["Range"] for request in server.requests] == ["bytes=1234567-"]
    assert sum(counts) == len(LARGE)


def test_a_complete_part_needs_no_request(server, client, tmp_path) -> None:
    begun(tmp_path, LARGE)
    download(client, published(LARGE), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE
    assert server.requests == []


def test_a_damaged_part_is_noticed(server, client, tmp_path) -> None:
    server.add(URL, LARGE)
    begun(tmp_path, b"x" * 1_000_000)
    download(client, published(LARGE), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE
    assert [request.headers.get("Range") for request in server.requests] == ["bytes=1000000-", None]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": "https://zenodo.org/other"}', "{"])
def test_a_part_without_history_is_not_trusted(server, client, tmp_path, note) -> None:
    server.add(URL, LARGE)
    (tmp_path / "file.bin.part").write_bytes(LARGE[:100])
    (tmp_path / "file.bin.part.json").write_text(note)
    download(client, published(LARGE), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE
    assert "Range" not in server.requests[0].headers


@pytest.mark.parametrize("kind", ["whole", "other range"])
def test_ranges_that_are_ignored_or_wrong(server, client, tmp_path, kind) -> None:
    server.add(URL, LARGE, Fault(kind))
    begun(tmp_path, LARGE[:1_000_000])
    download(client, published(LARGE), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE


@pytest.mark.parametrize("etag", [True, False])
def test_a_file_that_changes_between_attempts_starts_anew(server, client, tmp_path, etag) -> None:
    # Without a checksum only the validators, or the new length, tell.
    new = LARGE[::-1] + b"longer"
    more = {} if etag else {"etag": None}
    server.add(URL, LARGE, Fault("end", 1_500_000), Fault("replaced", content=new), **more)
    download(client, RemoteFile(URL, "file.bin"), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == new


def test_a_file_that_changes_behind_a_server_without_if_range(server, client, tmp_path) -> None:
    new = LARGE[::-1]
    resource = server.add(URL, new, modified="x")
    resource.etag = None
    begun(tmp_path, LARGE[:1_000_000], {"etag": None, "modified": "y"})
    server.ignore = ("If-Range",)
    download(client, RemoteFile(URL, "file.bin"), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == new


def test_last_modified_stands_in_for_a_weak_etag(server, client, tmp_path) -> None:
    date = "Sat, 01 Jan 2022 00:00:00 GMT"
    server.add(URL, LARGE, Fault("end", 1_500_000), etag='W/"weak"', modified=date)
    download(client, published(LARGE), tmp_path / "file.bin")
    assert server.requests[1].headers["If-Range"] == date


def test_416_starts_anew(server, client, tmp_path) -> None:
    server.add(URL, SMALL)
    begun(tmp_path, LARGE[: len(SMALL)], {"etag": None, "length": None})
    download(client, RemoteFile(URL, "file.bin", None, published(SMALL).checksum), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == SMALL
    assert server.requests[0].headers["Range"] == "bytes=5000-"
    assert "Range" not in server.requests[1].headers


def test_killed_process_loses_little(server, tmp_path) -> None:
    """SIGKILL in the middle of the body; the next process asks for the rest only."""
    server.add(URL, LARGE)
    slow = threading_gate(server, after=2_000_000)
    file = published(LARGE)
    code = (
        "from pathlib import Path\nfrom ecgjax.data.download.client import Client\n"
        "from ecgjax.data.download.remote_file import RemoteFile\nfrom ecgjax.data.download.transfer import download\n"
        f"download(Client({server.mirrors!r}), {file!r}, Path({str(tmp_path / 'file.bin')!r}))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "file.bin.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    slow.set()
    kept = part.stat().st_size
    assert 1_000_000 <= kept < len(LARGE)
    download(Client(server.mirrors), file, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE
    assert server.requests[-1].headers["Range"] == f"bytes={kept}-"


def threading_gate(server: Server, after: int):
    """Makes the first body stop after some bytes until the returned event is set."""
    import threading

    gate = threading.Event()
    original = server._http.RequestHandlerClass._send

    def halting(self, status, headers, body, fault=Fault("none")):  # noqa: B008
        if gate.is_set() or len(body) <= after:
            return original(self, status, headers, body, fault)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:after])
        self.wfile.flush()
        gate.wait(30)
        self.close_connection = True
        return None

    server._http.RequestHandlerClass._send = halting
    return gate
