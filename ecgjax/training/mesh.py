"""The mesh of devices that a program is spread over: axes "runs" (cells of a sweep) and "data" (records of a batch).

One cell takes all devices for its batches; several cells share them out. The same code serves one device, where both
axes are 1 and every sharding is "here".
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

RUNS, DATA = "runs", "data"


def make_mesh(runs: int = 1, batch_size: int | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh for cells that are trained together.

    Cells are spread evenly with as few per device as can be; devices that are left over share the batches of each.
    What cannot share a batch in equal parts is left out, so a mesh may be smaller than the devices are many.

    Args:
        runs: cells; 1 is data-parallel training of one.
        batch_size: records of a cell's batch, divided by the axis "data"; None: every number divides it.
        devices: to use; None is all of this process.

    Returns:
        Axes ("runs", "data"), of type Auto.
    """
    devices = list(jax.local_devices() if devices is None else devices)
    per_device = -(-runs // len(devices))
    rows = -(-runs // per_device)
    columns = len(devices) // rows
    while batch_size is not None and batch_size % columns:
        columns -= 1
    grid = np.array(devices[: rows * columns]).reshape(rows, columns)
    return Mesh(grid, (RUNS, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def sharded(mesh: Mesh, *axes: str | tuple[str, ...] | None) -> NamedSharding:
    """Arrays whose first axes lie along these axes of the mesh; with none, whole on every device."""
    return NamedSharding(mesh, PartitionSpec(*axes))


def batch_sharding(mesh: Mesh) -> NamedSharding | None:
    """Of one batch over all devices of a mesh, for `make_cutter` and the iterators; None where there is one device."""
    return None if mesh.size == 1 else sharded(mesh, (RUNS, DATA))
