"""Streaming of the event tables: the same as reading them whole, in bounded memory, and it goes on after a kill."""

import dataclasses
import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgjax.data.sources import mimic_events, mimic_tables
from ecgjax.data.sources.mimic_events import NO_ECG, OTHER, TESTED, TRAINING, Ecgs, extract, moment
from ecgjax.data.sources.mimic_files import Files
from ecgjax.errors import UserError

ROOT = Path(__file__).parents[3]
COLUMNS = (
    "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,valuenum,"
    "valueuom,ref_range_lower,ref_range_upper,flag,priority,comments\n"
)
T0 = 6_600_000_000  # 2179


def lab_lines(n: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    subject = np.sort(rng.integers(10_000_000, 10_000_400, n))
    item = rng.choice([50912, 51222, 51640, 51237, 50983], n)
    store = pd.to_datetime(T0 + rng.integers(0, 2 * 86400, n), unit="s").strftime("%Y-%m-%d %H:%M:%S")
    value = np.round(rng.gamma(4, 3, n), 1)
    said = rng.choice(["", '"said ""high"",\nthen"', "___"], n)
    return "".join(
        f"{i},{s},,7,{j},P1,2180-01-01 00:00:00,{t},{v},{v},mg/dL,1.0,9.0,,ROUTINE,{c}\n"
        for i, (s, j, t, v, c) in enumerate(zip(subject, item, store, value, said, strict=True))
    )


def write(folder: Path, lines: str, times: int = 1) -> mimic_events.Table:
    """labevents.csv.gz of these lines, repeated as members of their own, and the table that reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    member = gzip.compress(lines.encode(), 1)
    with open(folder / "labevents.csv.gz", "wb") as file:
        file.write(gzip.compress(COLUMNS.encode()))
        for _ in range(times):
            file.write(member)
    (folder / "d_labitems.csv.gz").write_bytes(
        gzip.compress(b"itemid,label\n50912,Creatinine\n51222,Hemoglobin\n51640,Hemoglobin\n51237,INR(PT)\n50983,Na\n")
    )
    return table(folder)


def table(folder: Path) -> mimic_events.Table:
    paths = {path.name: path for path in folder.glob("*.gz")}
    without = ("omr", "vitalsign", "chartevents")
    return mimic_tables.tables(Files(folder, paths, None, None), without)[0]


def ecgs(n: int = 300) -> Ecgs:
    rng = np.random.default_rng(5)
    subject, when = rng.integers(10_000_000, 10_000_300, n), T0 + rng.integers(0, 2 * 86400, n)
    subjects = np.unique(subject)
    return Ecgs(np.unique(moment(subject, when)), subjects, (1 + subjects % 3).astype(np.int8))


def whole(folder: Path, near: Ecgs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and counts by the definition, of the table read at once."""
    frame = pd.read_csv(folder / "labevents.csv.gz", parse_dates=["storetime"])
    frame["row"] = np.arange(len(frame))
    items = {50912: 1, 51222: 0, 51640: 0}
    frame = frame[frame["itemid"].isin(items)]
    group = dict(zip(near.subjects.tolist(), near.groups.tolist(), strict=True))
    frame["group"] = [group.get(subject, NO_ECG) for subject in frame["subject_id"]]
    counts = frame.groupby(["itemid", "group", "valuenum"]).size()
    when = frame["storetime"].to_numpy("datetime64[s]").astype(np.int64)
    at = {}
    for key in near.moments.tolist():
        at.setdefault(key // 2**33, []).append(key % 2**33)
    keep = [
        any(abs(t - ecg) <= 3600 for ecg in at.get(subject, ()))
        for subject, t in zip(frame["subject_id"], when, strict=True)
    ]
    return frame[keep], counts


def compare(found: mimic_events.Extract, made: mimic_events.Table, expected: tuple[pd.DataFrame, pd.Series]) -> None:
    rows, counts = expected
    item = [made.items[i].source for i in found.rows["item"]]
    assert item == rows["itemid"].tolist()
    np.testing.assert_array_equal(found.rows["row"], rows["row"])
    np.testing.assert_array_equal(found.rows["subject"], rows["subject_id"])
    np.testing.assert_array_equal(found.rows["value"], rows["valuenum"])
    np.testing.assert_array_equal(found.rows["time"], rows["storetime"].to_numpy("datetime64[s]").astype(np.int64))
    of = found.counts.assign(itemid=[made.items[i].source for i in found.counts["item"]])
    pd.testing.assert_series_equal(
        of.set_index(["itemid", "group", "value"])["count"].sort_index(),
        counts.rename("count").rename_axis(["itemid", "group", "value"]),
        check_index_type=False,
    )


def test_extract_is_what_the_whole_table_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(mimic_events, "_BLOCK_BYTES", 2**16)
    made, near = write(tmp_path / "raw", lab_lines(6000, 1)), ecgs()
    assert set(near.groups) == {OTHER, TESTED, TRAINING}
    found = extract(made, near, tmp_path / "cache", part_blocks=3, quiet=True)
    assert len(list((tmp_path / "cache").rglob("rows-*.parquet"))) > 3
    assert found.total == 6000
    assert 20 < len(found.rows) < 1000
    compare(found, made, whole(tmp_path / "raw", near))


def test_what_was_extracted_is_not_read_again_unless_something_changed(tmp_path):
    made, near = write(tmp_path / "raw", lab_lines(500, 1)), ecgs()
    first = extract(made, near, tmp_path, quiet=True)

    def never(piece, items):
        raise AssertionError("read again")

    again = extract(dataclasses.replace(made, events=never), near, tmp_path, quiet=True)
    pd.testing.assert_frame_equal(again.rows, first.rows)
    pd.testing.assert_frame_equal(again.counts, first.counts)
    fewer = Ecgs(near.moments[:-1], near.subjects, near.groups)
    with pytest.raises(AssertionError, match="read again"):
        extract(dataclasses.replace(made, events=never), fewer, tmp_path, quiet=True)
    changed = write(tmp_path / "raw", lab_lines(501, 1))
    assert extract(changed, near, tmp_path, quiet=True).total == 501


def test_limits_of_the_window_and_unknown_subjects(tmp_path):
    near = Ecgs(moment(np.array([5, 5, 7]), np.array([T0, T0 + 9000, T0])), np.array([5, 7, 9]), np.array([3, 2, 1]))
    hour = np.full(7, 3600)
    subject = np.array([5, 5, 5, 5, 6, 7, 9])
    when = T0 + np.array([-3600, -3601, 3601, 5400, 0, 3600, 0])
    np.testing.assert_array_equal(near.near(subject, when, hour), [True, False, False, True, False, True, False])
    np.testing.assert_array_equal(near.group(np.array([4, 5, 6, 7, 9, 10])), [0, 3, 0, 2, 1, 0])


SLOW = """
import sys, time, dataclasses
from pathlib import Path
from ecgjax.data.sources import mimic_events
from tests.data.sources.test_mimic_events import table, ecgs
mimic_events._BLOCK_BYTES = 2**16
made = table(Path(sys.argv[1]))
def slow(piece, items):
    time.sleep(0.1)
    return made.events(piece, items)
mimic_events.extract(dataclasses.replace(made, events=slow), ecgs(), Path(sys.argv[2]), part_blocks=2)
"""


def test_goes_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(mimic_events, "_BLOCK_BYTES", 2**16)
    made, near, cache = write(tmp_path / "raw", lab_lines(6000, 2)), ecgs(), tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path / "raw"), str(cache)], cwd=ROOT)
    limit = time.monotonic() + 60
    while not (states := list(cache.rglob("state.json"))) or json.loads(states[0].read_text())["parts"] < 2:
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = json.loads(states[0].read_text())
    assert not before["done"]
    seen = []

    def counting(piece, items):
        seen.append(piece["row"][0].as_py())
        return made.events(piece, items)

    found = extract(dataclasses.replace(made, events=counting), near, cache, part_blocks=2, quiet=True)
    assert seen[0] == before["rows"] > 0
    compare(found, made, whole(tmp_path / "raw", near))
    unbroken = extract(made, near, tmp_path / "other", part_blocks=2, quiet=True)
    pd.testing.assert_frame_equal(found.rows, unbroken.rows)
    order = ["item", "unit", "group", "value"]
    pd.testing.assert_frame_equal(
        *(x.counts.sort_values(order, ignore_index=True) for x in (found, unbroken)),
    )


# Not getrusage: what a process has of its parent's peak stays in that figure.
MEMORY = """
import re, sys
from pathlib import Path
from ecgjax.data.sources import mimic_events
from tests.data.sources.test_mimic_events import table, ecgs
found = mimic_events.extract(table(Path(sys.argv[1])), ecgs(), Path(sys.argv[2]), part_blocks=4)
print(found.total, re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc, which Linux has")
def test_memory_does_not_grow_with_the_table(tmp_path):
    lines, peaks = lab_lines(50_000, 3), {}
    for times in (60, 180):  # three million rows, more blocks than are read ahead, and nine million
        write(tmp_path / str(times), lines, times)
        command = [sys.executable, "-c", MEMORY, str(tmp_path / str(times)), str(tmp_path / "cache")]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        total, kilobytes = map(int, done.stdout.split())
        assert total == times * 50_000
        peaks[times] = kilobytes / 1024
    assert peaks[180] < peaks[60] + 80, peaks
    assert peaks[180] < 700, peaks


def test_a_dry_run_reads_the_first_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(mimic_events, "_BLOCK_BYTES", 2**16)
    made = write(tmp_path / "raw", lab_lines(6000, 1))
    assert extract(made, ecgs(), tmp_path, most_blocks=2, quiet=True).total < 2000
    assert extract(made, ecgs(), tmp_path, quiet=True).total == 6000


@pytest.mark.parametrize(
    ("old", "new"), [("storetime", "stored"), ("10000001", "x"), ("mg/dL,1.0", "mg/dL"), ("2179", "day 2179")]
)
def test_what_does_not_fit_is_an_error(tmp_path, old, new):
    text = COLUMNS + lab_lines(2000, 1)
    assert old in text
    made = write(tmp_path, "")
    made.path.write_bytes(gzip.compress(text.replace(old, new, 1).encode()))
    with pytest.raises(UserError, match=r"labevents.csv.gz: cannot be read .*; expected a whole file with subject_id"):
        extract(made, ecgs(), tmp_path / "cache", quiet=True)


def test_damaged_cache_is_named(tmp_path):
    made = write(tmp_path / "raw", lab_lines(100, 1))
    extract(made, ecgs(), tmp_path / "cache", quiet=True)
    part = next((tmp_path / "cache").rglob("rows-00000.parquet"))
    part.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"rows-00000.parquet: cannot be read .*remove its folder"):
        extract(made, ecgs(), tmp_path / "cache", quiet=True)
