import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command
from benchmarks import page, timing
from benchmarks.suite import SUITE


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median}


def both(median: float) -> dict[str, dict[str, float]]:
    return {"wall": spread(2 * median), "cpu": spread(median)}


def program(ours: float, torch: float | None) -> dict[str, Any]:
    """Of `benchmarks.models`, in milliseconds."""
    row: dict[str, Any] = {"ecgjax": {"ms": both(ours), "records_per_second": both(4000 / ours)}}
    row |= {"share_of_peak": both(0.5), "gflop": 12.5, "megabytes": 321.0}
    if torch is not None:
        row |= {"torch": {"ms": both(torch)}, "time_to_torch": both(ours / torch)}
    return row


def entry(result: dict[str, Any]) -> dict[str, Any]:
    machine = {"processor": "P", "cores": 2, "memory_gib": 8.0, "system": "S", "python": "3.11"}
    times = {"date": "2026-01-02T03:04:05+00:00", "seconds": 1.0, "load": [0.5, 9.5]}
    return {"command": "python -m x", **times, "machine": machine, "versions": {"jax": "1"}, "result": result}


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9))
def test_spread_is_the_median_with_quartiles(values: list[float]) -> None:
    low, median, high = np.percentile(values, (25, 50, 75))
    assert timing.spread(values) == pytest.approx((median, low, high))


def test_calls_take_turns_and_each_is_first_as_often_as_last() -> None:
    order: list[str] = []
    times = timing.in_turns({name: lambda name=name: order.append(name) for name in "abc"}, repeats=3)
    assert "".join(order) == "abc" + "cba" + "abc" + "cba"
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_call_of_another_process_brings_its_own_times_and_ratios_are_those_of_the_turns() -> None:
    own = iter([timing.Times(8.0, 4.0), timing.Times(3.0, 6.0)])
    slow = [timing.timed(lambda: next(own)) for _ in range(2)]
    found = timing.ratio(slow, [timing.Times(2.0, 2.0), timing.Times(3.0, 1.0)])
    assert found["wall"]["median"] == pytest.approx(np.median([4.0, 1.0]))
    assert found["cpu"]["median"] == pytest.approx(np.median([2.0, 6.0]))


def test_only_what_was_asked_for_is_run_and_only_its_entry_replaced(tmp_path: Path, monkeypatch, capsys) -> None:
    ran = []

    def fake(line: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        ran.append(line[2])
        output = Path(line[-1].removeprefix("--output="))
        if line[2] == "benchmarks.stratify":
            output.write_text(json.dumps({"benchmark": "stratify", "device": None, "rows": ["new"]}))
        return subprocess.CompletedProcess(line, 0 if line[2] == "benchmarks.stratify" else 3)

    file = tmp_path / "found.json"
    old = {"stratify": entry({"rows": ["old"]}), "cka": entry({"rows": ["kept"]}), "crops": entry({"rows": ["failed"]})}
    file.write_text(json.dumps({"format": 1, "entries": old}))
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only=stratify,crops", f"--json={file}"])
    assert command.main() == 1
    assert ran == ["benchmarks.crops", "benchmarks.stratify"]
    assert "not run to the end: crops" in capsys.readouterr().err
    found = json.loads(file.read_text())["entries"]
    assert {name: one["result"]["rows"] for name, one in found.items()} == {
        "stratify": ["new"],
        "cka": ["kept"],
        "crops": ["failed"],
    }
    new = found["stratify"]
    assert new["command"] == "python -m benchmarks.stratify"
    assert new["machine"]["cores"] >= 1
    assert new["versions"]["jax"]
    assert len(new["load"]) == 2


def test_names_before_the_slash_are_all_of_them_and_unknown_ones_are_refused(monkeypatch, capsys) -> None:
    assert command.choose("models") == [name for name in SUITE if name.startswith("models/")]
    assert command.choose("pretraining/host,cka") == ["pretraining/host", "cka"]
    assert command.choose("modells") is None
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only=modells"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    assert "--only=modells: no such benchmark" in capsys.readouterr().err


def test_every_benchmark_is_a_module() -> None:
    for benchmark in SUITE.values():
        assert importlib.util.find_spec(f"benchmarks.{benchmark.module}"), benchmark


def test_the_page_shows_what_was_found_and_invents_nothing(tmp_path: Path) -> None:
    models = {"s4": {which: program(50, 100) for which in page.PROGRAMS}}
    models["s4"]["finetune"] = program(110, 100)
    entries = {
        "models/s4": entry({"device": "cpu", "options": {"batch": 4}, "models": models}),
        "models/net1d": entry(
            {
                "device": "cpu",
                "options": {"batch": 4},
                "models": {"net1d": {which: program(30, None) for which in page.PROGRAMS}},
            }
        ),
        "stratify": entry({"device": None, "ratios": {"this / that": {"cpu": {"median": 7.25}}}}),
    }
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"format": 1, "entries": entries}))
    written = page.write(file)
    assert [path.name for path in written] == ["found.md", "found_torch.png"]
    text = file.with_suffix(".md").read_text()
    assert "| S4 | 110 (99–121) | 100 (90–110) | 1.1 (0.99–1.21) | 36.4 | 12.5 | 50% | 321 |" in text
    assert "| Net1D | 30 (27–33) | not run | | 133 | 12.5 | 50% | 321 |" in text
    assert "| ST-MEM | not run | | | | | | |" in text
    assert "3 of 33 programs were compared. Slower than torch: S4 (fine-tuning step 1.10)." in text
    assert "| `stratify` | this / that | 7.25 |" in text
    assert "| `bootstrap` | not run |" in text
    assert f"3 of {len(SUITE)} benchmarks were run" in text
    assert "0.5 to 9.5 on 2 cores" in text
    assert "other work kept the machine busy" in text
