"""The stored baseline of costs, and programs compiled for this processor; test_programs.py has the lowered ones."""

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from benchmarks import costs
from ecgjax.compilation import programs


@pytest.fixture(scope="module")
def baseline() -> dict[str, Any]:
    found = costs.stored()
    if found["versions"] != costs.versions():
        pytest.skip(f"{costs.FILE.name} is of {found['versions']}; python -m benchmarks.costs --write")
    return found


@pytest.fixture
def where() -> programs.Place:
    return programs.place(jax.local_devices()[:1], costs.BATCH)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of a CPU")
@pytest.mark.parametrize("name", costs.COMPILED["cpu"])
def test_compiled_for_this_processor(name: str, baseline: dict[str, Any], where: programs.Place) -> None:
    target = costs.targets.open_target("local")
    found = costs.compiled(costs.COMPILED["cpu"][name](where), target)
    assert found["flops"] > 0
    assert costs.grown("cpu", name, found, baseline) == []


def test_the_baseline_has_every_program() -> None:
    found = costs.stored()
    assert set(found["lowered"]) == set(costs.LOWERED)
    for group, makes in costs.COMPILED.items():
        assert set(found[group]) == set(makes)


OLD: dict[str, Any] = {"versions": costs.versions(), "cpu": {"a": {"flops": 100.0, "temporaries": 0.0}}}


@pytest.mark.parametrize(
    ("name", "found", "complaints"),
    [
        ("a", {"flops": 105.0, "temporaries": 0.0}, []),
        ("a", {"flops": 10.0}, []),
        ("a", {"flops": 105.1}, ["cpu: a: flops grew from 100 to 105"]),
        ("a", {"temporaries": 8.0}, ["cpu: a: temporaries grew from 0 to 8"]),
        (
            "b",
            {"flops": 1.0},
            ["cpu: b: flops is not in baseline_costs.json; python -m benchmarks.costs --write"],
        ),
    ],
)
def test_growth(name: str, found: dict[str, float], complaints: list[str]) -> None:
    assert costs.grown("cpu", name, found, OLD) == complaints


def test_a_new_baseline_keeps_what_was_not_asked_for() -> None:
    old = {**OLD, "v5e:2x2": {"c": {"flops": 1.0}}, "compiler": "cl/1"}
    row = {"flops": 2.0}
    assert costs.merged({"cpu": {"b": row}}, old, whole=False)["cpu"] == {**OLD["cpu"], "b": row}
    whole = costs.merged({"cpu": {"b": row}}, old, whole=True)
    assert whole["cpu"] == {"b": row}
    assert whole["v5e:2x2"] == {"c": {"flops": 1.0}}
    assert whole["compiler"] == "cl/1"
    others = costs.merged({"cpu": {"b": row}}, {**old, "versions": {"jax": "0.1"}}, whole=False)
    assert others == {"versions": costs.versions(), "batch_size": costs.BATCH, "cpu": {"b": row}}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(costs, "FILE", tmp_path / "costs.json")
    monkeypatch.setattr(costs, "figures", lambda only: {"cpu": {"a": {"flops": 105.0}}})
    monkeypatch.setattr("sys.argv", ["costs", "--write"])
    costs.main()
    assert json.loads((tmp_path / "costs.json").read_text())["cpu"] == {"a": {"flops": 105.0}}
    monkeypatch.setattr(costs, "figures", lambda only: {"cpu": {"a": {"flops": 120.0}}})
    monkeypatch.setattr("sys.argv", ["costs"])
    with pytest.raises(SystemExit, match="cpu: a: flops grew from 105 to 120"):
        costs.main()
    assert "flops 120 (1.143)" in capsys.readouterr().out
