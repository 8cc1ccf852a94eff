"""Time, memory and arithmetic of every encoder, beside torch where it is installed.

    python -m benchmarks.models --models=merl_resnet,ecg_founder --batch=32 --output=models.json

"features": the forward pass in evaluation mode. "frozen": those and a training step of a linear head with 71 outputs.
Both are compiled as the jobs compile them (`ecgjax.models.forward`).
"finetune": a training step of everything (batch statistics, all gradients, AdamW), its state donated, as the jobs do.
The same three in torch run in a process of their own, with torch's own memory management. All take turns, with a matrix
product of 1,024 x 1,024 (float32) between them: its rate is the peak that shares are of (`ecgjax.chips.here` measures
the same product). Milliseconds and ratios are medians with quartiles, by the clock and of processors. On a busy machine
`--one_core` and processor time compare best: threads that wait for each other cost time that is nobody's.

Arithmetic ("GFLOP") is that of the architecture in its plain form; "compiled" is the program's as compiled here. Memory
is XLA's account of a program (arguments, temporaries, outputs that are no argument's), and what each process grew by,
compilation included.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import Times, asked, in_turns, ratio, save, summary
from benchmarks.torch_process import Rival
from ecgjax import host_memory
from ecgjax.errors import UserError
from ecgjax.models import heads, registry
from ecgjax.models.encoder import Encoder
from ecgjax.models.forward import compiler_options

OUTPUTS, PRODUCT = 71, 1024
PROGRAMS = ("features", "frozen", "finetune")

Run = Callable[[], Any]


def programs(encoder: Encoder, x: np.ndarray, targets: np.ndarray) -> dict[str, tuple[Run, dict[str, float]]]:
    """Each program: a function that runs it once, and XLA's account of it."""
    head = heads.create("linear", encoder.spec.channels, OUTPUTS)
    variables = encoder.init(jax.random.key(0))
    params = {"encoder": variables.pop("params"), "head": head.init(jax.random.key(1))}
    optimiser = optax.adamw(1e-3, weight_decay=1e-3)
    known = jnp.asarray(targets)

    def error(head_params, features):
        return optax.sigmoid_binary_cross_entropy(head.apply(head_params, features), known).mean()

    def features(fixed, x):
        return encoder.apply({"params": fixed["encoder"], **fixed["rest"]}, x)[0].pooled

    def frozen(state, fixed, x):
        head_params, moments = state
        encoded, _ = encoder.apply({"params": fixed["encoder"], **fixed["rest"]}, x)
        updates, moments = optimiser.update(jax.grad(error)(head_params, encoded), moments, head_params)
        return optax.apply_updates(head_params, updates), moments

    def finetune(state, x):
        params, rest, moments = state

        def loss(params):
            encoded, after = encoder.apply({"params": params["encoder"], **rest}, x, train=True, key=jax.random.key(2))
            return error(params["head"], encoded), after

        grads, after = jax.grad(loss, has_aux=True)(params)
        updates, moments = optimiser.update(grads, moments, params)
        return optax.apply_updates(params, updates), {**rest, **after}, moments

    x, fixed = jnp.asarray(x), {"encoder": params["encoder"], "rest": variables}
    own = jax.tree.map(jnp.copy, params)  # donated, so not shared with the others
    return {
        "features": _compiled(features, None, fixed, x, options=compiler_options()),
        "frozen": _compiled(frozen, (own["head"], optimiser.init(own["head"])), fixed, x, options=compiler_options()),
        "finetune": _compiled(
            finetune, (jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, variables), optimiser.init(params)), x
        ),
    }


def _compiled(
    function: Callable[..., Any], state: Any, *arguments: Any, options: Mapping[str, str] | None = None
) -> tuple[Run, dict[str, float]]:
    """Of (state, ...) -> state, the state donated; without one, of a plain function. With the compiler's options."""
    jitted = jax.jit(function) if state is None else jax.jit(function, donate_argnums=0)
    traced = jitted.trace(*(() if state is None else (state,)), *arguments)
    began = time.perf_counter()
    compiled = traced.lower().compile(dict(options or {}))
    seconds = time.perf_counter() - began
    # Lowered for a GPU, every layer has its plain form: the arithmetic that the architecture asks for.
    plain = traced.lower(lowering_platforms=("cuda",)).cost_analysis() or {}
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    size = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    account = {
        "compile_seconds": seconds,
        "gflop": plain.get("flops", 0.0) / 1e9,
        "gflop_compiled": cost.get("flops", 0.0) / 1e9,
        "gigabytes_accessed": cost.get("bytes accessed", 0.0) / 1e9,
        "megabytes": (size - memory.alias_size_in_bytes) / 1e6,
    }

    def run() -> None:
        nonlocal state
        if state is None:
            jax.block_until_ready(compiled(*arguments))
        else:
            state = jax.block_until_ready(compiled(state, *arguments))

    return run, account


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model's part of the JSON."""
    try:
        encoder = registry.create(name, dtype=options.dtype)
    except UserError:  # S4 has no such switch
        encoder = registry.create(name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.batch, encoder.samples, 12)).astype(np.float32)
    targets = (rng.random((options.batch, OUTPUTS)) > 0.5).astype(np.float32)
    product, ones = jax.jit(lambda x: x @ x), jnp.ones((PRODUCT, PRODUCT))
    jax.block_until_ready(product(ones))
    row: dict[str, Any] = {"samples": encoder.samples, "dtype": encoder.dtype}
    before = _peak()
    with Rival(name, encoder.spec.channels, OUTPUTS, x, targets, options.one_core) as rival:
        for which, (run, account) in programs(encoder, x, targets).items():
            calls: dict[str, Run] = {"ecgjax": run, "product": lambda: jax.block_until_ready(product(ones))}
            if rival.there:
                calls["torch"] = lambda which=which: rival.run(which)  # type: ignore[misc]
            row[which] = _figures(in_turns(calls, options.repeats), account, options.batch)
        row["grown_megabytes"] = {"ecgjax": (_peak() - before) / 1e6}
        if rival.there:
            row["grown_megabytes"]["torch"] = rival.grown() / 1e6
    return row


def _figures(times: dict[str, list[Times]], account: dict[str, float], batch: int) -> dict[str, Any]:
    product = times.pop("product")
    found: dict[str, Any] = {name: {"ms": summary(taken, 1e3)} for name, taken in times.items()}
    for name, taken in times.items():
        found[name]["records_per_second"] = summary([Times(*(batch / seconds for seconds in one)) for one in taken])
    peak = [Times(*(2 * PRODUCT**3 / seconds for seconds in one)) for one in product]
    reached = [Times(*(1e9 * account["gflop"] / seconds for seconds in one)) for one in times["ecgjax"]]
    found |= {"peak_gflops": summary(peak, 1e-9), "share_of_peak": ratio(reached, peak), **account}
    if "torch" in times:
        found["time_to_torch"] = ratio(times["ecgjax"], times["torch"])
    return found


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the table, by processor time."""
    cells = [f"{name:<12}"]
    for which in PROGRAMS:
        r = row[which]
        torch = (
            f"{r['torch']['ms']['cpu']['median']:7.0f} {r['time_to_torch']['cpu']['median']:5.2f}"
            if "torch" in r
            else f"{'-':>7} {'-':>5}"
        )
        cells.append(
            f"{r['ecgjax']['ms']['cpu']['median']:7.0f} {torch} {r['gflop']:7.1f} "
            f"{r['share_of_peak']['cpu']['median']:5.2f} {r['megabytes']:6.0f}"
        )
    return " |".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(registry.names()), help="registry names")
    parser.add_argument("--batch", type=int, default=32, help="windows per batch")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each program")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of ecgjax's computation")
    parser.add_argument("--one_core", action="store_true", help="everything on one core, in one thread")
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    if options.one_core:  # before threads begin
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    host_memory.keep_freed()
    jax.config.update("jax_default_matmul_precision", "highest")
    print(f"batch {options.batch}, {jax.devices()[0].device_kind}, processor time")
    print(" |".join([f"{'':<12}", *(f"{which + ': ms   torch ratio      GF share     MB':>42}" for which in PROGRAMS)]))
    rows = {}
    for name in options.models.split(","):
        rows[name] = measure(name, options)
        print(line(name, rows[name]), flush=True)
        save(options.output, "models", {"options": asked(options), "models": rows})


if __name__ == "__main__":
    main()
