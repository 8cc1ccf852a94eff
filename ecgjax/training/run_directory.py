"""The directory a run owns: its config, its environment, its results, and DONE, which is written last.

A run without DONE is resumed, never trusted; a directory that holds another config's run is refused. Of a run's
processes the first writes; all must see what it wrote.
"""

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import ecgjax
from ecgjax import atomic, distributed
from ecgjax.errors import UserError, disk_errors

FREE_FIELDS = ("compilation_cache", "figures", "log_every", "remat")
"""Config fields (with all below them) that may differ when a run is resumed: they do not change its result."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunDirectory:
    """A run's directory; make one with `open`.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = False

    @classmethod
    def open(cls, workdir: Path | None, config: ConfigDict | Mapping[str, Any]) -> "RunDirectory":
        """Makes the directory and writes config.json, or checks that the one there belongs to the same run.

        Args:
            workdir: the directory; None is the user's omission.
            config: the resolved config.

        Raises:
            UserError: no directory given, it cannot be made, or it holds a run of another config (naming the fields);
                processes of other configs, or that do not see the same directory.
        """
        if workdir is None:
            raise UserError("--workdir is missing; expected the directory that the run is to be written to")
        directory, here = cls(workdir), plain(config)
        distributed.require_same(_flat(here))
        with distributed.same_fate():
            if distributed.first():
                directory._make(here)
        with distributed.same_fate():
            if not distributed.first() and directory._read("config.json") is None:
                raise UserError(
                    f"--workdir={workdir}: does not show what process 0 has written there; expected a directory that "
                    "all processes share"
                )
        return directory

    def _make(self, here: dict[str, Any]) -> None:
        for folder in (self.path, *self.path.parents):
            if folder.exists() and not folder.is_dir():
                raise UserError(f"--workdir={self.path}: {folder} is a file; expected a directory, or a free name")
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        there = self._read("config.json")
        if there is not None:
            _check_same(self.path, there, here)
        else:
            atomic.write_json(self.path / "config.json", here)
            self._new = True

    @contextmanager
    def setting_up(self) -> Iterator[None]:
        """If what is inside refuses its input, a new directory is left empty, so that a corrected run may use it."""
        try:
            yield
        except UserError:
            if self._new:
                for name in ("config.json", "environment.json"):
                    (self.path / name).unlink(missing_ok=True)
                with suppress(OSError):  # it was there before, or holds something else
                    self.path.rmdir()
            raise

    @property
    def done(self) -> bool:
        """Whether the run ended; nothing in the directory is to be trusted before."""
        return distributed.exchange((self.path / "DONE").exists())[0]

    def write_environment(self, *, seed: int, data: Mapping[str, Any]) -> None:
        """Writes environment.json: versions, devices, source revision, data fingerprints and seed.

        Args:
            seed: the run's seed.
            data: fingerprint of each store by a name that stays the same, such as its path.

        Raises:
            UserError: the run was started on data of another content.
        """
        with distributed.same_fate():
            there = (self._read("environment.json") or {}).get("data", dict(data)) if distributed.first() else data
            changed = [name for name in {**there, **data} if there.get(name) != data.get(name)]
            if changed:
                raise UserError(
                    f"{self.path}: was started on other data ({', '.join(changed)} has changed since); "
                    "expected the same stores, or another --workdir"
                )
        devices = jax.devices()
        self.write_json(
            "environment.json",
            {
                "versions": {
                    "ecgjax": ecgjax.__version__,
                    "python": platform.python_version(),
                    **{name: metadata.version(name) for name in _PACKAGES},
                },
                "platform": platform.platform(),
                "devices": [device.device_kind for device in devices],
                "backend": devices[0].platform,
                "processes": jax.process_count(),
                "revision": _revision() if distributed.first() else None,
                "seed": seed,
                "data": dict(data),
            },
        )

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file atomically (process 0 only)."""
        if distributed.first():
            atomic.write_json(self.path / name, value)

    def finish(self) -> None:
        """Writes DONE; everything else must be on disk by now."""
        if distributed.first():
            atomic.write_text(self.path / "DONE", "")

    def _read(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file}: not readable as JSON ({error}); expected what a run wrote there") from error


def plain(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds of a config."""
    mapping = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.loads(json.dumps(mapping, default=str))


def _check_same(workdir: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    old, new = _flat(there), _flat(here)
    differing = [
        f"{name} was {json.dumps(old[name]) if name in old else 'absent'}"
        f" and is {json.dumps(new[name]) if name in new else 'absent'}"
        for name in {**old, **new}
        if old.get(name) != new.get(name) and name.split(".")[1] not in FREE_FIELDS
    ]
    if differing:
        raise UserError(f"{workdir}: holds a run of another config: {'; '.join(differing)}; expected another --workdir")


def _flat(value: Any, prefix: str = "config") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key, item in value.items() for name, leaf in _flat(item, f"{prefix}.{key}").items()}


def _revision() -> str | None:
    root = Path(ecgjax.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        return subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
