"""Stacked fine-tuning of 4 small cells against the same 4 one after the other, on 4 virtual devices and on 1.

    python -m benchmarks.stacked [--model=ecg_cpc] [--width=64] [--layers=1] [--cells=4] [--rounds=5] [--steps=5]
        [--output=FILE]

For each number of devices, blocks of steps of both kinds alternate in one process, after one step that compiles:
"stacked" makes one step of all cells as a program on the mesh, "sequential" one step of each cell in turn, as
`ecgjax.jobs.evaluate` does on those devices: its batches shared out among them. Virtual devices share the cores of this
machine, so at best as many run at a time; a ratio here says what the program's shape costs, not what accelerators gain.
Prints a table, wall time and processor time per step of all cells (medians), and their ratio; then the time to compile,
which a stacked program needs once and the cells once each.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.timing import asked, in_turns, ratio, save, summary, timed

DEVICES = (4, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ecg_cpc,s4")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--devices", type=int, default=0, help="only for the processes that this one starts")
    options = parser.parse_args()
    if options.devices:
        from ecgjax import host_memory  # JAX is imported in the processes that are started

        host_memory.keep_freed()
        print(json.dumps({model: measure(model, options) for model in options.model.split(",")}))
        return
    found, ratios = {}, {}
    print(f"{os.cpu_count()} cores; {options.cells} cells of width {options.width}, batch {options.batch_size}")
    print("model    devices  kind        wall ms    CPU ms  compile s")
    for devices in DEVICES:
        flags = f"--xla_force_host_platform_device_count={devices}"
        command = [sys.executable, "-m", "benchmarks.stacked", *sys.argv[1:], f"--devices={devices}"]
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[devices] = json.loads(answer.splitlines()[-1])
        for model, row in found[devices].items():
            for kind, ms in row["ms"].items():
                medians = f"{ms['wall']['median']:8.1f}  {ms['cpu']['median']:8.1f}"
                print(f"{model:8} {devices:7}  {kind:10} {medians}  {row['compile_seconds'][kind]:9.1f}")
            wall, cpu = (row["ratio"][clock]["median"] for clock in ("wall", "cpu"))
            print(f"{model:8} {devices:7}  sequential / stacked, wall {wall:.2f}, CPU {cpu:.2f}", flush=True)
            ratios[f"{options.cells} cells of {model} on {devices} virtual devices: one by one / stacked"] = row[
                "ratio"
            ]
    save(options.output, "stacked", {"options": asked(options), "devices": found, "ratios": ratios})


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Times of one model on this process's devices."""
    from collections.abc import Callable

    import jax
    import jax.numpy as jnp
    import numpy as np

    from ecgjax.data.batch_plans import BatchPlan
    from ecgjax.data.batches import iterate
    from ecgjax.data.cutter import make_cutter
    from ecgjax.data.embedded import synthetic_store
    from ecgjax.data.store import open_store
    from ecgjax.models.model import load_model
    from ecgjax.training import stacked, supervised
    from ecgjax.training.mesh import batch_sharding, make_mesh, sharded

    jax.config.update("jax_default_matmul_precision", "highest")
    store = open_store(synthetic_store())
    rows, lengths = store.rows("train"), store.records["samples"].to_numpy()
    targets = store.targets(next(iter(store.label_sets()))).astype(np.float32)
    seeds = range(options.cells)
    models = [load_model(name, None, seed, width=options.width, layers=options.layers) for seed in seeds]
    spec, mode = models[0].spec, supervised.MODES["finetune"]
    place = {"seconds": spec.seconds, "sampling_rate": spec.sampling_rate, "placement": "device"}
    common = {"n_classification": targets.shape[1], "n_regression": 0}

    def plan(seed: int, window: int) -> BatchPlan:
        return BatchPlan(rows, lengths, window=window, batch_size=options.batch_size, seed=seed, epochs=10_000)

    mesh = make_mesh(options.cells, options.batch_size)
    cutter = make_cutter(store, rows, **place, sharding=batch_sharding(mesh))  # type: ignore[arg-type]
    runs = [stacked.Run(model, 1e-3, 0.1, 1e-3, seed, targets) for seed, model in zip(seeds, models, strict=True)]
    together = stacked.build(runs, mode, mesh=mesh, **common)
    batches = stacked.batches(store, [plan(seed, cutter.window) for seed in seeds], cutter, mesh)
    state = [together.state]

    def stacked_step() -> None:
        state[0], loss = together.step(state[0], cutter, next(batches))
        jax.block_until_ready(loss)

    one = make_mesh(1, options.batch_size)
    sharding = batch_sharding(one)
    whole = make_cutter(store, rows, **place, sharding=sharding)  # type: ignore[arg-type]
    known = jax.device_put(jnp.asarray(targets), sharded(one))
    cells = []
    for seed, model in zip(seeds, models, strict=True):
        program = supervised.build(
            model, mode, learning_rate=1e-3, rate_factor=0.1, weight_decay=1e-3, seed=seed, **common
        )
        begun = jax.device_put(program.state, sharded(one))
        cells.append([program, begun, iterate(store, plan(seed, whole.window), whole, sharding)])

    def sequential_step() -> None:
        for cell in cells:
            cell[1], loss = cell[0].step(cell[1], cell[0].frozen, whole, next(cell[2]), known)
            jax.block_until_ready(loss)

    kinds: dict[str, Callable[[], None]] = {"stacked": stacked_step, "sequential": sequential_step}
    compiled = {kind: timed(step).wall for kind, step in kinds.items()}

    def block(step: Callable[[], None]) -> Callable[[], None]:
        return lambda: [step() for _ in range(options.steps)] and None

    times = in_turns({kind: block(step) for kind, step in kinds.items()}, options.rounds, warm=0)
    return {
        "ms": {kind: summary(taken, 1e3 / options.steps) for kind, taken in times.items()},
        "ratio": ratio(times["sequential"], times["stacked"]),
        "compile_seconds": compiled,
    }


if __name__ == "__main__":
    main()
