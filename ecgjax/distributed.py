"""One run over several processes, each with its own devices: starting, agreeing, and ending together.

Every process runs the same command. Process 0 writes, all train: state and data set are on every device, batches are
spread over them. All of them must be alive: one that dies ends the others, and the same commands continue.
"""

import importlib.util
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from ecgjax.errors import UserError

JOBS = ("pretrain",)
"""The jobs that can be one run over several processes."""

_LAST = 2.0  # seconds that a failing process 0 stays: with it goes the service the others live by
_NO_CLUSTER = "coordinator_address should be defined"  # JAX's ValueError
_LOST = ("Gloo", "gloo", "NCCL", "coordination", "barrier", "Barrier", "UNAVAILABLE", "DEADLINE_EXCEEDED")

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """How the processes of a run find each other.

    Attributes:
        mode: "auto": together if a cluster started them as one job. "on": they must. "off": each is its own run.
        coordinator: "HOST:PORT" of process 0, any free port; with `count` and `index`, where no cluster tells them.
        count: of processes.
        index: of this one, from 0.
        start_timeout: seconds to wait for the others at the start.
        heartbeat_timeout: seconds after which a process that is not heard of is given up.
    """

    mode: str = "auto"
    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    start_timeout: int = 300
    heartbeat_timeout: int = 100

    def check(self) -> None:
        """Raises a UserError for what cannot be."""
        explicit = {"--coordinator": self.coordinator, "--processes": self.count, "--process": self.index}
        missing = [name for name, value in explicit.items() if value is None]
        if 0 < len(missing) < len(explicit):
            raise UserError(
                f"{' and '.join(missing)} missing; expected --coordinator=HOST:PORT --processes=N --process=I together"
            )
        for name, value in {
            "--start_timeout": self.start_timeout,
            "--heartbeat_timeout": self.heartbeat_timeout,
        }.items():
            if value < 1:
                raise UserError(f"{name}={value}; expected seconds, 1 or more")
        if self.coordinator is None or self.count is None or self.index is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator={self.coordinator}; expected HOST:PORT of process 0, e.g. 10.0.0.1:8476")
        if self.count < 1:
            raise UserError(f"--processes={self.count}; expected 1 or more")
        if not 0 <= self.index < self.count:
            raise UserError(f"--process={self.index}; expected 0 to {self.count - 1}, of --processes={self.count}")
        if self.mode == "off":
            raise UserError("--distributed=off with --coordinator; expected one of them")


@contextmanager
def session(job: str, processes: Processes) -> Iterator[None]:
    """Inside, this process is one of a run's, if it is to be; to be entered before any use of a device.

    An error inside ends this process, since the others may wait for it where Python cannot be reached.

    Raises:
        UserError: flags that cannot be, a job that runs in one process only, or no cluster where one is expected.
    """
    processes.check()
    if not _start(job, processes):
        yield
        return
    try:
        yield
        jax.distributed.shutdown()
    except SystemExit:  # all have agreed to stop
        jax.distributed.shutdown()
        raise
    except BaseException as error:
        _end(error)


def joined() -> bool:
    """Whether this process is one of several of a run; touches no device otherwise."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes and talks."""
    return not joined() or jax.process_index() == 0


def say(text: str) -> None:
    """Prints in process 0 only."""
    if first():
        print(text, flush=True)


def exchange(value: T) -> list[T]:
    """The value (JSON-able) of every process, in each of them; waits for all of them."""
    if not joined():
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(1 << int(sizes.max()).bit_length(), np.uint8)  # few lengths, few programs
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


@contextmanager
def same_fate() -> Iterator[None]:
    """If one process raises a UserError inside, all of them do. Nothing inside may wait for other processes."""
    fault: UserError | None = None
    try:
        yield
    except UserError as error:
        if not joined():
            raise
        fault = error
    if joined():
        for index, message in enumerate(exchange(None if fault is None else str(fault))):
            if fault is not None:
                raise fault
            if message is not None:
                raise UserError(f"process {index}: {message}")


def require_same(values: Mapping[str, Any]) -> None:
    """Checks that facts, name -> JSON-able value, are the same in every process.

    Raises:
        UserError: in all of them, naming the first that differs.
    """
    everyones = exchange(dict(values))
    for index, theirs in enumerate(everyones):
        for name in {**everyones[0], **theirs}:
            if theirs.get(name) != everyones[0].get(name):
                raise UserError(
                    f"{name} is {json.dumps(everyones[0].get(name))} in process 0 and {json.dumps(theirs.get(name))} "
                    f"in process {index}; expected the same in all (--distributed=off makes each its own run)"
                )


def put_replicated(value: np.ndarray, sharding: Sharding | None) -> jax.Array:
    """Puts an array that every process has on all devices of a replicated sharding (None: the default device)."""
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(value, sharding)
    # Unlike `jax.device_put`, which would send it through the network to compare.
    return jax.make_array_from_process_local_data(sharding, value, value.shape)


def devices() -> list[jax.Device]:
    """The devices of all processes, those of a process beside each other: its share of a batch is one piece."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def _start(job: str, processes: Processes) -> bool:
    explicit = processes.coordinator is not None and processes.count is not None
    if explicit and processes.count == 1:
        return False
    if job not in JOBS:
        if explicit or processes.mode == "on":
            raise UserError(
                f"job {job} runs in one process; expected no --coordinator and no --distributed=on "
                "(several processes share a sweep by config.shard or config.executor)"
            )
        return False
    if not explicit and (processes.mode == "off" or (processes.mode == "auto" and _cluster() is None)):
        return False
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    started = threading.Timer(processes.start_timeout, _give_up, [processes])
    started.daemon = True
    started.start()
    arguments: dict[str, Any] = {
        # JAX ends the process in C++ when its own time is up; the timer's line is the clearer one.
        "initialization_timeout": processes.start_timeout + 60,
        "heartbeat_timeout_seconds": processes.heartbeat_timeout,
    }
    if explicit:
        arguments |= {
            "coordinator_address": processes.coordinator,
            "num_processes": processes.count,
            "process_id": processes.index,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(**arguments)
        jax.devices()  # which waits for those of the others
    except (ValueError, RuntimeError, OSError) as error:
        if _NO_CLUSTER in str(error):
            if processes.mode == "on":
                raise UserError(
                    "--distributed=on: no Cloud TPU, SLURM step, Open MPI or Kubernetes job found; expected one, "
                    "or --coordinator=HOST:PORT --processes=N --process=I"
                ) from error
            return False
        where = f"--coordinator={processes.coordinator}" if explicit else f"as part of {_cluster() or 'a cluster'}"
        raise UserError(
            f"the processes of this run could not start {where} ({error}); "
            "expected a free port on a host that all reach, or --distributed=off for a run of its own"
        ) from error
    finally:
        started.cancel()
    return True


def _cluster() -> str | None:
    """What started this process as one of several, as far as the environment tells; JAX finds out the rest.

    One task alone (of a SLURM array, of an allocation) is nobody's part, though JAX would take it for a cluster of one.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_NODELIST" in os.environ and tasks.isdecimal() and int(tasks) > 1:
        return "a SLURM step"
    if int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return "an Open MPI job"
    if _tpu():
        hosts = os.environ.get("TPU_PROCESS_ADDRESSES", os.environ.get("TPU_WORKER_HOSTNAMES"))
        slices = int(os.environ.get("MEGASCALE_NUM_SLICES", "1"))
        return None if hosts is not None and "," not in hosts and slices == 1 else "a Cloud TPU"
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= os.environ.keys():
        return "an indexed Kubernetes job" if importlib.util.find_spec("kubernetes") else None
    return None


def _tpu() -> bool:
    platforms = os.environ.get("JAX_PLATFORMS", "")
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return bool(chips) and (not platforms or "tpu" in platforms) and importlib.util.find_spec("libtpu") is not None


def _give_up(processes: Processes) -> None:
    where = f"at {processes.coordinator}" if processes.coordinator else "of this cluster"
    count = f"all {processes.count} " if processes.count else "all "
    _leave(
        f"not {count}processes met at the coordinator {where} in {processes.start_timeout} s (--start_timeout); "
        "expected each to be started, with the same --processes and its own --process, and to reach process 0",
        code=2,
        last=False,
    )


def _end(error: BaseException) -> NoReturn:
    last = jax.process_index() == 0
    if isinstance(error, Exception) and "--debug" not in sys.argv:
        if isinstance(error, UserError):
            _leave(str(error), code=2, last=last)
        if any(sign in str(error) for sign in _LOST):
            _leave(
                f"process {jax.process_index()}: another process of this run has ended or is out of reach, see its "
                f"messages; start all of them again to continue from the last checkpoint ({str(error)[:200]})",
                code=1,
                last=last,
            )
    traceback.print_exception(error)
    _leave(f"process {jax.process_index()} ends, and so will the others", code=1, last=last)


def _leave(message: str, code: int, last: bool) -> NoReturn:
    # Not sys.exit: threads and JAX's own farewell would wait for processes that are gone.
    print("ecgjax: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.stdout.flush()
    if last:
        time.sleep(_LAST)
    os._exit(code)
