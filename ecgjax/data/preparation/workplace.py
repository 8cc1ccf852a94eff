"""The hidden folder beside a store in which it is prepared, so that a killed preparation can go on.

.NAME.partial/
    lock         held by the process at work; the system lets go of it when that dies, however it dies
    plan.json    what is prepared and from what; another plan may not go on here
    store/       the store to be: signals as soon as a shard is done, all else at the end; renamed to NAME
    manifests/   one file per shard that is done: checksum, index rows, what was rejected
    writing/     shards in the making; what is found here at the start is thrown away
    source/      what a source keeps for itself
"""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ecgjax import atomic
from ecgjax.data.store_files import check_vacant
from ecgjax.errors import UserError, disk_errors


class Workplace:
    """The work folder of a store, locked; use as a context manager.

    Args:
        out: the store to be, which must not exist.
        wait: for another process that prepares the same store, instead of failing.

    Raises:
        UserError: the store exists, another process prepares it, or the folder cannot be made.
    """

    def __init__(self, out: Path, *, wait: bool = False) -> None:
        self.out, self._wait = out.absolute(), wait
        self.called = out
        self.path = self.out.with_name(f".{self.out.name}.partial")
        self.store, self.manifests = self.path / "store", self.path / "manifests"
        self._lock_file: TextIO | None = None
        self.writing, self.source = self.path / "writing", self.path / "source"

    def __enter__(self) -> "Workplace":
        try:
            with disk_errors(self.called):
                self._lock()
                check_vacant(self.out, self.called)
                for folder in (self.store, self.manifests, self.writing):
                    folder.mkdir(exist_ok=True)
                for stray in self.writing.iterdir():
                    stray.unlink()
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{self.called}: cannot be made ({error.strerror}); expected the path of a new store"
            ) from error
        except UserError:
            self._tidy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tidy()

    def agree(self, plan: Mapping[str, Any]) -> None:
        """Notes what is prepared here, or checks that it is what was begun.

        Raises:
            UserError: the folder holds shards of another plan; what differs is named.
        """
        path, plan = self.path / "plan.json", json.loads(json.dumps(plan))
        try:
            begun = json.loads(path.read_text()) if path.exists() else None
        except ValueError:
            begun = {}
        if begun is not None and begun != plan and any(self.manifests.glob("*.json")):
            differing = ", ".join(name for name in {**begun, **plan} if begun.get(name) != plan.get(name))
            raise UserError(
                f"{self.path}: holds part of a store that was begun differently ({differing}); "
                "start the command it was begun with to go on, or delete that folder to start anew"
            )
        atomic.write_json(path, plan)

    def finished(self) -> dict[int, Path]:
        """Manifests by shard number."""
        return {int(path.stem): path for path in sorted(self.manifests.glob("*.json"))}

    def _lock(self) -> None:
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_file = open(self.path / "lock", "a+")  # noqa: SIM115 (held until `_tidy`)
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
                now = os.stat(self.path / "lock")
            except BlockingIOError as error:
                self._lock_file.seek(0)
                holder = self._lock_file.read().strip()
                self._lock_file.close()
                raise UserError(
                    f"{self.called}: process {holder or '(unknown)'} is preparing it; expected one at a time"
                ) from error
            except FileNotFoundError:
                now = None
            if now is not None and os.path.samestat(os.fstat(self._lock_file.fileno()), now):
                break
            # Whoever held the lock finished and removed the folder between the two calls.
            self._lock_file.close()
        self._lock_file.truncate(0)
        self._lock_file.write(str(os.getpid()))
        self._lock_file.flush()

    def _tidy(self) -> None:
        """Removes the folder, unless it holds something that the next attempt can use."""
        if self._lock_file is None or self._lock_file.closed:
            return
        # Once `store` was renamed nothing here is of use.
        useful = self.store.is_dir() and (any(self.manifests.glob("*.json")) or self.source.exists())
        if not useful:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock_file.close()
