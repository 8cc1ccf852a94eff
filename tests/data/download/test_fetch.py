"""Whole downloads: what is fetched, what is not fetched again, what is said."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from rich.console import Console

from ecgjax.data.download import fetch as fetch_module
from ecgjax.data.download import parallel, transfer
from ecgjax.data.download.client import Client
from ecgjax.data.download.fetch import fetch
from ecgjax.data.download.ledger import Ledger
from ecgjax.data.download.origins import ECHONEXT, HEEDB, MIMIC, Credentialed, Figshare, File, PhysioNet, Zenodo
from ecgjax.errors import UserError
from tests.data.download.server import Fault, Server

PROJECT = (PhysioNet("p", "1", ("records500/*", "table.csv")),)


class Screen(Console):
    """A console whose text can be read."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__(file=io.StringIO(), force_terminal=terminal, width=80)

    @property
    def text(self) -> str:
        return self.file.getvalue()


def project(server: Server, folder: Path, count: int = 40) -> dict[str, bytes]:
    files = {f"records500/{i:05d}.dat": f"signal {i}".encode() * 10 for i in range(count)}
    files |= {"table.csv": b"a,b\n", "records100/0.dat": b"not wanted"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    server.physionet("p", "1", folder)
    del files["records100/0.dat"]
    return files


def contents(raw: Path) -> dict[str, bytes]:
    names = (path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())
    return {name: (raw / name).read_bytes() for name in names if not name.startswith(".download/")}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_fetches_what_is_wanted_and_nothing_twice(server, client, tmp_path, terminal) -> None:
    files = project(server, tmp_path / "site")
    raw, screen = tmp_path / "raw", Screen(terminal)
    fetch(PROJECT, raw, console=screen, client=client)
    assert contents(raw) == files
    assert len(server.requests) == len(files) + 1
    assert "41" in screen.text
    if not terminal:
        assert "download: 41/41 files" in screen.text
    server.requests.clear()
    fetch(PROJECT, raw, console=screen, client=client)
    assert server.requests == [], "not even the list"
    assert "all 41 files are there" in screen.text


def test_parallel_and_polite(server, client, tmp_path) -> None:
    original = server._http.RequestHandlerClass._answer

    def slow(self, resource, fault):
        time.sleep(0.005)
        return original(self, resource, fault)

    server._http.RequestHandlerClass._answer = slow
    project(server, tmp_path / "site")
    fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client, threads=16)
    assert 2 <= server.most_open <= 8
    assert len({request.connection for request in server.requests}) <= 17, "connections are kept"


def test_files_that_are_there_already_are_checked_not_fetched(server, client, tmp_path) -> None:
    """As left by wget, or with the ledger lost."""
    files = project(server, tmp_path / "site", 5)
    raw = tmp_path / "raw"
    (raw / "records500").mkdir(parents=True)
    for i in range(4):
        (raw / f"records500/{i:05d}.dat").write_bytes(files[f"records500/{i:05d}.dat"])
    (raw / "records500/00003.dat").write_bytes(b"cut short")
    (raw / "mine.txt").write_text("stays")
    fetch(PROJECT, raw, console=Screen(), client=client)
    assert contents(raw) == files | {"mine.txt": b"stays"}
    asked = {request.path.rsplit("/", 1)[1] for request in server.requests}
    assert asked == {"SHA256SUMS.txt", "00003.dat", "00004.dat", "table.csv"}


def test_touched_and_lost_files_are_noticed(server, client, tmp_path) -> None:
    files = project(server, tmp_path / "site", 3)
    raw = tmp_path / "raw"
    fetch(PROJECT, raw, console=Screen(), client=client)
    server.requests.clear()
    (raw / "table.csv").unlink()
    (raw / "records500/00000.dat").write_bytes(b"x" * len(files["records500/00000.dat"]))
    os.utime(raw / "records500/00001.dat")  # another time, the same content
    with open(raw / ".download/complete.jsonl", "a") as journal:
        journal.write('{"name": "torn')
    fetch(PROJECT, raw, console=Screen(), client=client)
    assert contents(raw) == files
    assert sorted(request.path.rsplit("/", 1)[1] for request in server.requests) == ["00000.dat", "table.csv"]


def test_one_bad_file_does_not_stop_the_others(server, client, tmp_path) -> None:
    files = project(server, tmp_path / "site", 20)
    lies = "physionet.org/files/p/1/records500/00003.dat"
    good = server.resources[lies].content
    server.resources[lies].content = good[::-1]
    with pytest.raises(UserError) as caught:
        fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)
    expected, found = hashlib.sha256(good).hexdigest(), hashlib.sha256(good[::-1]).hexdigest()
    assert str(caught.value).startswith(f"records500/00003.dat: expected sha256 {expected}, found {found}, twice")
    assert len(contents(tmp_path / "raw")) == len(files) - 1
    server.resources[lies].content = good
    server.requests.clear()
    fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)
    assert contents(tmp_path / "raw") == files
    names = [request.path.rsplit("/", 1)[1] for request in server.requests]
    assert names == ["SHA256SUMS.txt", "00003.dat"], "the list may have been wrong: it is read again"


def test_many_bad_files_stop_early(server, client, tmp_path) -> None:
    project(server, tmp_path / "site", 300)
    for name, resource in server.resources.items():
        if name.endswith(".dat"):
            resource.faults.extend([Fault("status", 404)] * 2)
    with pytest.raises(UserError, match=r"not there \(404\).*\(and \d+ more\)$"):
        fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)
    assert len(server.requests) < 40


def test_unforeseen_errors_are_not_hidden(client) -> None:
    def work(item: int) -> None:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        parallel.run(client, range(100), work, 4)


def test_archives_are_unpacked_and_deleted(server, client, tmp_path) -> None:
    members = {"exams_part0.hdf5": b"h" * 9000}
    server.zenodo(9, {"exams.csv": b"x", "exams_part0.zip": zipped(members)})
    raw, screen = tmp_path / "raw", Screen()
    origin = (Zenodo(9, ("exams.csv", "exams_part*.zip")),)
    fetch(origin, raw, console=screen, client=client)
    assert contents(raw) == members | {"exams.csv": b"x"}
    assert "unpack exams_part0.zip: 1/1 files, 9.0 kB" in screen.text
    server.requests.clear()
    fetch(origin, raw, console=screen, client=client)
    assert server.requests == []
    (raw / "exams_part0.hdf5").write_bytes(b"short")
    fetch(origin, raw, console=screen, client=client)
    assert contents(raw) == members | {"exams.csv": b"x"}
    assert [request.path for request in server.requests] == ["zenodo.org/api/records/9/files/exams_part0.zip/content"]


def test_archives_can_be_kept(server, client, tmp_path) -> None:
    content = zipped({"d/x": b"1"})
    server.zenodo(9, {"d.zip": content})
    raw = tmp_path / "raw"
    fetch((Zenodo(9),), raw, console=Screen(), client=client, keep_archives=True)
    assert contents(raw) == {"d/x": b"1", "d.zip": content}
    (raw / "d/x").unlink()
    server.requests.clear()
    fetch((Zenodo(9),), raw, console=Screen(), client=client, keep_archives=True)
    assert contents(raw) == {"d/x": b"1", "d.zip": content}
    assert server.requests == []


def test_an_archive_that_was_there_before_stays(server, client, tmp_path) -> None:
    content = zipped({"d/x": b"1"})
    server.zenodo(9, {"d.zip": content})
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "d.zip").write_bytes(content)
    for _ in range(2):
        fetch((Zenodo(9),), raw, console=Screen(), client=client)
        assert contents(raw) == {"d/x": b"1", "d.zip": content}


def test_an_archive_goes_over_what_is_there(server, client, tmp_path) -> None:
    server.zenodo(9, {"d.zip": zipped({"d/x": b"new", "d/sub/y": b"1"})})
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    elsewhere.mkdir()
    raw.mkdir()
    (raw / "d").symlink_to(elsewhere)  # the user's own, to another disk
    (elsewhere / "x").write_text("old")
    (elsewhere / "mine").write_text("stays")
    fetch((Zenodo(9),), raw, console=Screen(), client=client)
    assert contents(elsewhere) == {"x": b"new", "sub/y": b"1", "mine": b"stays"}
    server.zenodo(10, {"e.zip": zipped({"mine/x": b"1"})})
    (raw / "mine").write_text("a file")
    with pytest.raises(UserError, match=r"mine: is in the way of a folder of the same name"):
        fetch((Zenodo(10),), raw, console=Screen(), client=client)


def test_unpacking_goes_on(server, client, tmp_path, monkeypatch) -> None:
    members = {f"d/{i}": bytes([i]) * 1000 for i in range(8)}
    server.zenodo(9, {"d.zip": zipped(members)})
    raw, original, count = tmp_path / "raw", os.replace, []

    def stopping(source, target):
        if "/.download/unpack/" in str(target):
            count.append(target)
            if len(count) == 5:
                raise KeyboardInterrupt
        original(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(KeyboardInterrupt):
        fetch((Zenodo(9),), raw, console=Screen(), client=client)
    assert contents(raw).keys() == {"d.zip"}, "nothing half unpacked in sight"
    server.requests.clear()
    fetch((Zenodo(9),), raw, console=Screen(), client=client)
    assert contents(raw) == members
    assert server.requests == []
    assert len(count) == 5 + 4, "the first four were there"


def test_a_bomb_is_refused_whole(server, client, tmp_path) -> None:
    server.zenodo(9, {"d.zip": zipped({"d/../../evil": b"1"})})
    with pytest.raises(UserError, match=r"d.zip: unsafe file name 'd/../../evil'"):
        fetch((Zenodo(9),), tmp_path / "raw", console=Screen(), client=client)
    assert not (tmp_path / "evil").exists()
    assert contents(tmp_path / "raw").keys() == {"d.zip"}


def test_publishers_cannot_write_elsewhere(server, client, tmp_path) -> None:
    server.figshare(5, 1, {"../evil": b"1"})
    with pytest.raises(UserError, match="unsafe file name"):
        fetch((Figshare(article=5, version=1),), tmp_path / "raw", console=Screen(), client=client)
    server.figshare(6, 1, {".download/complete.jsonl": b"1"})
    with pytest.raises(UserError, match="unsafe file name"):
        fetch((Figshare(article=6, version=1),), tmp_path / "raw", console=Screen(), client=client)


def test_two_origins_with_one_name(server, client, tmp_path) -> None:
    server.figshare(5, 1, {"a": b"1"})
    server.figshare(6, 1, {"a": b"2"})
    with pytest.raises(UserError, match="two files of the data set have the same name"):
        fetch(tuple(Figshare(article=i, version=1) for i in (5, 6)), tmp_path / "raw", console=Screen(), client=client)


def test_one_file_at_a_fixed_address(server, client, tmp_path) -> None:
    url = "https://raw.githubusercontent.com/a/b/Label%20mappings%202021.xlsx"
    server.add(url, b"book")
    file = File(url, "Label mappings 2021.xlsx", 4, hashlib.sha256(b"book").hexdigest())
    fetch((file,), tmp_path, console=Screen(), client=client)
    assert (tmp_path / "Label mappings 2021.xlsx").read_bytes() == b"book"


@pytest.mark.parametrize("origins", [ECHONEXT, MIMIC, HEEDB])
def test_steps_for_those_that_need_credentials(tmp_path, origins: tuple[Credentialed]) -> None:
    screen = Screen()
    with pytest.raises(UserError) as caught:
        fetch(origins, tmp_path / "raw", console=screen)
    assert origins[0].url in str(caught.value)
    assert "\n" not in str(caught.value)
    lines = screen.text.splitlines()
    assert [line.strip()[:2] for line in lines[1:]] == [f"{i + 1}." for i in range(len(origins[0].steps))]
    assert "--raw" in lines[-1]
    assert not (tmp_path / "raw").exists()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "got it by hand").touch()
    fetch(origins, tmp_path / "raw", console=screen)
    assert "nothing is fetched" in screen.text.splitlines()[-1]


def test_no_origin(tmp_path) -> None:
    with pytest.raises(UserError, match="no address to download from"):
        fetch((), tmp_path, console=Screen())


def test_disk_space_is_checked_before(server, client, tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda place: usage(10**12, 0, 2 * 10**9))
    server.zenodo(9, {"a": b"x"})
    entry = json.loads(server.resources["zenodo.org/api/records/9"].content)
    entry["files"][0]["size"] = 3 * 10**9
    server.add("https://zenodo.org/api/records/9", json.dumps(entry).encode())
    with pytest.raises(UserError, match=r"the download needs 3.3 GB, 2.0 GB are free; free space and start the same"):
        fetch((Zenodo(9),), tmp_path / "raw", console=Screen(), client=client)
    project(server, tmp_path / "site", 3)
    with pytest.raises(UserError, match=r"the download needs 4.3 GB"):
        fetch((PhysioNet("p", "1", ("*",), size=4 * 10**9),), tmp_path / "raw", console=Screen(), client=client)
    assert len(server.fetched("/content")) + len(server.fetched(".dat")) == 0


def test_a_file_in_the_place_of_the_folder(tmp_path) -> None:
    (tmp_path / "raw").touch()
    with pytest.raises(UserError, match="expected a folder, or nothing"):
        fetch(PROJECT, tmp_path / "raw", console=Screen())


def test_errors_of_the_disk_name_the_file(server, client, tmp_path) -> None:
    project(server, tmp_path / "site", 1)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "records500").write_text("in the way")
    with pytest.raises(UserError, match=r"raw/records500/00000.dat: cannot be written"):
        fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)


def test_two_processes(server, client, tmp_path) -> None:
    project(server, tmp_path / "site", 1)
    with (
        Ledger(tmp_path / "raw").opened(),
        pytest.raises(UserError, match="another process is downloading to this folder"),
    ):
        fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)
    fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)


def test_ctrl_c_ends_soon_and_keeps_what_is_there(server, tmp_path) -> None:
    """A real interrupt while the server keeps some answers back for ever."""
    files = project(server, tmp_path / "site", 30)
    original, gate = server._http.RequestHandlerClass._answer, threading.Event()

    def halting(self, resource, fault):
        if resource is not None and int(hashlib.md5(resource.content).hexdigest(), 16) % 3 == 0:
            gate.wait(20)
        return original(self, resource, fault)

    server._http.RequestHandlerClass._answer = halting
    code = (
        "from pathlib import Path\nfrom rich.console import Console\nfrom ecgjax.data.download.client import Client\n"
        "from ecgjax.data.download.fetch import fetch\nfrom ecgjax.data.download.origins import PhysioNet\n"
        f"fetch({PROJECT!r}, Path({str(tmp_path / 'raw')!r}), console=Console(), client=Client({server.mirrors!r}))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "raw" / ".download" / "complete.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, message = child.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert b"KeyboardInterrupt" in message
    gate.set()
    server._http.RequestHandlerClass._answer = original
    done = len([line for line in (tmp_path / "raw/.download/complete.jsonl").read_text().splitlines() if line])
    server.requests.clear()
    fetch(PROJECT, tmp_path / "raw", console=Screen(), client=Client(server.mirrors))
    assert contents(tmp_path / "raw") == files
    assert len(server.requests) <= len(files) - done


def test_chaos(server, client, tmp_path) -> None:
    """Every file meets some faults; all arrive."""
    files = project(server, tmp_path / "site", 60)
    kinds = [
        [Fault("reset", 20)],
        [Fault("end", 20), Fault("status", 503)],
        [Fault("status", 429, {"Retry-After": "1"})],
        [Fault("wrong")],
        [Fault("silent"), Fault("short", 5)],
        [Fault("nameless", 10), Fault("gzip")],
        [],
    ]
    for i, resource in enumerate(server.resources.values()):
        resource.faults.extend(kinds[i % len(kinds)])
    fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)
    assert contents(tmp_path / "raw") == files


def test_small_files_leave_no_notes(server, client, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "_WORTH_RESUMING", 10**6)
    project(server, tmp_path / "site", 3)
    fetch(PROJECT, tmp_path / "raw", console=Screen(), client=client)
    assert not list((tmp_path / "raw").rglob("*.part*"))
