"""Real processes of one run on this machine, that never outlive a test."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 240  # seconds of any wait; a run of these takes some five on an idle machine

SETTINGS = {
    "data.seconds": 1.0,
    "model.width": 8,
    "model.layers": 1,
    "batch_size": 8,
    "epochs": 6,
    "log_every": 3,
    "checkpoint_every": 6,
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Run:
    """The processes of a run; use as a context manager, which kills what is left.

    Args:
        flags: of each process.
        devices: of each process.
        environments: of each process, besides.
    """

    def __init__(
        self,
        flags: Sequence[Sequence[str]],
        *,
        devices: int = 1,
        environments: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        self._flags, self._environments = flags, environments or [{}] * len(flags)
        self._shared = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            # Compile once, and not for speed.
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}",
        }
        self.processes: list[subprocess.Popen[str]] = []

    @classmethod
    def of(cls, count: int, arguments: Sequence[str], *, devices: int = 1) -> "Run":
        """Processes that are told where to meet."""
        shared = [*arguments, f"--coordinator=127.0.0.1:{free_port()}", f"--processes={count}"]
        shared += ["--heartbeat_timeout=10", f"--start_timeout={LIMIT}"]
        return cls([[*shared, f"--process={i}"] for i in range(count)], devices=devices)

    def __enter__(self) -> "Run":
        for flags, environment in zip(self._flags, self._environments, strict=True):
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "ecgjax.main", *flags],
                    cwd=ROOT,
                    env={**self._shared, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.communicate()

    def wait(self) -> list[tuple[int, str, str]]:
        """Exit status, standard output and standard error of each."""
        deadline = time.monotonic() + LIMIT
        outputs = [process.communicate(timeout=max(deadline - time.monotonic(), 1)) for process in self.processes]
        return [(process.returncode, *output) for process, output in zip(self.processes, outputs, strict=True)]

    def alive(self) -> Iterator[None]:
        """Yields every few milliseconds while all run; fails when one ends or it takes too long."""
        deadline = time.monotonic() + LIMIT
        while all(process.poll() is None for process in self.processes):
            assert time.monotonic() < deadline, "took too long"
            yield
            time.sleep(0.002)
        raise AssertionError(f"one ended too early: {[process.poll() for process in self.processes]}\n{self.wait()}")
