"""Compiles a few programs for a slice of four TPUs, without one, and prints what the compiler says as JSON.

A process of its own, started by test_tpu.py: libtpu, once loaded, would disturb the other tests.
"""

import json

import jax
import jax.numpy as jnp

from benchmarks import costs
from ecgjax.compilation import measure, programs, targets
from ecgjax.compilation.programs import Compilable, Place


def too_large(where: Place) -> Compilable:
    """An outer product of 40 GB."""
    vector = jax.ShapeDtypeStruct((100_000,), jnp.float32, sharding=where.whole)
    return Compilable("too large", lambda x: x[:, None] * x, (vector,), (), 0)


def total(where: Place) -> Compilable:
    """The sum of a batch that is spread over the slice."""
    rows = jax.ShapeDtypeStruct((64, 1024), jnp.float32, sharding=where.split)
    return Compilable("total", lambda x: x.sum(0), (rows,), (), 64)


def main() -> None:
    target = targets.open_target(costs.TPU)
    one, four = programs.place(target.devices[:1]), programs.place(target.devices, 64)
    found = {name: costs.compiled(make(one), target) for name, make in costs.COMPILED[costs.TPU].items()}
    for program in (too_large(one), total(four)):
        row = measure.compile_for(measure.lower(program), target)
        found[program.name] = {**row._asdict(), "collectives": dict(row.collectives)}
    print(json.dumps({"devices": len(target.devices), "compiler": costs.compiler(target), "programs": found}))


if __name__ == "__main__":
    main()
