"""Memory that programs on a CPU give back stays with the process.

XLA on a CPU asks for a program's temporary memory at every call and frees it at its end. glibc returns large blocks to
the system at once, which then hands out, and zeroes, every page anew: up to a fifth of a training step
(`python -m benchmarks.host_memory`).
"""

import ctypes
import importlib.util
import os
from importlib import metadata

import jax

# Of malloc.h; glibc's numbers for mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed() -> bool:
    """Has glibc keep what is freed, if JAX can compute on nothing but a CPU; elsewhere it changes nothing.

    Calls of programs then wait for their end: those that JAX sends ahead would each take a block of their own, and keep
    it. Costs resident memory still: blocks of different sizes cannot always be used again.

    To be called before JAX's first use of a device: threads that allocate keep the arena they began with, and only the
    first one takes blocks above 64 MB. Whoever sets glibc's own variables (MALLOC_ARENA_MAX and the like,
    GLIBC_TUNABLES) is not overruled.

    Returns:
        Whether it was done.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ) or not _only_cpu():
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # no other C library has it
        settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))  # -1: never
        done = all(libc.mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows' CDLL
        return False
    if done:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    return done


def _only_cpu() -> bool:
    """Whether JAX has been told to use the CPU, or has nothing installed for an accelerator; touches no device."""
    if platforms := jax.config.values["jax_platforms"]:
        return str(platforms).split(",")[0] == "cpu"
    return not any(importlib.util.find_spec(name) for name in ("libtpu", "jax_plugins")) and not metadata.entry_points(
        group="jax_plugins"
    )
