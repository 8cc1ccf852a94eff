"""Kills a preparation at every moment at which something becomes durable, goes on, and compares the stores.

    python -m tests.data.preparation.killed RAW FOLDER

A process of its own, without JAX and its threads, because it forks for every kill.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import pyarrow.parquet  # noqa: F401 (here once, not in every child)

from ecgjax.prepare import main
from tests.data.preparation.raw_files import digests

DURABLE = ("fsync", "replace", "unlink", "rmdir")


def die_at(moment: int) -> None:
    """Kills this process before the given call of one of `DURABLE`."""
    left = [moment]

    def dying(function):
        def call(*arguments, **keywords):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return call

    for name in DURABLE:
        setattr(os, name, dying(getattr(os, name)))


def in_child(raw: Path, out: Path, moment: int | None) -> int:
    """Exit status of a preparation, as `os.waitpid` gives it."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if moment is not None:
            die_at(moment)
        try:
            main(["other", f"--raw={raw}", f"--out={out}", "--workers=1", "--max-rejected=0.1"])
        except SystemExit as error:
            os._exit(int(error.code or 0))
        os._exit(0)
    return os.waitpid(child, 0)[1]


def run(raw: Path, folder: Path) -> None:
    reference, out = folder / "reference", folder / "store"
    assert in_child(raw, reference, None) == 0
    expected = digests(reference)
    moment = kills = 0
    while True:
        moment += 1
        status = in_child(raw, out, moment)
        if not os.WIFSIGNALED(status):
            assert status == 0, status
            break
        kills += 1
        if out.exists():  # killed between the last rename and the removal of the work folder
            assert digests(out) == expected, moment
            assert os.waitstatus_to_exitcode(in_child(raw, out, None)) == 2
        else:
            if moment % 4 == 0:  # killed a second time while going on
                in_child(raw, out, 3 + moment % 7)
            if not out.exists():
                assert in_child(raw, out, None) == 0, moment
        assert digests(out) == expected, moment
        assert not (folder / ".store.partial").exists(), moment
        shutil.rmtree(out)
    assert digests(out) == expected
    print(f"killed {kills} times")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
