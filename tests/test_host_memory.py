"""In processes of their own: what is set stays set."""

import contextlib
import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from ecgjax import distributed, host_memory, main

GLIBC = platform.libc_ver()[0] == "glibc"

# Pages that a program's temporary memory, more than an arena of another thread can hold, is handed anew.
FAULTS = """
import resource
import numpy as np
from ecgjax import host_memory
done = host_memory.keep_freed()
import jax
import jax.numpy as jnp
x = jnp.ones((1000, 1000))
f = jax.jit(lambda x: jnp.fft.ifft(jnp.fft.fft(jnp.tile(x, (8, 1)))).real.sum())
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    value = float(f(x))
assert abs(value - 8e6) < 100, value
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(done, faults, f.lower(x).compile().memory_analysis().temp_size_in_bytes)
"""


def _run(code: str, **environment: str) -> list[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "JAX_"))}
    found = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


@pytest.mark.skipif(not GLIBC, reason="for glibc only")
def test_a_program_finds_the_memory_of_the_last_call() -> None:
    pages = os.sysconf("SC_PAGE_SIZE")
    done, faults, temporary = _run(FAULTS, JAX_PLATFORMS="cpu")
    assert done == "True"
    assert int(temporary) > 100e6
    assert int(faults) < 0.1 * int(temporary) / pages
    done, faults, temporary = _run(FAULTS, JAX_PLATFORMS="cpu", MALLOC_ARENA_MAX="8")
    assert done == "False"
    assert int(faults) > 0.5 * int(temporary) / pages


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, {"JAX_PLATFORMS": "cuda,cpu"}],
)
def test_nothing_is_set_where_others_decide_or_an_accelerator_may_be(environment: dict[str, str]) -> None:
    code = "from ecgjax import host_memory; print(host_memory.keep_freed())"
    assert _run(code, **{"JAX_PLATFORMS": "cpu", **environment}) == ["False"]


@pytest.mark.parametrize("missing", ["mallopt", "gnu_get_libc_version"])
def test_another_c_library_is_left_alone(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Library:
        def __init__(self, name: None) -> None: ...

        def __getattr__(self, name: str) -> object:
            if name == missing:
                raise AttributeError(name)
            return lambda *arguments: calls.append(arguments) or 1

    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(host_memory, "_only_cpu", lambda: True)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert not host_memory.keep_freed()
    assert not calls


@pytest.mark.parametrize("several", [False, True])
def test_a_job_of_one_process_asks_for_it_before_it_begins(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    job = SimpleNamespace(run=lambda config, workdir: order.append("job"))
    monkeypatch.setattr(host_memory, "keep_freed", lambda: order.append("kept"))
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    monkeypatch.setattr(distributed, "joined", lambda: several)
    monkeypatch.setattr(main, "_session", lambda job: contextlib.nullcontext(order.append("session")))
    monkeypatch.setattr("importlib.import_module", lambda name: job)
    main.run(ConfigDict({"job": "pretrain"}), None)
    assert order == (["session", "job"] if several else ["session", "kept", "job"])
