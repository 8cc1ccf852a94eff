"""Features of a frozen encoder on disk, computed once and memory-mapped wherever the same windows come again.

They lie beside their store:

STORE.features/KEY/        all that determines them has one key (`key_of`): weights, model, data, protocol, dtype ...
    PART/                  some windows; whoever lacks windows adds a part, so nothing is computed twice
        pooled.npy         (windows, channels) and
        sequence.npy       (windows, tokens, channels), or one of them; float32, or bfloat16 as its bits in uint16
        index.npy          (windows, 2) int32: row of the record in the store, first sample; ascending
        meta.json          what the key stands for, the kinds, the dtype, size and SHA-256 of each file

A part is written under a temporary name and renamed when all of it is on the disk: what has its name is whole. Sizes
are compared whenever a cache is opened, checksums once in a process (a read of every file, about a second per GB or
two). Nothing here knows models; `ecgjax.sweep.features` computes what is missing.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ecgjax import atomic
from ecgjax.data.store_files import fsync_folder, write_bytes
from ecgjax.data.store_shard import Shard
from ecgjax.errors import UserError, disk_errors

Kind = Literal["pooled", "sequence"]
DType = Literal["float32", "bfloat16"]
KINDS: tuple[Kind, ...] = ("pooled", "sequence")
FORMAT = 1

_DTYPES: dict[str, np.dtype] = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_TEMPORARY = ".tmp"
_verified: set[tuple[str, int, int, str]] = set()


class DamagedError(UserError):
    """A part that is not what was written; `part` is its folder."""

    def __init__(self, message: str, part: Path) -> None:
        super().__init__(message)
        self.part = part


def place(store: Path, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where a store's features lie: STORE.features, or, where nothing can be written, in ecgjax's cache folder.

    Args:
        store: its folder.
        folder: another place, for the features of any number of stores.
    """
    if folder is not None:
        return Path(folder)
    beside = store.absolute().with_name(store.name + ".features")
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside
    from ecgjax.data.embedded import cache_folder

    return cache_folder() / "features"


def key_of(identity: Mapping[str, Any]) -> str:
    """Twenty hexadecimal digits that stand for all that determines features."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class FeatureCache:
    """The windows of one key whose features lie on disk; a window's position is its rank by record, then start.

    Args:
        folder: PLACE/KEY; it need not be there.
        kinds: that are wanted; windows without all of them do not count.
        dtype: in which they are stored.

    Attributes:
        folder: see above.
        kinds: see above.
        dtype: "float32" or "bfloat16".

    Raises:
        DamagedError: a file is missing, or not what was written; it is named.
    """

    def __init__(self, folder: Path, kinds: Iterable[Kind], dtype: DType) -> None:
        self.folder, self.dtype, self.kinds = folder, dtype, tuple(kind for kind in KINDS if kind in set(kinds))
        parts = [_read_meta(path) for path in _parts(folder)]
        self._paths = [path for path, meta in parts if set(self.kinds) <= set(meta["kinds"])]
        indices = [np.load(_verify(path, "index.npy", meta)) for path, meta in parts if path in self._paths]
        for path, meta in parts:
            if path in self._paths:
                for kind in self.kinds:
                    _verify(path, f"{kind}.npy", meta)
        self._maps: dict[Kind, list[NDArray]] = {
            kind: [_mapped(path / f"{kind}.npy", dtype) for path in self._paths] for kind in self.kinds
        }
        self._first = np.cumsum([0, *map(len, indices)])
        window = np.concatenate([np.zeros((0, 2), np.int32), *indices])
        # Parts may share windows, where one holds more kinds than another: any of them will do.
        self._keys, self._row = np.unique(_packed(window[:, 0], window[:, 1]), return_index=True)

    def __len__(self) -> int:
        """Windows that can be looked up."""
        return len(self._keys)

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.folder)!r}, {len(self)} windows, {' and '.join(self.kinds)}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself instead of receiving copies of them.
        return {**self.__dict__, "_maps": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps = {kind: [_mapped(path / f"{kind}.npy", self.dtype) for path in self._paths] for kind in self.kinds}

    def shape(self, kind: Kind) -> tuple[int, ...]:
        """Of one window's features: (channels,) or (tokens, channels)."""
        return self._maps[kind][0].shape[1:]

    @property
    def bytes(self) -> int:
        """Of the features of all windows."""
        size = _DTYPES[self.dtype].itemsize
        return sum(len(self) * size * math.prod(self.shape(kind)) for kind in self.kinds) if len(self) else 0

    def only(self, record: NDArray[np.integer], start: NDArray[np.integer]) -> "FeatureCache":
        """The same with these windows only.

        Raises:
            LookupError: one of them is not there.
        """
        chosen = np.unique(self.find(record, start))
        fewer = copy(self)
        fewer._keys, fewer._row = self._keys[chosen], self._row[chosen]
        return fewer

    def has(self, record: NDArray[np.integer], start: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which windows are there; any shape."""
        return self._look_up(record, start)[1]

    def find(self, record: NDArray[np.integer], start: NDArray[np.integer]) -> NDArray[np.int32]:
        """Position of each window, for `rows`.

        Args:
            record: row numbers in the store, any shape.
            start: first samples.

        Raises:
            LookupError: one of them is not there.
        """
        position, there = self._look_up(record, start)
        if not there.all():
            missing = np.flatnonzero(~there.ravel())[0]
            raise LookupError(
                f"{self.folder}: no features of record {np.ravel(record)[missing]} from sample "
                f"{np.ravel(start)[missing]}"
            )
        return position

    def rows(self, kind: Kind, position: NDArray[np.integer]) -> NDArray:
        """Features by position, (*position.shape, ...), in `dtype` (bfloat16 as `ml_dtypes.bfloat16`)."""
        flat = self._row[np.ravel(position)]
        out = np.empty((len(flat), *self.shape(kind)), _DTYPES[self.dtype])
        part = np.searchsorted(self._first, flat, side="right") - 1
        for i in np.unique(part):
            mine = part == i
            out[mine] = self._maps[kind][i][flat[mine] - self._first[i]]
        return out.reshape(*np.shape(position), *out.shape[1:])

    def _look_up(
        self, record: NDArray[np.integer], start: NDArray[np.integer]
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        wanted = _packed(record, start)
        if not len(self._keys):
            return np.zeros(wanted.shape, np.int32), np.zeros(wanted.shape, bool)
        found = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return found.astype(np.int32), self._keys[found] == wanted


@contextlib.contextmanager
def new_part(
    folder: Path,
    identity: Mapping[str, Any],
    record: NDArray[np.integer],
    start: NDArray[np.integer],
    shapes: Mapping[Kind, tuple[int, ...]],
    dtype: DType,
) -> Iterator[dict[Kind, Shard]]:
    """Yields what takes the features of these windows, in ascending order; on success they are a part of the cache.

    If fewer windows' features come, it is a part of those. Nothing stays behind if writing fails; what a killed process
    leaves goes with the next `tidy`.

    Args:
        folder: PLACE/KEY.
        identity: what KEY stands for.
        record: row numbers in the store, (windows,).
        start: first samples; no window twice, by record, then start.
        shapes: of one window's features of each kind.
        dtype: in which they are stored.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    index = np.stack([record, start], axis=1).astype(np.int32)
    if not (np.diff(_packed(index[:, 0], index[:, 1])) > 0).all():
        raise ValueError("windows out of order, or one of them twice")
    temporary = folder / f".{socket.gethostname()}.{os.getpid()}{_TEMPORARY}"
    stored = np.dtype(np.uint16) if dtype == "bfloat16" else np.dtype(np.float32)
    with disk_errors(folder):
        shards: dict[Kind, Shard] = {}
        try:
            temporary.mkdir(parents=True)
            shards = {kind: Shard(temporary / f"{kind}.npy", stored, shape) for kind, shape in shapes.items()}
            yield shards
            files: dict[str, dict[str, Any]] = {f"{kind}.npy": shard.close() for kind, shard in shards.items()}
            (windows,) = {entry["rows"] for entry in files.values()}
            whole = Shard(temporary / "index.npy", np.dtype(np.int32), (2,))
            whole.append(index[:windows])
            files["index.npy"] = whole.close()
            meta = {
                "format": FORMAT,
                "identity": dict(identity),
                "kinds": list(shapes),
                "dtype": dtype,
                "windows": windows,
                "files": files,
            }
            write_bytes(temporary / "meta.json", atomic.as_json(meta).encode())
            fsync_folder(temporary)
            name = hashlib.sha256(" ".join(shapes).encode() + index[:windows].tobytes()).hexdigest()[:20]
            try:
                os.replace(temporary, folder / name)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another process wrote the very same windows
            fsync_folder(folder)
        finally:
            for shard in shards.values():
                shard.discard()
            shutil.rmtree(temporary, ignore_errors=True)


def append(shard: Shard, features: NDArray, dtype: DType) -> None:
    """Writes features of the next windows, (windows, ...), already in `dtype`."""
    shard.append(np.ascontiguousarray(features).view(np.uint16) if dtype == "bfloat16" else features)


def tidy(folder: Path) -> None:
    """Removes what killed writers left; only for the one who holds the folder's lock."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)


def _parts(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        return ()
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_meta(part: Path) -> tuple[Path, dict[str, Any]]:
    try:
        meta = json.loads((part / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT or key_of(meta["identity"]) != part.parent.name:
            raise ValueError("of other features")
        sizes = {name: entry["bytes"] for name, entry in meta["files"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{part / 'meta.json'}: damaged ({error}); expected what ecgjax wrote", part) from error
    for name, size in sizes.items():
        found = (part / name).stat().st_size if (part / name).is_file() else None
        if found != size:
            said = "missing" if found is None else f"{found} bytes"
            raise DamagedError(f"{part / name}: {said}; expected {size} bytes", part)
    return part, meta


def _verify(part: Path, name: str, meta: Mapping[str, Any]) -> Path:
    path, expected = part / name, meta["files"][name]["sha256"]
    about = path.stat()
    file = (str(path), about.st_ino, about.st_mtime_ns, expected)
    if file not in _verified:
        with open(path, "rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != expected:
            raise DamagedError(f"{path}: damaged (SHA-256 {found[:12]}..., expected {expected[:12]}...)", part)
        _verified.add(file)
    return path


def _mapped(path: Path, dtype: DType) -> NDArray:
    # A plain view: slicing a np.memmap costs ten times more than slicing an array.
    mapped = np.load(path, mmap_mode="r").view(np.ndarray)
    return mapped.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else mapped


def _packed(record: NDArray[np.integer], start: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number for a window, in the order of records, then starts."""
    return (np.asarray(record, np.int64) << 32) + np.asarray(start, np.int64)
