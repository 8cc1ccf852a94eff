"""A model's forward pass and its gradient with the products of either of XLA's libraries for CPUs.

    python -m benchmarks.forward [--models=ecg_fm,...] [--batch=4] [--repeats=7] [--output=FILE]

What `ecgjax.models.forward` is made by. Float32, one core, processor time, in turns: YNNPACK, which XLA takes, and
Eigen, by an option of the compiler. The gradient is that of the sum of the pooled features for all weights, in
training mode. Ratios below 1: Eigen is faster.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.timing import Times, asked, in_turns, ratio, save, summary
from ecgjax import host_memory
from ecgjax.models import registry
from ecgjax.models.forward import EIGEN

LIBRARIES = {"YNNPACK": None, "Eigen": EIGEN}


def measure(name: str, batch: int, repeats: int) -> dict[str, dict[str, list[Times]]]:
    """Program -> library -> times."""
    encoder = registry.create(name)
    variables = encoder.init(jax.random.key(0))
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    x = np.random.default_rng(0).standard_normal((batch, encoder.samples, 12)).astype(np.float32)

    def loss(params: Any, rest: Any, x: Any) -> jax.Array:
        features, _ = encoder.apply({"params": params, **rest}, x, train=True, key=jax.random.key(1))
        return features.pooled.sum()

    def features(params: Any, rest: Any, x: Any) -> jax.Array:
        return encoder.apply({"params": params, **rest}, x)[0].pooled

    def calls(function: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
        lowered = jax.jit(function).lower(params, rest, x)
        compiled = {library: lowered.compile(options) for library, options in LIBRARIES.items()}
        return {library: lambda c=c: jax.block_until_ready(c(params, rest, x)) for library, c in compiled.items()}

    return {
        "features": in_turns(calls(features), repeats),
        "gradient": in_turns(calls(jax.grad(loss)), repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(registry.names()), help="registry names")
    parser.add_argument("--batch", type=int, default=4, help="windows per batch")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs")
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # before threads begin
    host_memory.keep_freed()
    jax.config.update("jax_default_matmul_precision", "highest")
    rows: dict[str, Any] = {}
    ratios = {}
    for name in options.models.split(","):
        rows[name] = {}
        for program, times in measure(name, options.batch, options.repeats).items():
            rows[name][program] = {library: summary(taken, 1e3)["cpu"] for library, taken in times.items()}
            found = ratios[f"{name}, {program}: Eigen / YNNPACK"] = ratio(times["Eigen"], times["YNNPACK"])
            milliseconds = "  ".join(f"{library} {row['median']:6.0f}" for library, row in rows[name][program].items())
            print(f"{name:12} {program:8} ms {milliseconds}  ratio {found['cpu']['median']:.2f}", flush=True)
        save(options.output, "forward", {"options": asked(options), "rows": rows, "ratios": ratios})


if __name__ == "__main__":
    main()
