"""Asynchronous Orbax checkpoints that survive a kill: `last` to resume from and `best` to use.

Each keeps one. A new one is written beside the old one, committed by a rename, and only then is the old one deleted:
a kill or a full disk at any moment leaves a whole checkpoint. Orbax notices a damaged index but not damaged array data,
so each checkpoint holds the SHA-256 of its files, written before the commit and checked before anything is restored.

The processes of a run write one checkpoint together, each its part, into a folder that all of them see. Another number
of processes may restore it.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from ecgjax import atomic, distributed
from ecgjax.errors import UserError

_CHECKSUMS = "checksums.json"
_WRITTEN_AT_COMMIT = ("_CHECKPOINT_METADATA", "commit_success.txt")
_DISK_FULL = ("No space left", "File too large", "quota exceeded")

# Orbax logs a failed save with several tracebacks, from threads; the error itself is raised here, once.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


class Restored(NamedTuple):
    """What `Checkpoints.restore` found."""

    step: int
    state: Any
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run; use as a context manager, which waits for the writes still under way.

    Args:
        folder: the run's `checkpoints` folder; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._slots = {name: _Slot(folder.absolute() / name) for name in ("last", "best")}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.wait()
            for slot in self._slots.values():
                slot.manager.close()
            return
        # The run has failed already, and its own error matters more than one of a write under way.
        for slot in self._slots.values():
            with contextlib.suppress(Exception):
                slot.wait()

    def save(
        self,
        step: int,
        state: Any,
        iterator: Any = None,
        *,
        meta: dict[str, Any] | None = None,
        best: bool = False,
        wait: bool = False,
    ) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
            step: training step; a step that is there already is not written again.
            state: tree of arrays; PRNG keys are stored as their data.
            iterator: grain iterator whose position belongs to the state, or None. Its state is the same in every
                process (`ecgjax.data.batches`: a step number), so that of process 0 is written.
            meta: JSON-able facts to keep beside it.
            best: also write it as the best one.
            wait: return only when it is on disk.

        Raises:
            UserError: the disk is full; the previous checkpoint is still there.
        """
        arrays = jax.tree.map(_without_key, state)
        for name in ("best", "last") if best else ("last",):
            self._slots[name].save(step, arrays, iterator, meta or {})
        if wait:
            self.wait()

    def restore(self, template: Any, iterator: Any = None, *, best: bool = False) -> Restored | None:
        """Restores the newest usable checkpoint, or None where there is none.

        Args:
            template: tree like the saved state: its shapes, dtypes, shardings and key types are what is returned.
            iterator: grain iterator to set to the saved position.
            best: the best one rather than the newest one.

        Raises:
            UserError: there are checkpoints, but every one is damaged.
        """
        names = ("best",) if best else ("last", "best")
        slots = [(slot.step, slot) for name in names if (slot := self._slots[name]).step is not None]
        faults: list[str] = []
        for step, slot in sorted(slots, key=lambda item: -item[0]):
            try:
                restored = slot.restore(step, template, iterator)
            except UserError as error:
                faults.append(str(error))
                continue
            for fault in faults if distributed.first() else ():
                print(f"ecgjax: {fault}; continuing from {slot.folder.name}/{step}", file=sys.stderr)
            for newer_step, newer in slots:
                if newer_step > step:
                    newer.manager.delete(newer_step)
            return restored
        if faults:
            raise UserError(f"{'; '.join(faults)}; expected a whole checkpoint (start again in another --workdir)")
        return None

    def wait(self) -> None:
        """Returns when everything saved is on disk.

        Raises:
            UserError: the disk is full; the previous checkpoint is still there.
        """
        for slot in self._slots.values():
            slot.wait()


class _Slot:
    """A folder that holds one checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _disk_full(folder):
            self._remove_unfinished()
            distributed.exchange(None)  # nobody looks before that
            self.manager = ocp.CheckpointManager(
                folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=1,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
                    multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name),
                ),
            )

    @property
    def step(self) -> int | None:
        return self.manager.latest_step()

    def save(self, step: int, arrays: Any, iterator: Any, meta: dict[str, Any]) -> None:
        if step == self.step:
            return
        items = {"state": ocp.args.StandardSave(arrays), "meta": ocp.args.JsonSave(meta)}
        if iterator is not None:
            items["iterator"] = ocp.args.JsonSave(iterator.get_state())
        with self._failure():
            self.manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, step: int, template: Any, iterator: Any) -> Restored:
        with distributed.same_fate():
            if distributed.first():
                self._check(step)
        abstract = jax.tree.map(lambda leaf: ocp.utils.to_shape_dtype_struct(_without_key(leaf)), template)
        items = {"state": ocp.args.StandardRestore(abstract), "meta": ocp.args.JsonRestore()}
        if iterator is not None:
            items["iterator"] = ocp.args.JsonRestore()
        try:
            restored = self.manager.restore(step, args=ocp.args.Composite(**items))
            if iterator is not None:
                iterator.set_state(restored.iterator)
        except Exception as error:  # Orbax raises what its parts raise
            detail = str(error).strip().split("\n")[0][:200]
            raise UserError(f"{self.folder / str(step)}: does not fit this run or is damaged ({detail})") from error
        return Restored(step, jax.tree.map(_with_key, restored.state, template), restored.meta)

    def wait(self) -> None:
        with self._failure():
            self.manager.wait_until_finished()

    @contextlib.contextmanager
    def _failure(self) -> Iterator[None]:
        with _disk_full(self.folder):
            try:
                yield
            except BaseException:
                # Orbax reports the first part that fails while others are still written, and make their folders again.
                quiet = 0
                for _ in range(100):
                    quiet = 0 if self._remove_unfinished() else quiet + 1
                    if quiet == 3:
                        break
                    time.sleep(0.05)
                raise

    def _remove_unfinished(self) -> bool:
        """Removes what no rename has made a checkpoint; whether there was something."""
        found = list(self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*")) if distributed.first() else []
        for unfinished in found:
            shutil.rmtree(unfinished, ignore_errors=True)
        return bool(found)

    def _write_checksums(self) -> None:
        # Called by Orbax when all files are written, before the rename that makes them a checkpoint.
        if distributed.first():
            (unfinished,) = self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*")
            files = [file for file in sorted(unfinished.rglob("*")) if file.is_file()]
            sums = {str(f.relative_to(unfinished)): _sha256(f) for f in files if f.name not in _WRITTEN_AT_COMMIT}
            atomic.write_json(unfinished / _CHECKSUMS, sums)

    def _check(self, step: int) -> None:
        root = self.folder / str(step)
        try:
            sums = json.loads((root / _CHECKSUMS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{root / _CHECKSUMS}: missing or not readable") from error
        for name, expected in sums.items():
            if not (root / name).is_file():
                raise UserError(f"{root / name}: is missing")
            if _sha256(root / name) != expected:
                raise UserError(f"{root / name}: is damaged (its checksum differs)")


@contextlib.contextmanager
def _disk_full(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        chain: BaseException | None = error
        while chain is not None:
            if any(text in str(chain) for text in _DISK_FULL):
                raise UserError(
                    f"{folder}: no space left to write a checkpoint; the previous one is kept: "
                    "free space and start the same command again"
                ) from error
            chain = chain.__cause__ or chain.__context__
        raise


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_key(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _with_key(leaf: Any, template: Any) -> Any:
    if _is_key(template):
        return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(template))
    return np.asarray(leaf) if isinstance(template, np.ndarray) else leaf
