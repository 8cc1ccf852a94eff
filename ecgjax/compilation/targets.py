"""What programs are compiled for: slices of TPUs and GPUs that need not be there, or the devices of this machine.

XLA compiles for a TPU with libtpu alone, and for a GPU with the CUDA plugin, the assembler of nvidia-cuda-nvcc and a
description of the card (extra `aot`). Nothing is run, so no time is measured; GPU programs are not tuned.
"""

import os
import re
from typing import Any, NamedTuple

from ecgjax import chips
from ecgjax.chips import Chip
from ecgjax.errors import UserError

_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked what machine this is
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else a second process on this machine is refused
}
GPUS = {
    # Fields as published in openxla/xla pull request 25919.
    "h100": """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
 shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
 cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3" """,
}
_EXPECTED = "expected a TPU slice such as v5e:2x2, v4:2x2x1, v5p:2x2x1 or v6e:2x2, h100:N, or local"


class Target(NamedTuple):
    """What is compiled for.

    Attributes:
        name: as asked for.
        platform: "tpu", "cuda" or "cpu".
        devices: of the slice, or of this machine; those of a slice cannot run anything.
        chip: figures of one of them.
        local: whether programs can be run.
    """

    name: str
    platform: str
    devices: list[Any]
    chip: Chip
    local: bool


def open_target(name: str) -> Target:
    """Finds the devices. For a slice, JAX itself is left with this machine's CPU.

    Args:
        name: "v5e:2x2" and other TPU slices, "h100:4" (a number of GPUs), or "local".

    Raises:
        UserError: an unknown name, or what compiling for it needs is not installed.
    """
    import jax

    if name == "local":
        device = jax.local_devices()[0]
        platform = "cuda" if device.platform == "gpu" else device.platform
        return Target(name, platform, jax.local_devices(), chips.here(), True)
    kind, _, shape = name.partition(":")
    if kind in GPUS and shape.isdecimal() and int(shape):
        return _opened(name, "cuda", topology_name=kind, topology=f"1x1x{shape}", target_config=GPUS[kind])
    if re.fullmatch(r"(v[2-6][ep]?|tpu7x)", kind) and re.fullmatch(r"\d+(x\d+)+", shape):
        # libtpu reads them when it is loaded, which is below.
        os.environ.update({key: value for key, value in _TPU_ENVIRONMENT.items() if key not in os.environ})
        return _opened(name, "tpu", topology_name=name)
    raise UserError(f"config.topology is {name!r}; {_EXPECTED}")


def _opened(name: str, platform: str, **description: Any) -> Target:
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")  # no accelerator here is wanted, nor complaints of its lack
    try:
        devices: list[Any] = list(topologies.get_topology_desc(platform=platform, **description).devices)
    except Exception as error:  # of several kinds, by what is missing
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"config.topology={name}: cannot be compiled for here ({type(error).__name__}: {reason}); "
            "expected pip install 'ecgjax[aot]' (libtpu, the CUDA plugin and nvidia-cuda-nvcc)"
        ) from error
    chip = chips.find(devices[0].device_kind)
    if chip is None:
        raise UserError(f"config.topology={name}: no figures of a {devices[0].device_kind!r} in ecgjax/chips.py")
    return Target(name, platform, devices, chip, False)
