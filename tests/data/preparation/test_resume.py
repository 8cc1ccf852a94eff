"""A preparation that is killed, interrupted or starved goes on by the same command, to the same bytes."""

import os
import random
import signal as signals
import subprocess
import sys
import time

import numpy as np
import pytest

from ecgjax.data.store import open_store
from tests.data.preparation.raw_files import digests, make, package

__all__ = ["package"]

pytestmark = pytest.mark.usefixtures("package")


def command(raw, out, *more):
    return [sys.executable, "-m", "ecgjax.prepare", "other", f"--raw={raw}", f"--out={out}", *more]


def test_killed_at_every_moment_it_goes_on_to_the_same_bytes(tmp_path):
    raw = make(tmp_path / "raw", 40)
    (raw / "records" / "r0003.npy").write_bytes(b"no array")
    line = [sys.executable, "-m", "tests.data.preparation.killed", raw, tmp_path]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    kills = int(found.stdout.split()[1])
    assert kills > 25  # 2 shards, 2 manifests, 8 files, and the renames


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks at processes through /proc")
def test_killed_with_its_processes_at_work(tmp_path):
    raw, out = make(tmp_path / "raw"), tmp_path / "s"
    (raw / "pids").mkdir()
    (raw / "slow").touch()
    reference = tmp_path / "reference"
    subprocess.run(command(raw, reference), check=True, capture_output=True)
    choose = random.Random(0)
    for shards_done in (0, 1, 3):
        for path in (raw / "pids").iterdir():
            path.unlink()
        process = subprocess.Popen(command(raw, out, "--workers=2"), stdout=subprocess.DEVNULL)
        manifests = tmp_path / ".s.partial" / "manifests"
        wait_until(
            lambda n=shards_done, m=manifests: (
                len(list((raw / "pids").iterdir())) == 2 and len(list(m.glob("0*.json"))) >= n
            )
        )
        time.sleep(choose.uniform(0, 0.3))
        process.send_signal(signals.SIGKILL)
        process.wait()
        workers = [int(path.name) for path in (raw / "pids").iterdir()]
        wait_until(lambda pids=workers: not any(map(alive, pids)))  # none is left behind
        assert not out.exists()
    (raw / "slow").unlink()
    done = subprocess.run(command(raw, out, "--workers=2"), capture_output=True, text=True, check=True)
    assert "reading" not in done.stderr
    assert digests(out) == digests(reference)


def test_interrupted_by_the_keyboard(tmp_path):
    raw, out = make(tmp_path / "raw"), tmp_path / "s"
    (raw / "pids").mkdir()
    (raw / "slow").touch()
    process = subprocess.Popen(
        command(raw, out, "--workers=2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(list((raw / "pids").iterdir())) == 2)
    os.killpg(process.pid, signals.SIGINT)  # as a terminal does: to all of them
    shown = process.communicate()
    assert process.returncode == 2
    assert shown == ("", "ecgjax: interrupted; the same command goes on where it stopped\n")
    (raw / "slow").unlink()
    subprocess.run(command(raw, out), check=True, capture_output=True)
    assert len(open_store(out)) == 150


MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_signals(tmp_path):
    peaks = []
    for records in (40, 160):
        raw = make(tmp_path / f"raw{records}", records)
        long = np.tile(np.load(raw / "records" / "r0000.npy"), (250, 1))  # 0.7 MB as int16
        for path in (raw / "records").iterdir():
            np.save(path, long)
        line = command(raw, tmp_path / f"s{records}", "--workers=2")
        found = subprocess.run([sys.executable, "-c", MEASURE, *line], capture_output=True, text=True, check=True)
        peaks.append(int(found.stdout) * 1024)
        size = sum(path.stat().st_size for path in (tmp_path / f"s{records}").glob("signals-*"))
    assert size > 100e6
    # The largest process of each; 86 MB more of signals cost less than a quarter of that.
    assert peaks[1] - peaks[0] < 20e6
