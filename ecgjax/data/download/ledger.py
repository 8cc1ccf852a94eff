"""What of a download is complete: remembered in RAW/.download, safe to kill at any point."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from ecgjax import atomic
from ecgjax.data.download.remote_file import STATE_FOLDER, RemoteFile
from ecgjax.errors import UserError, disk_errors

try:
    import fcntl
except ImportError:  # Windows: two downloads into one folder are then not noticed.
    fcntl = None  # type: ignore[assignment]


class Ledger:
    """Lists of the publishers' files, and which of them are complete or unpacked, below one raw folder."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.folder = raw / STATE_FOLDER
        self._lock = threading.Lock()
        self._complete: dict[str, dict[str, Any]] = {}
        self._journal: TextIO | None = None

    @contextmanager
    def opened(self) -> Iterator["Ledger"]:
        """Makes the folders and keeps other processes out.

        Raises:
            UserError: another process downloads to the same folder, or it may not be written.
        """
        with disk_errors(self.raw):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise UserError(f"{self.raw}: expected a folder, or nothing, to download to") from error
            with open(self.folder / "lock", "a", encoding="utf-8") as lock:
                if fcntl is not None:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError as error:
                        raise UserError(f"{self.raw}: another process is downloading to this folder") from error
                    except OSError:
                        pass  # Some network file systems have no locks.
                self._read()
                # A torn last line must not swallow the next one.
                with open(self.folder / "complete.jsonl", "a", encoding="utf-8") as self._journal:
                    self._journal.write("\n")
                    yield self

    def _read(self) -> None:
        try:
            lines = (self.folder / "complete.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                self._complete[entry["name"]] = entry

    def has(self, file: RemoteFile) -> bool:
        """Whether the file was verified and has not been touched since; nothing is read."""
        entry = self._complete.get(file.name)
        if entry is None or (entry.get("checksum"), entry.get("published")) != (file.checksum, file.size):
            return False
        return _state(self.raw / file.name) == (entry.get("size"), entry.get("mtime_ns"))

    def fetched(self, file: RemoteFile) -> bool:
        """Whether the file was downloaded, not found."""
        return self._complete.get(file.name, {}).get("fetched") is True

    def add(self, file: RemoteFile, fetched: bool) -> None:
        """Remembers that the file is there and verified, and whether it was downloaded or found."""
        size, mtime = _state(self.raw / file.name) or (None, None)
        entry = {"name": file.name, "checksum": file.checksum, "published": file.size, "size": size, "mtime_ns": mtime}
        entry["fetched"] = fetched
        with self._lock:
            self._complete[file.name] = entry
            if self._journal is not None:
                self._journal.write(json.dumps(entry) + "\n")
                self._journal.flush()

    def listed(self, origin: object) -> list[RemoteFile] | None:
        """The publisher's list as an earlier run got it."""
        try:
            entries = json.loads(self._list_path(origin).read_text(encoding="utf-8"))
            return [RemoteFile(**entry) for entry in entries]
        except (OSError, ValueError, TypeError):
            return None

    def keep_list(self, origin: object, files: list[RemoteFile]) -> None:
        """Remembers the publisher's list; published versions do not change."""
        atomic.write_text(self._list_path(origin), json.dumps([vars(file) for file in files]))

    def drop_lists(self) -> None:
        """Forgets all lists, for they may be what is wrong."""
        for path in self.folder.glob("list-*.json"):
            path.unlink()

    def _list_path(self, origin: object) -> Path:
        return self.folder / f"list-{sha256(repr(origin).encode()).hexdigest()[:16]}.json"

    def unpacked(self, archive: RemoteFile) -> bool:
        """Whether everything that came out of the archive is still there."""
        try:
            note = json.loads(self._unpacked_path(archive).read_text(encoding="utf-8"))
            if note["archive"] != [archive.checksum, archive.size]:
                return False
            return all(os.stat(self.raw / name).st_size == size for name, size in note["files"])
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def add_unpacked(self, archive: RemoteFile, files: list[tuple[str, int]]) -> None:
        """Remembers what came out of the archive: paths relative to raw and sizes."""
        atomic.write_text(
            self._unpacked_path(archive), json.dumps({"archive": [archive.checksum, archive.size], "files": files})
        )

    def _unpacked_path(self, archive: RemoteFile) -> Path:
        return self.folder / f"unpacked-{sha256(archive.name.encode()).hexdigest()[:16]}.json"


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
