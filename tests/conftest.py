"""Strict numerics for every test, and where golden data lies."""

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests compile the same programs again and again: a cache keeps reruns, workers and processes of tests fast.
CACHE = Path(os.environ.get("ECGJAX_TEST_CACHE", "/tmp/ecgjax-test-xla"))
LEAST_SECONDS = 0.05  # of a compilation that is kept: a quarter of the time of test_fused.py is saved
jax.config.update("jax_compilation_cache_dir", str(CACHE / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
os.environ["ECGJAX_CACHE"] = str(CACHE)  # of ecgjax.main, which has its programs in xla
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "xla")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(LEAST_SECONDS)

GOLDEN = Path(__file__).parent / "golden"


def load_golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and arrays of one golden case."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return json.loads((GOLDEN / f"{name}.json").read_text()), {key: arrays[key] for key in arrays.files}


def virtual_devices(count: int) -> dict[str, str]:
    """Environment of a process that is to see so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    """Lets go of compiled programs where they have come to fill gigabytes: two workers share a machine."""
    yield
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    if pages * os.sysconf("SC_PAGE_SIZE") > 4 << 30:
        jax.clear_caches()
        gc.collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the opt-in slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="opt-in: run with --slow"))
