"""Progress as plain lines and on a terminal."""

import io

from ecgjax.training import progress
from ecgjax.training.progress import ProgressBar


def test_plain_lines_are_few_and_hold_rate_and_time_left(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with ProgressBar("pretraining", total=100, records_per_step=8, stream=stream) as bar:
        for step in (10, 20, 30, 40, 100):
            bar.update(step, {"loss": 2.0, "accuracy": 0.5})
    lines = stream.getvalue().splitlines()
    assert lines == [
        "pretraining  10/100  loss 2  accuracy 0.5",
        "pretraining  30/100  loss 2  accuracy 0.5  16.0 records/s  ETA 0:35",
        "pretraining  100/100  loss 2  accuracy 0.5  18.0 records/s  ETA 0:00",
    ]


def test_terminal_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with ProgressBar("pretraining", total=10, stream=stream) as bar:
        bar.update(5, {"loss": 2.0})
        bar.update(10, {"loss": 1.25})
    assert "10/10" in stream.getvalue()
    assert "loss 1.25" in stream.getvalue()


def test_clock():
    assert progress.clock(59.6) == "1:00"
    assert progress.clock(3 * 3600 + 61) == "3:01:01"
