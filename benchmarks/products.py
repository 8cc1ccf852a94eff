"""Matrix products of a transformer's width: by XLA as it compiles them for this CPU, by its other library, by torch.

    PYTHONPATH=$PWD:DIR_WITH_TORCH python -m benchmarks.products [--rows=480,2496] [--repeats=9] [--output=FILE]

(rows, 768) x (768, 3072), (rows, 3072) x (3072, 768), and the gradient for the input of the first, which reads the
kernel transposed; float32, one core, processor time, all in turns. XLA gives such products to YNNPACK; with
xla_cpu_experimental_ynn_fusion_type empty they are Eigen's. What a model that is nothing but products can reach here.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.timing import asked, in_turns, ratio, save, summary

WIDTH, HIDDEN = 768, 3072
OTHER = {"xla_cpu_experimental_ynn_fusion_type": ""}


def products(rows: int) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """What is multiplied: (left, right, whether right is read transposed)."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        f"{rows} x {WIDTH} x {HIDDEN}": (draw(rows, WIDTH), draw(WIDTH, HIDDEN), False),
        f"{rows} x {HIDDEN} x {WIDTH}": (draw(rows, HIDDEN), draw(HIDDEN, WIDTH), False),
        f"{rows} x {HIDDEN} x {WIDTH}, transposed": (draw(rows, HIDDEN), draw(WIDTH, HIDDEN), True),
    }


def calls(left: np.ndarray, right: np.ndarray, transposed: bool) -> dict[str, Callable[[], Any]]:
    lowered = jax.jit(lambda a, b: a @ (b.T if transposed else b)).lower(left, right)
    a, b = jnp.asarray(left), jnp.asarray(right)
    found: dict[str, Callable[[], Any]] = {
        name: partial(_run, lowered.compile(options), a, b) for name, options in (("XLA", None), ("Eigen", OTHER))
    }
    x, kernel = torch.from_numpy(left), torch.from_numpy(right)
    found["torch"] = partial(torch.matmul, x, kernel.T if transposed else kernel)
    return found


def _run(compiled: Any, a: jax.Array, b: jax.Array) -> None:
    jax.block_until_ready(compiled(a, b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="480,2496", help="tokens of a batch")
    parser.add_argument("--repeats", type=int, default=9, help="timed runs")
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # before threads begin
    torch.set_num_threads(1)
    jax.config.update("jax_default_matmul_precision", "highest")
    rows, ratios = {}, {}
    for case, arrays in {k: v for count in options.rows.split(",") for k, v in products(int(count)).items()}.items():
        times = in_turns(calls(*arrays), options.repeats)
        rows[case] = {name: summary(taken, 1e3)["cpu"] for name, taken in times.items()}
        for name in ("XLA", "Eigen"):
            ratios[f"{case}: {name} / torch"] = ratio(times[name], times["torch"])
        print(f"{case:30} ms " + "  ".join(f"{name} {found['median']:6.1f}" for name, found in rows[case].items()))
    save(options.output, "products", {"options": asked(options), "rows": rows, "ratios": ratios})


if __name__ == "__main__":
    main()
