"""A Ray cluster as a sweep uses it: Ray itself, which is optional, the connection, and what a task asks for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_collections import ConfigDict

from ecgjax.errors import UserError


def import_ray() -> Any:
    """Ray.

    Raises:
        UserError: it is not installed.
    """
    # No reports of use to Ray's makers; devices of a task without GPUs are left as they are, without a notice.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
        import ray.util.queue
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UserError(f"config.executor=ray: {error}; expected Ray: pip install 'ecgjax[ray]'") from error
    return ray


@contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """A driver of the cluster at `address`, of that in $RAY_ADDRESS or on this machine, or of a new one here.

    Raises:
        UserError: there is none at the address.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        text = " ".join(str(error).split())[:300]
        where = address or os.environ.get("RAY_ADDRESS") or "on this machine"
        raise UserError(f"config.ray.address: no Ray cluster {where} ({text}); expected HOST:PORT") from error
    try:
        yield
    finally:
        ray.shutdown()  # ends this driver's tasks, if any are left


def queue(ray: Any) -> Any:
    """On the driver's node: it is not lost with another one. Should it be killed, it loses only what was on its way."""
    node = ray.get_runtime_context().get_node_id()
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1, "max_task_retries": -1}
    return ray.util.queue.Queue(actor_options=options)


def task_options(ray: Any, placing: ConfigDict) -> dict[str, Any]:
    """What a task asks of its node, and how often it is started again after its worker or node was lost."""
    there = ray.cluster_resources()
    wanted = {"CPU": placing.cpus, "GPU": placing.gpus, "TPU": placing.tpus}
    if placing.gpus is None and placing.tpus is None:
        found = next((kind for kind in ("GPU", "TPU") if there.get(kind)), None)
        wanted |= {found: 1.0} if found else {}
    wanted = {kind: amount for kind, amount in wanted.items() if amount}
    for kind, amount in wanted.items():
        most = max((node["Resources"].get(kind, 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
        if most < amount:
            print(f"waiting for a Ray node with {amount:g} {kind}s; the largest has {most:g} now", flush=True)
    return {
        "num_cpus": wanted.pop("CPU", 0),
        "num_gpus": wanted.get("GPU", 0),
        "resources": {"TPU": wanted["TPU"]} if "TPU" in wanted else None,
        # JAX keeps the devices that it began with: a process for each unit where they are handed out.
        "max_calls": 1 if wanted else 0,
        "max_retries": placing.restarts,
    }
