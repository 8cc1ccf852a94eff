"""What is logged survives a kill without counting anything twice."""

import os
import struct
import subprocess
import sys
from pathlib import Path

from tensorboardX.proto import event_pb2

from ecgjax.training.logging import MetricLog, read_metrics
from ecgjax.training.run_directory import RunDirectory


def read_events(folder: Path) -> list[event_pb2.Event]:
    events = []
    for file in sorted(folder.iterdir(), key=lambda f: int(f.name.rsplit(".", 1)[1])):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def without_seconds(path: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(path)]


def test_lines_and_events(tmp_path):
    with MetricLog(RunDirectory(tmp_path)) as log:
        log.write(10, {"loss": 1.5, "accuracy": 0.25}, {"records_per_second": 3.0})
        log.write(20, {"loss": float("nan")})
    assert without_seconds(tmp_path / "metrics.jsonl") == [
        {"step": 10, "loss": 1.5, "accuracy": 0.25},
        {"step": 20, "loss": None},
    ]
    scalars = [(e.step, v.tag, v.simple_value) for e in read_events(tmp_path / "tensorboard") for v in e.summary.value]
    assert scalars[:3] == [(10, "loss", 1.5), (10, "accuracy", 0.25), (10, "records_per_second", 3.0)]


def test_resume_equals_an_uninterrupted_run(tmp_path):
    for name, spans in {"whole": [(0, 6)], "resumed": [(0, 5), (3, 6)]}.items():
        directory = tmp_path / name
        directory.mkdir()
        for number, (start, stop) in enumerate(spans):
            with MetricLog(RunDirectory(directory)) as log:
                if number:
                    with open(directory / "metrics.jsonl", "a") as file:
                        file.write('{"step": 5, "lo')  # a kill tore the last line
                    log.truncate(start)
                for step in range(start + 1, stop + 1):
                    log.write(step, {"loss": step / 2})
    assert without_seconds(tmp_path / "resumed" / "metrics.jsonl") == without_seconds(
        tmp_path / "whole" / "metrics.jsonl"
    )
    events = read_events(tmp_path / "resumed" / "tensorboard")
    starts = [event.step for event in events if event.session_log.status == event_pb2.SessionLog.START]
    assert starts == [4]


def test_no_space_is_one_clear_error_and_the_torn_line_goes(tmp_path):
    code = """
import resource, sys; from pathlib import Path
from ecgjax.errors import UserError
from ecgjax.training.logging import MetricLog
from ecgjax.training.run_directory import RunDirectory
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with MetricLog(RunDirectory(Path(sys.argv[1]))) as log:
        for step in range(1, 1000):
            log.write(step, {"loss": step + 0.5})
except UserError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert "no space left" in result.stdout, result.stderr
    assert result.stderr == ""
    with MetricLog(RunDirectory(tmp_path)) as log:
        log.truncate(7)
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6, 7]
