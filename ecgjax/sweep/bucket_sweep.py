"""A sweep whose directory, or whose store of cells, is in a bucket: what is exchanged with it, and when.

The sweep itself runs in a scratch folder of this machine, which config.scratch or the URL names, so that a second start
on the machine continues cells under way. The bucket gets plan.json first, created only if there is none; finished cells
as they come (`ecgjax.sweep.bucket_cells`); status.json and cells.csv meanwhile and at the end. Where a sweep with local
directories makes folders with links to cells, a bucket has NAMES.json in their place: a store, and names of its cells.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from ecgjax import atomic
from ecgjax.data.embedded import cache_folder
from ecgjax.errors import UserError
from ecgjax.sweep import plan as planning
from ecgjax.sweep import select
from ecgjax.sweep.bucket import Bucket, is_url
from ecgjax.sweep.bucket_cells import BucketCells, finished, mirror
from ecgjax.sweep.cells import Cell, hashed
from ecgjax.sweep.plan import Plan

CELLS, NAMES = "cells", "NAMES.json"
_SECONDS_BETWEEN_STATUS = 10.0


class BucketSweep:
    """What a sweep exchanges with a bucket; make one with `attach`.

    Attributes:
        workdir: the sweep's directory on this machine; None: a dry run without one.
        store: the cells' folder on this machine.
        cells: the store in the bucket.
    """

    def __init__(self, workdir: Path | str | None, cells: str | None, scratch: str | None) -> None:
        self._sweep = Bucket(str(workdir)) if is_url(workdir) else None
        self._own = cells is None
        place = f"{self._sweep.url}/{CELLS}" if cells is None and self._sweep else str(cells)
        self._scratch = Path(scratch) if scratch else cache_folder() / "scratch"
        self.store = self._scratch / hashed(place)
        self.cells = BucketCells(place, self.store)
        self.workdir = workdir if isinstance(workdir, Path) else None
        if self._sweep:
            self.workdir = self._scratch / hashed(self._sweep.url)
        self._status: Path | None = None
        self._pushed = float("-inf")
        self._trouble: str | None = None

    def claim(self, config: ConfigDict, plan: Plan) -> Path:
        """Writes plan.json unless there is one, and checks that it is this sweep's; returns the local directory.

        Raises:
            UserError: it is another sweep's, or the bucket cannot be used.
        """
        if self._sweep is None:
            return planning.claim(self.workdir, config, plan)
        assert self.workdir is not None
        here = self.workdir / planning.FILE
        there = self._sweep.read(planning.FILE)
        self._take(here, there)
        try:
            folder = planning.claim(self.workdir, config, plan)
            if there is None:
                there = self._sweep.create(planning.FILE, here.read_bytes())
                if there != here.read_bytes():  # another process was first
                    self._take(here, there)
                    planning.claim(self.workdir, config, plan)
        except UserError as error:
            raise UserError(str(error).replace(str(self.workdir), self._sweep.url)) from error
        return folder

    def pull(self, plan: Plan, *, publish: bool = True) -> None:
        """Learns which cells are finished, whoever did them; what was finished only here is published."""
        self.cells.pull({cell.name for cell in plan.cells}, publish=publish)

    def refresh(self, names: Sequence[str]) -> None:
        """Learns whether cells are finished by now; their locks are held. Without an answer they count as not."""
        try:
            self.cells.refresh(names)
        except UserError as error:
            self._say(error)

    def publish(self, name: str) -> None:
        """Puts a finished cell into the bucket; its lock is held. What fails is tried again at the end."""
        try:
            self.cells.publish(name)
            if self._status is not None and time.monotonic() - self._pushed > _SECONDS_BETWEEN_STATUS:
                self._pushed = time.monotonic()
                self.push(self._status)
        except UserError as error:
            self._say(error)

    def watch(self, status: Path) -> None:
        """From now on, the bucket gets this status file while cells are published."""
        self._status = status

    def push(self, *files: Path) -> None:
        """Puts files of the local directory beside plan.json; what fails is said, and no more."""
        try:
            for file in files if self._sweep else ():
                if self._sweep and file.exists():
                    self._sweep.write(file.name, file.read_bytes())
        except UserError as error:
            self._say(error)

    def close(self, plan: Plan) -> None:
        """Publishes what could not be before, and says which cells the sweep has where others share their store.

        Raises:
            UserError: finished cells are still only on this machine.
        """
        names = [cell.name for cell in plan.cells]
        if self.cells.unpublished(names):
            try:
                self.cells.pull(names)
            except UserError as error:
                left = len(self.cells.unpublished(names))
                raise UserError(f"{error}; {left} finished cells are only in {self.store}") from error
        if not self._own:
            there = finished(self.cells.bucket)
            done = [name for name in names if name in there]
            if self._sweep:
                self._list(CELLS, done)
            elif self.workdir is not None:
                mirror(self.cells.bucket.url, self.workdir / CELLS, done)

    def link(self, cells: Sequence[Cell], folder: str) -> None:
        """What `select.link` does, in the bucket if the sweep's directory is there; after `close`."""
        if self._sweep:
            self._list(folder, [cell.name for cell in cells])
        elif self.workdir is not None:
            select.link(cells, self.workdir / CELLS, self.workdir / folder)

    def shown(self, path: Path) -> str:
        """A path of the local directory as the user knows it."""
        if self._sweep and self.workdir is not None and path.is_relative_to(self.workdir):
            return f"{self._sweep.url}/{path.relative_to(self.workdir).as_posix()}".removesuffix("/.")
        return str(path)

    def _list(self, folder: str, names: Sequence[str]) -> None:
        assert self._sweep is not None
        content = {"store": self.cells.bucket.url, "names": sorted(names)}
        self._sweep.write(f"{folder}/{NAMES}", atomic.as_json(content).encode())

    def _take(self, here: Path, there: bytes | None) -> None:
        """The plan in the bucket is the one that counts."""
        here.unlink(missing_ok=True)
        if there is not None:
            here.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(here, there.decode())

    def _say(self, error: UserError) -> None:
        if str(error) != self._trouble:  # once, not for each cell
            self._trouble = str(error)
            print(f"{error}; going on, to be tried again", file=sys.__stderr__, flush=True)


def attach(config: ConfigDict, workdir: Path | str | None) -> BucketSweep | None:
    """What a sweep with a bucket has to do; None if it has none.

    Raises:
        UserError: of its directory and its store only the store is on this machine; no client for the URL.
    """
    if not (is_url(workdir) or is_url(config.cells)):
        return None
    if is_url(workdir) and config.cells and not is_url(config.cells):
        raise UserError(f"config.cells is {config.cells!r} and --workdir={workdir}; expected a URL for both, or none")
    return BucketSweep(workdir, config.cells or None, config.scratch)


def local_copy(url: str) -> Path:
    """A folder of this machine with what a report needs of the finished cells in a bucket.

    Args:
        url: of a sweep, of its `selected`, or of a store of cells.

    Raises:
        UserError: it is none of them, or the bucket cannot be read.
    """
    bucket = Bucket(url)
    folder = cache_folder() / "mirrors" / hashed(bucket.url) / (bucket.url.rpartition("/")[2] or "bucket")
    for below in ("", f"/{CELLS}"):
        listed = Bucket(bucket.url + below).read(NAMES)
        if listed is not None:
            try:
                content = json.loads(listed)
                store, names = content["store"], set(content["names"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{bucket.url}{below}/{NAMES}: not readable ({error}); expected a sweep's") from error
            mirror(store, folder, names)
            return folder
        if finished(Bucket(bucket.url + below)):
            mirror(bucket.url + below, folder)
            return folder
    raise UserError(f"config.runs: {url}: no finished cells there; expected a sweep's URL, or its cells' or selected's")
