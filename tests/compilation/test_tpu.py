"""Programs compiled for a TPU that is not there. Needs libtpu: .ci/run puts it into .libtpu."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from benchmarks import costs
from ecgjax.compilation import programs

ROOT = Path(__file__).parents[2]
BEST_FORM = 212e6
"""Bytes that the convolution moves in the best of the forms compared, at the TPU's own precision, forward."""


def libtpu() -> str | None:
    """Path of the library: of TPU_LIBRARY_PATH, installed, or in .libtpu."""
    spec = importlib.util.find_spec("libtpu")
    folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    candidates = [folder / "libtpu.so" for folder in [*folders, ROOT / ".libtpu" / "libtpu"]]
    named = os.environ.get("TPU_LIBRARY_PATH")
    return named or next((str(path) for path in candidates if path.is_file()), None)


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    library = libtpu()
    if library is None:
        pytest.skip(
            "libtpu is not installed: pip install --no-deps --target .libtpu libtpu, of the version jax[tpu] has"
        )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TPU_LIBRARY_PATH": library, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.compilation.tpu_programs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_slice_and_its_collectives(compiled: dict[str, Any]) -> None:
    assert compiled["devices"] == 4
    row = compiled["programs"]["total"]
    assert row["collectives"] == {"all-reduce": 1}
    assert row["arguments"] == 16 * 1024 * 4  # a quarter of the batch
    assert row["fits"]


def test_too_much_memory_is_said(compiled: dict[str, Any]) -> None:
    row = compiled["programs"]["too large"]
    assert row["error"] == "out of memory: 37.29G exceeds available HBM (15.75G)"
    assert not row["fits"]


def test_bytes_of_the_long_convolution(compiled: dict[str, Any]) -> None:
    assert compiled["programs"]["convolution"]["bytes"] <= 1.3 * BEST_FORM


def test_long_convolution_has_no_fft_on_a_tpu() -> None:
    program = costs.make_convolution_gradients(programs.place(jax.local_devices()[:1]))
    traced = jax.jit(program.function).trace(*program.arguments)
    text = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("tpu", "cpu")}
    assert "stablehlo.fft" in text["cpu"]
    assert "stablehlo.fft" not in text["tpu"]


@pytest.mark.parametrize("name", costs.COMPILED[costs.TPU])
def test_costs_against_the_baseline(name: str, compiled: dict[str, Any]) -> None:
    baseline = costs.stored()
    if (baseline["versions"], baseline.get("compiler")) != (costs.versions(), compiled["compiler"]):
        pytest.skip(f"{costs.FILE.name} is of {baseline['versions']}, {baseline.get('compiler')}")
    assert costs.grown(costs.TPU, name, compiled["programs"][name], baseline) == []
