"""The engine: what a store of another package's source holds, however many processes made it, and what stops it."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ecgjax.data import sources
from ecgjax.data.preparation.workplace import Workplace
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.prepare import prepare
from tests.data.preparation.raw_files import RECORDS, digests, make, package, signal

__all__ = ["package"]

pytestmark = pytest.mark.usefixtures("package")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole") / "raw")


@pytest.fixture
def raw(tmp_path):
    """One's own to damage, small."""
    return make(tmp_path / "raw", 70)


def arguments(raw, out, *more):
    return ["other", f"--raw={raw}", f"--out={out}", "--workers=1", *more]


def run(raw, out, *more):
    prepare(arguments(raw, out, *more))
    return open_store(out)


def checks_of(store):
    return {check["name"]: check for check in json.loads((store.path / "checks.json").read_text())["checks"]}


def test_a_store_of_another_packages_source(whole, tmp_path, capsys):
    assert sources.names()[-2:] == ("broken", "other")
    store = run(whole, tmp_path / "s")
    records = store.records
    assert records["record_id"].tolist() == [f"r{i:04d}" for i in range(RECORDS)]
    assert records["patient_id"].tolist() == [f"p{i // 2}" for i in range(RECORDS)]
    assert (records.groupby("patient_id")["fold"].nunique() == 1).all()
    assert store.meta["shards"] == 5
    for i in range(RECORDS):
        np.testing.assert_allclose(store.signal(f"r{i:04d}"), signal(i), atol=1e-6)
    # The listing's word counts, the recording's fills; text stays text; hidden and nested values are left out.
    assert records["site"].tolist() == ["from the recording" if i % 4 else "Bonn" for i in range(RECORDS)]
    assert records["code"].tolist()[:2] == ["0000", "0001"]
    assert records["age"].tolist() == [40 + i for i in range(RECORDS)]
    assert records["remark"].tolist()[1] == "odd"
    assert records["remark"].isna().tolist() == [i % 2 == 0 for i in range(RECORDS)]
    assert not {"_hidden", "_labels", "_ef", "list", "key", "row"} & set(records)
    assert store.classes("all") == ("AFIB", "PVC", "SR")
    np.testing.assert_array_equal(store.targets("all")[:, 0], np.arange(RECORDS) % 3 == 0)
    train = store.rows("train")
    targets, (mean, sd) = store.targets("ef"), store.scales("ef")
    ef = np.where(np.arange(RECORDS) % 5, 30.0 + np.arange(RECORDS) % 40, np.nan)
    np.testing.assert_allclose(mean, [np.nanmean(ef[train]), np.mean(40 + train)])
    np.testing.assert_allclose(sd, [np.nanstd(ef[train]), np.std(40.0 + train)])
    np.testing.assert_allclose(targets * sd + mean, np.stack([ef, 40.0 + np.arange(RECORDS)], 1), rtol=1e-5)
    np.testing.assert_array_equal(store.scales("all"), [[0] * 3, [1] * 3])
    meta = store.meta
    assert (meta["source"], meta["source_version"], meta["licence"], meta["unit"]) == ("other", "1.2", "CC0", "mV")
    assert meta["preparation"] == {"limit": None, "min_count": 10, "protocol": "default", "folds": "source"}
    assert meta["notes"] == ["protocol default"]
    assert sum(meta["records_per_fold"].values()) == RECORDS
    folds = pd.read_csv(store.path / "folds.csv")
    assert folds["fold"].tolist() == records["fold"].tolist()
    store.verify()
    assert {path.name for path in tmp_path.iterdir()} == {"s"}
    shown = capsys.readouterr()
    assert "protocol default" in shown.out
    assert "published counts: 3 of 4 classes of 'all' differ, e.g. SR 100 instead of 99" in shown.err


def test_checks_are_stored(whole, tmp_path):
    store = run(whole, tmp_path / "s")
    found = json.loads((store.path / "checks.json").read_text())
    assert found["published"] == {
        "records": {"published": 150, "found": 150},
        "label_sets": {
            "all": {
                "AFIB": {"published": 50, "found": 50},
                "SR": {"published": 99, "found": 100},
                "VF": {"published": 2, "found": None},
                "PVC": {"published": None, "found": 10},
            }
        },
    }
    checks = checks_of(store)
    assert checks["Einthoven's laws"]["passed"]
    assert checks["amplitude"]["passed"]
    assert checks["patients in one split"]["detail"].startswith("none of 75 is in two")
    assert not found["passed"]  # because of the counts


def test_any_number_of_workers_makes_the_same_bytes(whole, tmp_path):
    one = run(whole, tmp_path / "one")
    (whole / "pids").mkdir()
    for workers in (2, 3):
        other = run(whole, tmp_path / str(workers), f"--workers={workers}")
        assert digests(other.path) == digests(one.path)
    used_jax = [path.read_text() for path in (whole / "pids").iterdir()]
    assert len(used_jax) > 2  # so many processes read
    assert set(used_jax) == {"False"}
    shutil.rmtree(whole / "pids")


def test_another_writer_of_parquet_is_the_same_store(whole, tmp_path, monkeypatch):
    one = run(whole, tmp_path / "one")
    write = pd.DataFrame.to_parquet
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *a, **k: write(*a, **k, compression="gzip"))
    two = run(whole, tmp_path / "two")
    assert digests(one.path)["records.parquet"] != digests(two.path)["records.parquet"]
    assert one.fingerprint == two.fingerprint


def test_limit_is_evenly_spaced_and_says_so(whole, tmp_path, capsys):
    store = run(whole, tmp_path / "s", "--limit=31")
    numbers = [int(name[1:]) for name in store.records["record_id"]]
    assert len(numbers) == 31
    assert numbers[0] == 0
    assert numbers[-1] == RECORDS - 1
    assert set(np.diff(numbers)) == {4, 5} or set(np.diff(numbers)) == {5}
    assert store.meta["preparation"]["limit"] == 31
    assert store.meta["preparation"]["min_count"] == 1
    assert "a dry run of 31 records" in store.meta["notes"][0]
    assert checks_of(store)["published counts"]["passed"] is None
    assert "published counts" not in capsys.readouterr().err


def damage(raw):
    (raw / "records" / "r0003.npy").write_bytes(b"no array")
    (raw / "records" / "r0035.npy").unlink()
    np.save(raw / "records" / "r0040.npy", np.full((100, 12), np.nan, np.float32))
    np.save(raw / "records" / "r0041.npy", np.ones((100, 12), np.float32))
    np.save(raw / "records" / "r0042.npy", np.ones((100, 5), np.float32))
    np.save(raw / "records" / "r0043.npy", np.full((100, 12), np.inf, np.float32))


@pytest.mark.parametrize("workers", [1, 2])
def test_unusable_records_are_listed_with_the_reason(raw, tmp_path, workers):
    damage(raw)
    store = run(raw, tmp_path / "s", "--max_rejected=0.1", f"--workers={workers}")
    with open(store.path / "rejected.csv", newline="") as file:
        reasons = dict(list(csv.reader(file))[1:])
    assert list(reasons) == ["r0003", "r0035", "r0040", "r0041", "r0042", "r0043"]
    assert re.search(r"^(ValueError|UnpicklingError): .*line \d+", reasons["r0003"])
    assert reasons["r0035"] == f"{raw / 'records' / 'r0035.npy'}: No such file or directory"
    assert reasons["r0040"] == "every value is NaN"
    assert reasons["r0041"] == "all leads are flat"
    assert "infinite values" in reasons["r0043"]
    assert len(store) == 64
    assert store.meta["rejected"] == 6
    np.testing.assert_allclose(store.signal("r0044"), signal(44), atol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_too_many_unusable_records_stop_it_and_more_patience_goes_on(raw, tmp_path, workers):
    damage(raw)
    message = r"5 of the first \d+ records are unusable, more than --max-rejected=0.06 of 70 allows; the first: 'r00"
    with pytest.raises(UserError, match=message) as caught:
        run(raw, tmp_path / "s", "--max-rejected=0.06", f"--workers={workers}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s").exists()
    run(raw, tmp_path / "s", "--max-rejected=0.1")
    run(raw, tmp_path / "fresh", "--max-rejected=0.1")
    assert digests(tmp_path / "s") == digests(tmp_path / "fresh")


def test_nothing_is_left_if_no_shard_was_done(raw, tmp_path):
    (raw / "records" / "r0000.npy").unlink()
    with pytest.raises(UserError, match="1 of the first 1 records are unusable"):
        run(raw, tmp_path / "s", "--max-rejected=0")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_not_one_usable_record(raw, tmp_path):
    for path in (raw / "records").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="not one record is usable; the first: 'r0000': EOFError"):
        run(raw, tmp_path / "s", "--max-rejected=1")


def test_a_shard_without_a_usable_record(raw, tmp_path):
    for number in range(32, 64):
        (raw / "records" / f"r{number:04d}.npy").unlink()
    store = run(raw, tmp_path / "s", "--max-rejected=0.5")
    assert sorted(path.name for path in store.path.glob("signals-*")) == ["signals-00000.npy", "signals-00002.npy"]
    np.testing.assert_allclose(store.signal("r0069"), signal(69), atol=1e-6)
    store.verify()


def test_debug_shows_where_a_record_breaks_the_reader(raw, tmp_path):
    damage(raw)
    with pytest.raises(Exception, match=r"pickle") as caught:
        run(raw, tmp_path / "s", "--debug")
    assert not isinstance(caught.value, UserError)


def test_a_process_that_dies_is_reported_with_the_record(raw, tmp_path):
    (raw / "deadly").write_text("r0050")
    with pytest.raises(UserError, match=r"a worker process died \(exit code 3\) while it read record 'r0050'"):
        run(raw, tmp_path / "s", "--workers=2")
    assert not (tmp_path / "s").exists()
    (raw / "deadly").write_text("")
    run(raw, tmp_path / "s", "--workers=2")
    run(raw, tmp_path / "fresh")
    assert digests(tmp_path / "s") == digests(tmp_path / "fresh")


def stop_halfway(raw, out):
    """Leaves the work folder of a preparation of which a shard is done."""
    np.save(raw / "records" / "r0050.npy", np.zeros((5, 12), np.float32))
    with pytest.raises(UserError, match="1 of the first 51 records are unusable"):
        run(raw, out, "--max-rejected=0")
    np.save(raw / "records" / "r0050.npy", signal(50))
    return out.with_name(f".{out.name}.partial")


@pytest.mark.parametrize(
    ("option", "named"),
    [("--dtype=float32", "--dtype"), ("--rate=100", "--rate"), ("--limit=20", "list of records"),
     ("--prefix=x", "list of records")],
)  # fmt: skip
def test_other_options_may_not_go_on(raw, tmp_path, option, named):
    work = stop_halfway(raw, tmp_path / "s")
    with pytest.raises(UserError, match=rf"\.s\.partial: holds part of a store that was begun differently \(.*{named}"):
        run(raw, tmp_path / "s", option)
    assert (work / "manifests" / "00000.json").is_file()
    assert not (tmp_path / "s").exists()


def test_options_that_leave_the_signals_alone_may_change(raw, tmp_path):
    stop_halfway(raw, tmp_path / "s")
    store = run(raw, tmp_path / "s", "--min-count=1", "--protocol=paper", "--workers=2")
    run(raw, tmp_path / "fresh", "--min-count=1", "--protocol=paper")
    assert digests(store.path) == digests(tmp_path / "fresh")
    assert store.meta["notes"] == ["protocol paper"]


def test_damaged_leftovers_are_made_again(raw, tmp_path):
    work = stop_halfway(raw, tmp_path / "s")
    (work / "store" / "signals-00000.npy").write_bytes(b"short")
    (work / "store" / "stray.txt").write_text("")
    (work / "writing" / "signals-00001.npy").write_bytes(b"half")
    (work / "manifests" / "00001.json").write_text("{")
    run(raw, tmp_path / "s")
    run(raw, tmp_path / "fresh")
    assert digests(tmp_path / "s") == digests(tmp_path / "fresh")


def test_two_processes_do_not_share_a_store(raw, tmp_path):
    with (
        Workplace(tmp_path / "s"),
        pytest.raises(UserError, match=r"process \d+ is preparing it; expected one at a time"),
    ):
        run(raw, tmp_path / "s")
    run(raw, tmp_path / "s")
    with pytest.raises(UserError, match="exists already; expected the path of a new store"):
        run(raw, tmp_path / "s")
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "s"}


def test_folds_of_a_file(raw, tmp_path):
    given = {f"r{i:04d}": i // 2 % 5 for i in range(70)}
    text = "record_id,fold\n" + "".join(f"{name},{fold}\n" for name, fold in given.items()) + "r9999,3\n"
    (tmp_path / "folds.csv").write_text(text)
    store = run(raw, tmp_path / "s", f"--folds={tmp_path / 'folds.csv'}")
    assert dict(zip(store.records["record_id"], store.records["fold"], strict=True)) == given
    assert store.meta["preparation"]["folds"] != "source"
    # A store's own folds.csv gives the same store again.
    again = run(raw, tmp_path / "again", f"--folds={store.path / 'folds.csv'}")
    assert again.meta["content"] == store.meta["content"]


def test_folds_that_leak_a_patient_are_found(raw, tmp_path, capsys):
    (tmp_path / "folds.csv").write_text("record_id,fold\n" + "".join(f"r{i:04d},{i % 5}\n" for i in range(70)))
    store = run(raw, tmp_path / "s", f"--folds={tmp_path / 'folds.csv'}")
    check = checks_of(store)["patients in one split"]
    assert check["passed"] is False
    assert re.match(r"2\d of 35 are in several, e\.g\. 'p\d+' in \w+ and \w+", check["detail"])
    assert "patients in one split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; expected a CSV with the columns record_id and fold"),
        ("name,fold\nr0000,1\n", "no column record_id; the columns are 'name', 'fold'"),
        ("record_id,fold\nr0000,1.5\n", "record 'r0000' has fold '1.5'; expected a whole number"),
        ("record_id,fold\nr0000,x\n", "record 'r0000' has fold 'x'; expected a whole number"),
        ("record_id,fold\nr0000,1\nr0000,2\n", "record 'r0000' is there twice"),
        ("record_id,fold\nr0000,1\n", "no fold for 69 of 70 records, e.g. 'r0001'"),
        ("", "not a CSV file"),
    ],
)
def test_bad_folds_files(raw, tmp_path, text, message):
    if text is not None:
        (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        run(raw, tmp_path / "s", f"--folds={tmp_path / 'folds.csv'}")
    assert not (tmp_path / ".s.partial").exists()


def test_swapped_leads_and_wrong_units_and_twins_are_found(raw, tmp_path):
    for number in range(70):
        wrong = signal(number) * (1000 if number == 3 else 1)
        if number < 30:
            wrong[:, [4, 5]] = wrong[:, [5, 4]]  # aVF before aVL, as MIMIC-IV-ECG has them
        np.save(raw / "records" / f"r{number:04d}.npy", wrong)
    for other in range(64, 70):
        np.save(raw / "records" / f"r{other:04d}.npy", signal(0))
    store = run(raw, tmp_path / "s")
    checks = checks_of(store)
    detail = checks["Einthoven's laws"]["detail"]
    assert checks["Einthoven's laws"]["passed"] is False
    assert "aVL in 30 of 70 records, e.g. 'r0000'" in detail
    assert "aVF in 30 of 70" in detail
    assert "III" not in detail
    assert checks["amplitude"]["passed"] is False
    assert "above 50 mV in 1 records, e.g. 'r0003'" in checks["amplitude"]["detail"]
    assert "pairs of records with the same signal are in different splits" in checks["same signal twice"]["detail"]


def test_resampling(raw, tmp_path):
    store = run(raw, tmp_path / "s", "--rate=125", "--dtype=float32")
    assert store.sampling_rate == 125
    assert store.records["samples"].tolist()[:3] == [60, 60, 61]
    assert store.dtype == "float32"


def test_bad_sources(tmp_path):
    with pytest.raises(UserError, match=r"source 'broken' \(other_broken\) has no FACTS"):
        prepare(["broken", f"--raw={tmp_path}", f"--out={tmp_path / 's'}"])
    with pytest.raises(UserError, match=r"no source 'x'; expected one of ptbxl, .*other"):
        prepare(["x"])


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(raw, tmp_path):
    for number in range(70):
        np.save(raw / "records" / f"r{number:04d}.npy", np.tile(signal(number), (20, 1)))

    for workers in (1, 2):
        line = [sys.executable, "-m", "ecgjax.prepare", *arguments(raw, tmp_path / "s"), f"--workers={workers}"]
        limited = ["bash", "-c", 'ulimit -f 1000 && exec "$@"', "bash", *line]  # no file of more than 1 MB
        found = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert found.returncode == 2
        assert (
            found.stderr == f"ecgjax: {tmp_path / 's'}: no space left to write; free space and start the same "
            "command again\n"
        )
        assert not (tmp_path / "s").exists()
    run(raw, tmp_path / "s")
