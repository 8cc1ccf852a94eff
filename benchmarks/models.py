"""Time, memory and arithmetic of every encoder: forward pass and training step, beside torch where it is installed.

    python -m benchmarks.models --models=merl_resnet,ecg_founder --batch=32 --out=models.json

Columns: milliseconds of the forward pass (evaluation mode) and of a training step (batch statistics, loss of a linear
head with 71 outputs, all gradients, AdamW), best of the repeats; the same for torch, and ecgjax / torch; arithmetic of
the architecture itself (its plain form, GFLOP) and of the compiled program; bytes the compiled step accesses, and its
peak memory beside the arguments, by XLA's own accounts. ecgjax and torch take turns, so that a busy machine is unfair
to neither. On a shared machine compare processor time on one core:
`taskset -c 1 python -m benchmarks.models --cpu_time`.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from ecgjax.errors import UserError
from ecgjax.models import heads, registry
from ecgjax.models.encoder import Encoder

try:
    import torch
except ImportError:
    torch = None

OUTPUTS = 71

FLAGS = flags.FLAGS
flags.DEFINE_list("models", None, "registry names; all if left out")
flags.DEFINE_integer("batch", 32, "windows per batch", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "timed runs of each program", lower_bound=1)
flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "of the computation in ecgjax, where a model has the switch"
)
flags.DEFINE_bool(
    "cpu_time", False, "processor time in place of wall time: steadier on a shared machine, one thread at best"
)
flags.DEFINE_string("out", None, "JSON file to write")


def jax_programs(encoder: Encoder, x: np.ndarray, targets: np.ndarray) -> dict[str, tuple[Callable[[], Any], dict]]:
    """Forward pass and training step: a function that runs it once, and XLA's account of it."""
    head = heads.create("linear", encoder.spec.channels, OUTPUTS)
    variables = encoder.init(jax.random.key(0))
    params = {"encoder": variables.pop("params"), "head": head.init(jax.random.key(1))}
    optimiser = optax.adamw(1e-3, weight_decay=1e-3)

    def forward(params, rest, x):
        return encoder.apply({"params": params["encoder"], **rest}, x)[0].pooled

    def step(params, rest, state, x):
        def loss(params):
            variables = {"params": params["encoder"], **rest}
            features, after = encoder.apply(variables, x, train=True, key=jax.random.key(2))
            return optax.sigmoid_binary_cross_entropy(head.apply(params["head"], features), targets).mean(), after

        (_, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), after, state

    x = jnp.asarray(x)
    programs = {}
    for name, function, arguments in (
        ("forward", forward, (params, variables, x)),
        ("step", step, (params, variables, optimiser.init(params), x)),
    ):
        traced = jax.jit(function).trace(*arguments)
        began = time.perf_counter()
        compiled = traced.lower().compile()
        seconds = time.perf_counter() - began
        # Lowered for a TPU, every layer has its plain form: the arithmetic that the architecture asks for.
        plain = traced.lower(lowering_platforms=("tpu",)).cost_analysis() or {}
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        account = {
            "compile_seconds": seconds,
            "gflop_plain": plain.get("flops", 0.0) / 1e9,
            "gflop_compiled": cost.get("flops", 0.0) / 1e9,
            "gigabytes_accessed": cost.get("bytes accessed", 0.0) / 1e9,
            "peak_megabytes": (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6,
        }
        run = lambda compiled=compiled, arguments=arguments: jax.block_until_ready(compiled(*arguments))  # noqa: E731
        programs[name] = (run, account)
    return programs


def torch_programs(name: str, channels: int, x: np.ndarray, targets: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The same two in torch, if it is installed and the model is rendered there."""
    if torch is None:
        return {}
    from benchmarks.torch_models import MODELS

    if name not in MODELS:
        return {}
    encoder, head = MODELS[name](), torch.nn.Linear(channels, OUTPUTS)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], weight_decay=1e-3)
    signals, wanted = torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2))), torch.from_numpy(targets)

    def forward() -> None:
        encoder.eval()
        with torch.inference_mode():
            encoder(signals)

    def step() -> None:
        encoder.train()
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(head(encoder(signals)), wanted).backward()
        optimiser.step()

    return {"forward": forward, "step": step}


def measure(name: str) -> dict[str, Any]:
    """One row."""
    try:
        encoder = registry.create(name, dtype=FLAGS.dtype)
    except UserError:
        encoder = registry.create(name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((FLAGS.batch, encoder.samples, 12)).astype(np.float32)
    targets = (rng.random((FLAGS.batch, OUTPUTS)) > 0.5).astype(np.float32)
    row: dict[str, Any] = {"model": name, "batch": FLAGS.batch, "samples": encoder.samples, "dtype": encoder.dtype}
    others = torch_programs(name, encoder.spec.channels, x, targets)
    for which, (run, account) in jax_programs(encoder, x, targets).items():
        rivals = {"ecgjax": run, **({"torch": others[which]} if which in others else {})}
        times = best(rivals, FLAGS.repeats)
        row[which] = {**{f"{rival}_ms": ms for rival, ms in times.items()}, **account}
    return row


def best(rivals: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Least milliseconds of each function; they take turns, after one run each to warm up."""
    clock = time.process_time if FLAGS.cpu_time else time.perf_counter
    least = dict.fromkeys(rivals, np.inf)
    for turn in range(repeats + 1):
        for name, run in rivals.items():
            began = clock()
            run()
            if turn:
                least[name] = min(least[name], 1e3 * (clock() - began))
    return least


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{row['model']:<12}"]
    for which in ("forward", "step"):
        r = row[which]
        rival = r.get("torch_ms")
        ratio = f"{rival:8.0f} {r['ecgjax_ms'] / rival:5.2f}" if rival else f"{'-':>8} {'-':>5}"
        cells.append(
            f"{r['ecgjax_ms']:8.0f} {ratio} {r['gflop_plain']:7.1f} {r['gflop_compiled']:7.1f} "
            f"{r['gigabytes_accessed']:6.1f} {r['peak_megabytes']:6.0f}"
        )
    return " |".join(cells)


def main(_: list[str]) -> None:
    columns = f"{'ms':>8} {'torch':>8} {'ratio':>5} {'GF':>7} {'GF run':>7} {'GB':>6} {'MB':>6}"
    if torch is not None and FLAGS.cpu_time:
        torch.set_num_threads(1)
    print(f"batch {FLAGS.batch}, {jax.devices()[0].device_kind}, {'processor' if FLAGS.cpu_time else 'wall'} time")
    print(" |".join([f"{'':<12}", f"{'forward: ' + columns:>52}"[-52:], f"{'step: ' + columns:>52}"[-52:]]))
    rows = []
    for name in FLAGS.models or registry.names():
        rows.append(measure(name))
        print(line(rows[-1]), flush=True)
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
