"""metrics.jsonl and TensorBoard events, both cut back to the restored step when a run is resumed."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from ecgjax import atomic
from ecgjax.errors import disk_errors
from ecgjax.training.run_directory import RunDirectory


class MetricLog:
    """Appends one JSON line, and one set of TensorBoard scalars, per call; use as a context manager.

    A line is `{"step": ..., "seconds": ..., name: value, ...}`. Only "seconds" (wall clock since the previous line) and
    `timing` (which goes to TensorBoard only) depend on the machine: the rest is the same after a kill and a resume.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._file = directory.path / "metrics.jsonl"
        self._events_folder = directory.path / "tensorboard"
        # Written synchronously: a queue and a thread would swallow a full disk, and then block for ever.
        self._events: EventsWriter | None = None
        self._purge_step: int | None = None
        self._before = time.monotonic()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None and kind is None:
            with disk_errors(self._events_folder):
                self._events.close()

    def truncate(self, step: int) -> None:
        """Drops what was written after `step`, and a line that a kill tore, so that nothing counts twice."""
        self._purge_step = step + 1
        if jax.process_index() != 0 or not self._file.exists():
            return
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if (at := _step(line)) is not None and at <= step]
        if kept != lines:
            atomic.write_text(self._file, "".join(kept))

    def write(self, step: int, values: Mapping[str, float], timing: Mapping[str, float] | None = None) -> None:
        """Writes the values of one step.

        Args:
            step: training step that the values belong to.
            values: name -> value, the same whenever the run is repeated; a non-finite one becomes null.
            timing: name -> value of the machine's doing (records/s); goes to TensorBoard only.

        Raises:
            UserError: the disk is full.
        """
        now = time.monotonic()
        seconds, self._before = now - self._before, now
        if jax.process_index() != 0:
            return
        record = {
            "step": step,
            "seconds": round(seconds, 3),
            **{name: _finite(value) for name, value in values.items()},
        }
        with disk_errors(self._file):
            _append(self._file, json.dumps(record) + "\n")
        with disk_errors(self._events_folder):
            self._write_events(step, {**values, **(timing or {})})

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        if self._events is None:
            self._events_folder.mkdir(exist_ok=True)
            self._events = EventsWriter(str(self._events_folder / "events"), filename_suffix=f".{os.getpid()}.{step}")
            if self._purge_step is not None:
                # Makes TensorBoard forget what an interrupted process logged after the checkpoint.
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._events.write_event(
                    event_pb2.Event(wall_time=time.time(), step=self._purge_step, session_log=start)
                )
        for name, value in values.items():
            summary = scalar(name, float(value))
            self._events.write_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self._events.flush()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _append(path: Path, line: str) -> None:
    # One unbuffered write, so that a full disk shows here and a kill tears at most the last line.
    with open(path, "ab", buffering=0) as file:
        data = line.encode()
        while data:
            data = data[file.write(data) :]


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def _finite(value: float) -> float | None:
    value = float(value)
    return value if value - value == 0 else None
