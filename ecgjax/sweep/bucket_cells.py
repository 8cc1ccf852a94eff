"""Finished cells in a bucket: each whole, or not there.

    NAME/CONTENT/...     the files of a cell; CONTENT is a hash of all of them, their DONE is written last
    DONE/NAME.json       the cell is finished: says which CONTENT counts, its files' sizes and hashes, its summary

A bucket cannot rename a folder, and copying one there is as little atomic as writing it. So nothing is renamed: files
go to a name that follows from their content, then one object, DONE/NAME.json, says that they count. It is created only
if there is none. Hence

- a cell is finished once DONE/NAME.json is there, and not before; what a killed upload left is never read, and the same
  machine's next upload has the same content, so the same names, and completes it;
- two processes that finish the same cell write to different names, the first DONE counts for all, and the other one
  takes its own files away: no cell is mixed, none counts twice;
- to know what is finished takes one listing of DONE/, and the summaries are in its objects, read in parallel.

Here, cells are run in a scratch folder. There, a finished cell that is in the bucket shrinks to summary.json, PUBLISHED
and DONE, whichever machine made it: so the rest of the sweep sees it as any other.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecgjax import atomic
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation.collect import CONFIG, ENVIRONMENT
from ecgjax.evaluation.results import PREDICTIONS, RESULTS
from ecgjax.sweep import locks, summary
from ecgjax.sweep.bucket import Bucket

PUBLISHED, FORMAT = "PUBLISHED", 1
_DONE = "DONE"
_STAYS = ("checkpoints", locks.FILE)
"""What is not part of a finished cell."""
_REPORTED = (CONFIG, ENVIRONMENT, RESULTS, PREDICTIONS, summary.FILE, "replicates")
_PARTIAL = ".bringing-"


class BucketCells:
    """A store of cells in a bucket, with its scratch folder.

    Args:
        url: of the store.
        folder: scratch; made if missing.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.bucket, self.folder = Bucket(url), folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def pull(self, names: Collection[str], *, publish: bool = True) -> None:
        """Makes the scratch folder agree with the bucket about these cells; publishes what was finished only here.

        A cell that another process of this machine has open is left to that.
        """
        there = finished(self.bucket)
        wanted = [name for name in there if name in names and not self._known(name)]
        for name, mark in _marks(self.bucket, wanted).items():
            self._settle(name, mark)
        for name in names:
            folder = self.folder / name
            if name not in there and summary.finished(folder):
                with locks.held(folder) as mine:
                    if mine and (folder / PUBLISHED).exists():  # someone emptied the bucket
                        _empty(folder)
                    elif mine and publish:
                        self.publish(name)

    def refresh(self, names: Sequence[str]) -> None:
        """Looks whether another machine has finished cells; the locks of their directories are held."""
        for name, mark in _marks(self.bucket, [name for name in names if not self._known(name)]).items():
            _shrink(self.folder / name, mark)

    def publish(self, name: str) -> None:
        """Puts a finished cell into the bucket, unless it is there; its directory's lock is held.

        Raises:
            UserError: the bucket does not take it; it stays in the scratch folder, whole.
        """
        folder = self.folder / name
        if (folder / PUBLISHED).exists():
            return
        counts = self.bucket.read(f"{_DONE}/{name}.json")
        if counts is None:
            about = summary.read(folder)
            files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
            facts = {
                part: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                for part, path in files.items()
            }
            content = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            place = f"{name}/{content}"
            self.bucket.upload({f"{place}/{part}": path for part, path in files.items() if part != _DONE})
            self.bucket.write(f"{place}/{_DONE}", b"")
            mark = {"format": FORMAT, "folder": place, "files": facts, "summary": about}
            counts = self.bucket.create(f"{_DONE}/{name}.json", atomic.as_json(mark).encode())
            if _mark(self.bucket, name, counts)["folder"] != place:  # another process was first
                self.bucket.remove([f"{place}/{part}" for part in files])
        _shrink(folder, _mark(self.bucket, name, counts))

    def unpublished(self, names: Collection[str]) -> list[str]:
        """Cells that are finished in the scratch folder and not in the bucket."""
        return [
            name
            for name in names
            if summary.finished(self.folder / name) and not (self.folder / name / PUBLISHED).exists()
        ]

    def _known(self, name: str) -> bool:
        """Whether the scratch folder says of a finished cell what it has to; a crash may have cut files short."""
        try:
            json.loads((self.folder / name / summary.FILE).read_bytes())
        except (OSError, ValueError):
            return False
        return summary.finished(self.folder / name) and (self.folder / name / PUBLISHED).exists()

    def _settle(self, name: str, mark: Mapping[str, Any]) -> None:
        folder = self.folder / name
        if not folder.exists():
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        with locks.held(folder) as mine:
            if mine:
                _shrink(folder, mark)


def finished(bucket: Bucket) -> set[str]:
    """Names of the finished cells of a store, by one listing."""
    return {name.removeprefix(f"{_DONE}/").removesuffix(".json") for name in bucket.names(_DONE)}


def mirror(url: str, folder: Path, names: Collection[str] | None = None) -> None:
    """Makes a folder hold what a report needs of a store's finished cells, each in a folder of its name.

    Args:
        url: of the store.
        folder: what was brought here before stays if it is the same, and goes if it does not count any more; anything
            else is left alone.
        names: of cells; None: all.

    Raises:
        UserError: the bucket cannot be read, or what it holds is not what was written.
    """
    bucket = Bucket(url)
    wanted = sorted(name for name in finished(bucket) if names is None or name in names)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            for path in folder.iterdir():
                ours = (path / PUBLISHED).exists() and not path.is_symlink()
                if path.name.startswith(_PARTIAL) or (ours and path.name not in wanted):
                    shutil.rmtree(path)
            for name, mark in _marks(bucket, wanted).items():
                stamp = folder / name / PUBLISHED
                same = stamp.exists() and stamp.read_text(encoding="utf-8") == mark["folder"]
                if not (summary.finished(folder / name) and (same or not stamp.exists())):
                    _fetch(bucket, mark, folder / name)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process has the folder's lock."""
    while True:
        with locks.held(folder) as mine:
            if mine:
                yield
                return
        time.sleep(0.2)


def _fetch(bucket: Bucket, mark: Mapping[str, Any], target: Path) -> None:
    parts = [part for part in mark["files"] if part.partition("/")[0] in _REPORTED]
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=target.parent) as temporary:
        here = Path(temporary) / target.name
        here.mkdir()
        contents = bucket.read_all([f"{mark['folder']}/{part}" for part in parts])
        for part in parts:
            content = contents.get(f"{mark['folder']}/{part}", b"")
            if hashlib.sha256(content).hexdigest() != mark["files"][part]["sha256"]:
                raise UserError(f"{bucket.url}/{mark['folder']}/{part}: is not what was written there (SHA-256)")
            (here / part).parent.mkdir(parents=True, exist_ok=True)
            (here / part).write_bytes(content)
        (here / PUBLISHED).write_text(mark["folder"], encoding="utf-8")
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            shutil.rmtree(target)
        here.rename(target)
    (target / _DONE).touch()


def _marks(bucket: Bucket, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Content of DONE/NAME.json of those cells that have one."""
    found = bucket.read_all([f"{_DONE}/{name}.json" for name in names])
    return {
        name: _mark(bucket, name, found[f"{_DONE}/{name}.json"]) for name in names if f"{_DONE}/{name}.json" in found
    }


def _mark(bucket: Bucket, name: str, content: bytes) -> dict[str, Any]:
    try:
        mark = json.loads(content)
        if mark["format"] == FORMAT and mark["folder"] and mark["files"] and mark["summary"]:
            return mark
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{bucket.url}/{_DONE}/{name}.json: is not what a sweep (format {FORMAT}) writes; remove it")


def _files(folder: Path) -> list[Path]:
    parts = [path for path in sorted(folder.iterdir()) if path.name not in _STAYS and not path.name.startswith(".")]
    inside = [path for part in parts for path in (sorted(part.rglob("*")) if part.is_dir() else [part])]
    return [path for path in inside if path.is_file()]


def _shrink(folder: Path, mark: Mapping[str, Any]) -> None:
    """Leaves of a cell what says that it is finished in the bucket; DONE is never there without the rest."""
    _empty(folder)
    with disk_errors(folder):
        # Not synced: a cut file is noticed (`_known`), and thousands of cells are told in a second.
        (folder / summary.FILE).write_text(json.dumps(mark["summary"]), encoding="utf-8")
        (folder / PUBLISHED).write_text(mark["folder"], encoding="utf-8")
        (folder / _DONE).touch()


def _empty(folder: Path) -> None:
    """Removes all but the lock of a cell, DONE first."""
    with disk_errors(folder):
        (folder / _DONE).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != locks.FILE:
                path.unlink()
