"""What accelerators can do at most, by their makers; and what this machine's processor does.

For lower bounds only: nothing reaches the peak. `float32` is for products in full float32 (precision "highest", which
jobs set by default). Makers' figures for sparse matrices are halved. For TPUs no float32 peak is published: such a
product takes six bfloat16 passes, so it is a sixth of theirs.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

_GIB = 2**30
_TPU = "https://docs.cloud.google.com/tpu/docs/"


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: as people say it.
        bfloat16: FLOP/s at most, dense products.
        float32: FLOP/s at most, see above.
        memory: bytes.
        bandwidth: of its memory, bytes per second.
        source: where the figures are from.
        kinds: first words of `jax.Device.device_kind`.
    """

    name: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    source: str
    kinds: tuple[str, ...] = ()


def _tpu(name: str, teraflops: float, gib: float, gigabytes: float, page: str, *kinds: str) -> Chip:
    return Chip(name, teraflops * 1e12, teraflops * 1e12 / 6, gib * _GIB, gigabytes * 1e9, _TPU + page, kinds)


def _gpu(name: str, bf16: float, fp32: float, gb: float, terabytes: float, source: str, *kinds: str) -> Chip:
    return Chip(name, bf16 * 1e12, fp32 * 1e12, gb * 1e9, terabytes * 1e12, source, kinds)


CHIPS = (
    _tpu("TPU v4", 275, 32, 1200, "v4", "TPU v4"),
    _tpu("TPU v5e", 197, 16, 819, "v6e", "TPU v5 lite", "TPU v5e"),
    _tpu("TPU v5p", 459, 95, 2765, "v5p", "TPU v5", "TPU v5p"),
    _tpu("TPU v6e", 918, 32, 1640, "v6e", "TPU v6 lite", "TPU v6e"),
    _tpu("TPU7x", 2307, 192, 7380, "tpu7x", "TPU7x"),
    _gpu("L4", 121, 30.3, 24, 0.3, "https://www.nvidia.com/en-us/data-center/l4/", "NVIDIA L4"),
    _gpu("A100 80GB", 312, 19.5, 80, 2.039, "https://www.nvidia.com/en-us/data-center/a100/", "NVIDIA A100-SXM4-80GB"),
    _gpu("H100 SXM", 989.5, 67, 80, 3.35, "https://www.nvidia.com/en-us/data-center/h100/", "NVIDIA H100 80GB"),
    _gpu("H200 SXM", 989.5, 67, 141, 4.8, "https://www.nvidia.com/en-us/data-center/h200/", "NVIDIA H200"),
    _gpu("B200", 2250, 75, 180, 7.7, "https://www.nvidia.com/en-us/data-center/dgx-b200/", "NVIDIA B200"),
)


def find(kind: str) -> Chip | None:
    """The chip of a `jax.Device.device_kind`; None: not in the table."""
    fitting = [(len(prefix), chip) for chip in CHIPS for prefix in chip.kinds if f"{kind} ".startswith(f"{prefix} ")]
    return max(fitting, key=lambda found: found[0])[1] if fitting else None


def here() -> Chip:
    """What JAX computes on by default: from the table, or this machine's processor, measured in a tenth of a second.

    An accelerator that the table lacks is measured like a processor; its memory is what JAX says.
    """
    device = jax.local_devices()[0]
    return find(device.device_kind) or _measured(device)


@cache
def _measured(device: jax.Device) -> Chip:
    multiply = jax.jit(lambda x: x @ x)
    ones = jax.device_put(jnp.ones((1024, 1024)), device)
    flops = _best_rate(2 * 1024**3, lambda: jax.block_until_ready(multiply(ones)))
    if device.platform == "cpu":
        source, target = np.ones(8 << 20), np.empty(8 << 20)
        bandwidth = _best_rate(2 * source.nbytes, lambda: np.copyto(target, source))
        name = f"this processor, {os.cpu_count()} cores"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        add = jax.jit(lambda x: x + 1)
        large = jax.device_put(jnp.ones(64 << 20), device)
        bandwidth = _best_rate(2 * large.nbytes, lambda: jax.block_until_ready(add(large)))
        name, memory = device.device_kind, (device.memory_stats() or {}).get("bytes_limit", 0)
    return Chip(name, flops, flops, float(memory), bandwidth, "measured here, float32")


def _best_rate(amount: float, function: Callable[[], object]) -> float:
    """Of five calls; one before them compiles."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return amount / min(times[1:])
