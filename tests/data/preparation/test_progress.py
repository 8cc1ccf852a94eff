"""The bar on a terminal and the lines elsewhere: records per second, time left, rejected records."""

import sys

import pytest

from ecgjax.data.preparation import progress
from ecgjax.data.preparation.progress import ReadingProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_where_there_is_no_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ReadingProgress(total=10_000, done=4_000) as shown:
        for i in range(3_000):
            clock[0] += 0.03125  # a sum without rounding
            shown.advance(rejected=i // 1_000)
    lines = capsys.readouterr().err.splitlines()
    # What an earlier attempt had done does not count as fast.
    assert lines == [
        "reading  4,960/10,000  32 records/s  ETA 158 s  0 rejected",
        "reading  5,920/10,000  32 records/s  ETA 128 s  1 rejected",
        "reading  6,880/10,000  32 records/s  ETA 98 s  2 rejected",
    ]
    assert shown.done == 7_000


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with ReadingProgress(total=20, done=5) as shown:
        for _ in range(15):
            shown.advance(rejected=1)
    written = capsys.readouterr().err
    assert "20/20" in written
    assert "ETA" in written
    assert "1 rejected" in written
