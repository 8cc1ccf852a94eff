"""One file against a server that drops, truncates, refuses, replaces and lies."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ecgjax import __version__
from ecgjax.data.download import client as client_module
from ecgjax.data.download.client import Client, mirrors_from
from ecgjax.data.download.remote_file import RemoteFile
from ecgjax.data.download.transfer import download, verified
from ecgjax.errors import UserError
from tests.data.download.published import LARGE, SMALL, URL, leftovers, published
from tests.data.download.server import Clock, Fault, Server

OPENSSL = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout"


def test_plain(server: Server, client: Client, tmp_path: Path) -> None:
    server.add(URL, SMALL)
    counts: list[int] = []
    download(client, published(SMALL), tmp_path / "deep" / "file.bin", counts.append)
    assert (tmp_path / "deep" / "file.bin").read_bytes() == SMALL
    assert leftovers(tmp_path / "deep") == []
    assert sum(counts) == len(SMALL)
    assert server.requests[0].headers["User-Agent"] == f"ecgjax/{__version__}"
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("kind", ["reset", "end"])
def test_broken_connections_go_on_where_they_broke(server, client, clock, tmp_path, kind) -> None:
    # More breaks than attempts in a row are allowed: each gets further, so it goes on.
    cuts = [Fault(kind, 250_000) for _ in range(client_module.ATTEMPTS + 2)]
    server.add(URL, LARGE, *cuts)
    download(client, published(LARGE), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE
    assert leftovers(tmp_path) == []
    starts = [int(request.headers["Range"][6:-1]) for request in server.requests[1:]]
    assert len(starts) == len(cuts)
    assert starts == sorted(starts)
    assert starts[-1] > 1_000_000
    assert all(request.headers["If-Range"].startswith('"') for request in server.requests[1:])
    if kind == "end":
        assert clock.waits == [0.5] * len(cuts), "the first pause, anew each time"


def test_an_answer_that_never_comes_and_one_without_length(server, client, tmp_path) -> None:
    server.add(URL, SMALL, Fault("silent"), Fault("nameless", 1_000), Fault("nameless"))
    download(client, published(SMALL), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == SMALL


def test_no_published_size_and_no_length(server, client, tmp_path) -> None:
    server.add(URL, LARGE, Fault("nameless"), etag=None)
    download(client, RemoteFile(URL, "file.bin"), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE


def test_busy_servers_are_waited_for(server, client, clock, tmp_path) -> None:
    busy = [Fault("status", code) for code in (500, 502, 503, 504, 408, 202)]
    server.add(URL, SMALL, *busy)
    download(client, published(SMALL), tmp_path / "file.bin")
    assert clock.waits == [0.5, 1, 2, 4, 8, 16], "half of the pause is jitter, here 0"


def test_jitter_spreads_the_pauses(server, clock, tmp_path) -> None:
    server.add(URL, SMALL, Fault("status", 503))
    download(Client(server.mirrors, clock.wait, clock.now, lambda: 0.5), published(SMALL), tmp_path / "file.bin")
    assert clock.waits == [0.75]


@pytest.mark.parametrize("value", ["37", "Mon, 12 Jan 1970 13:47:17 GMT"])
def test_retry_after_is_obeyed_by_all_threads(server, client, clock, tmp_path, value) -> None:
    server.add(URL, SMALL, Fault("status", 429, {"Retry-After": value}))
    began = clock.time
    download(client, published(SMALL), tmp_path / "file.bin")
    assert clock.waits == [37.0]
    clock.time = began + 10  # another thread, 10 s after the answer
    download(client, published(SMALL), tmp_path / "other.bin")
    assert clock.waits[1:] == [27.0]


@pytest.mark.parametrize("value", ["soon", "-1", "", "99999999999999999999999"])
def test_strange_retry_after(server, client, clock, tmp_path, value) -> None:
    server.add(URL, SMALL, Fault("status", 503, {"Retry-After": value}))
    if value.startswith("999"):
        with pytest.raises(UserError, match="asks to come back in"):
            download(client, published(SMALL), tmp_path / "file.bin")
    else:
        download(client, published(SMALL), tmp_path / "file.bin")
        assert clock.waits == [0.5]


def test_given_up_after_failures_in_a_row(server, client, clock, tmp_path) -> None:
    server.add(URL, SMALL, *[Fault("status", 503)] * 20)
    with pytest.raises(UserError, match=f"{URL}: the server answers 503, 8 times in a row; start"):
        download(client, published(SMALL), tmp_path / "file.bin")
    assert len(server.requests) == 8
    assert max(clock.waits) <= 60


def test_a_server_that_always_starts_over_is_given_up(server, client, tmp_path) -> None:
    # It ignores ranges and always ends at the same byte: that is no progress.
    server.ignore = ("Range",)
    server.add(URL, LARGE, *[Fault("end", 200_000)] * 50)
    with pytest.raises(UserError, match="8 times in a row"):
        download(client, published(LARGE), tmp_path / "file.bin")
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "refuses access"), (403, "refuses access"), (404, "not there"), (410, "not there"), (418, "answers 418")],
)
def test_hopeless_answers_are_not_repeated(server, client, tmp_path, status, reason) -> None:
    server.add(URL, SMALL, Fault("status", status))
    with pytest.raises(UserError, match=f"^{URL}.*{reason}"):
        download(client, published(SMALL), tmp_path / "file.bin")
    assert len(server.requests) == 1
    assert not (tmp_path / "file.bin").exists()


def test_wrong_content_is_fetched_once_more(server, client, tmp_path) -> None:
    server.add(URL, SMALL, Fault("wrong"))
    counts: list[int] = []
    download(client, published(SMALL), tmp_path / "file.bin", counts.append)
    assert (tmp_path / "file.bin").read_bytes() == SMALL
    assert len(server.requests) == 2
    assert sum(counts) == len(SMALL)


def test_wrong_checksum_twice(server, client, tmp_path) -> None:
    server.add(URL, SMALL)
    file = RemoteFile(URL, "a/file.bin", len(SMALL), f"md5:{'0' * 32}")
    with pytest.raises(UserError) as caught:
        download(client, file, tmp_path / "file.bin")
    found = hashlib.md5(SMALL).hexdigest()
    message = str(caught.value)
    assert message.startswith(f"a/file.bin: expected md5 {'0' * 32}, found {found}, twice")
    assert "\n" not in message
    assert len(server.requests) == 2
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_noticed_before_the_body(server, client, tmp_path) -> None:
    server.add(URL, SMALL, Fault("short", 4_000), Fault("short", 4_000))
    with pytest.raises(UserError, match=r"file.bin: expected 5,000 bytes, found 4,000, twice"):
        download(client, published(SMALL), tmp_path / "file.bin")


def test_a_short_file_without_published_size_fails_its_checksum(server, client, tmp_path) -> None:
    server.add(URL, SMALL, Fault("short", 4_000))
    file = RemoteFile(URL, "file.bin", None, published(SMALL).checksum)
    download(client, file, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == SMALL


def test_encoded_answers_are_decoded(server, client, tmp_path) -> None:
    server.add(URL, LARGE, Fault("gzip"))
    download(client, published(LARGE), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == LARGE


def test_redirects(server, client, tmp_path) -> None:
    server.figshare(1, 1, {"x": SMALL})
    url = "https://ndownloader.figshare.com/files/100"
    download(client, published(SMALL, url), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == SMALL
    server.resources[
        "ndownloader.figshare.com/files/100"
    ].location = f"{server.base}/ndownloader.figshare.com/files/100"
    with pytest.raises(UserError, match="redirects"):
        download(client, published(SMALL, url), tmp_path / "other.bin")


def test_connections_are_kept(server, client, tmp_path) -> None:
    for i in range(5):
        server.add(f"https://zenodo.org/{i}", SMALL)
        download(client, published(SMALL, f"https://zenodo.org/{i}"), tmp_path / str(i))
    assert len({request.connection for request in server.requests}) == 1


@pytest.mark.parametrize("url", ["http://zenodo.org/x", "file:///etc/passwd", "ftp://zenodo.org/x", "", "https://[::1"])
def test_only_https(server, client, tmp_path, url) -> None:
    with pytest.raises(UserError):
        download(client, RemoteFile(url, "file.bin"), tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


def test_no_server(clock, tmp_path) -> None:
    client = Client({"https://zenodo.org": "http://127.0.0.1:9"}, clock.wait, clock.now)
    with pytest.raises(UserError, match="Connection refused") as caught:
        download(client, published(SMALL), tmp_path / "file.bin")
    assert "\n" not in str(caught.value)
    assert len(clock.waits) == 7


def test_mirrors(monkeypatch) -> None:
    text = "https://physionet.org/files=http://127.0.0.1:1/p  https://zenodo.org=https://mirror.example"
    assert mirrors_from(text) == {
        "https://physionet.org/files": "http://127.0.0.1:1/p",
        "https://zenodo.org": "https://mirror.example",
    }
    for bad in ("physionet.org=https://x", "https://physionet.org", "https://a=ftp://b"):
        with pytest.raises(UserError, match=r"ECGJAX_DOWNLOAD_MIRROR: .*; expected https://HOST"):
            mirrors_from(bad)
    monkeypatch.setenv("ECGJAX_DOWNLOAD_MIRROR", text)
    client = Client()
    assert client._address("https://physionet.org/files/a b") == "http://127.0.0.1:1/p/a b"
    assert client._address("https://zenodo.org.evil/x") == "https://zenodo.org.evil/x", "not another host's"


def test_proxies_of_the_environment(server, clock, monkeypatch, tmp_path) -> None:
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.base)
    server.add("https://zenodo.org/file.bin", SMALL)
    client = Client({"https://zenodo.org": "http://nowhere.invalid/zenodo.org"}, clock.wait, clock.now)
    download(client, published(SMALL), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == SMALL


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with the openssl program")
def test_certificates_are_checked(clock, tmp_path) -> None:
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            *["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout"],
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server()
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    with server:
        client = Client({"https://zenodo.org": f"https://127.0.0.1:{server.port}"}, clock.wait, clock.now)
        with pytest.raises(UserError, match="certificate is not trusted"):
            download(client, published(SMALL), tmp_path / "file.bin")


def test_a_full_disk_is_one_line(server, client, tmp_path, monkeypatch) -> None:
    server.add(URL, SMALL)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"file\.bin: no space left to write"):
        download(client, published(SMALL), tmp_path / "file.bin")


def test_verified(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    assert not verified(path, published(SMALL))
    path.write_bytes(SMALL)
    assert verified(path, published(SMALL))
    assert verified(path, RemoteFile(URL, "file.bin", len(SMALL)))
    assert not verified(path, RemoteFile(URL, "file.bin"))
    path.write_bytes(SMALL[:-1] + b"?")
    assert not verified(path, published(SMALL))


def test_clock_is_injected(clock: Clock) -> None:
    clock.wait(3)
    assert clock.now() == 1_000_003
