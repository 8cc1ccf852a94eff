"""Forms of one operation side by side: what XLA says of them compiled for a chip, and processor time here.

What `benchmarks.long_convolution` and `benchmarks.formulations` share.

Each form is compiled alone, forward and together with its gradients, for one device of the topology; nothing is run
there. FLOPs and bytes are the compiler's estimates, the body of a loop counted once. "at least" is the larger of FLOPs
over the chip's peak and bytes over its bandwidth (`ecgjax.chips`). Processor time is the median of repeats in turns,
forward and with gradients, on random numbers.
"""

import argparse
import importlib.util
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import in_turns, summary
from ecgjax import host_memory
from ecgjax.atomic import write_json
from ecgjax.compilation.measure import compile_for, lower
from ecgjax.compilation.programs import Compilable
from ecgjax.compilation.targets import Target, open_target


class Form(NamedTuple):
    """One way to write an operation.

    Attributes:
        case: what is computed, and its size; forms of one case are compared.
        name: of the form.
        function: arrays -> array.
        arguments: trees of arrays or shapes.
        trained: how many of the first arguments have gradients.
    """

    case: str
    name: str
    function: Callable[..., jax.Array]
    arguments: tuple[Any, ...]
    trained: int


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def programs(form: Form) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """What is compared, each with its arguments: "forward", and "gradients", which returns the output too."""

    def gradients(g: jax.Array, *arguments: Any) -> tuple[Any, ...]:
        fixed = arguments[form.trained :]
        y, back = jax.vjp(lambda *trained: form.function(*trained, *fixed), *arguments[: form.trained])
        return y, *back(g)

    y = jax.eval_shape(form.function, *form.arguments)
    return {
        "forward": (form.function, form.arguments),
        "gradients": (gradients, (shape(*y.shape, dtype=y.dtype), *form.arguments)),
    }


def compiled(form: Form, target: Target) -> dict[str, dict[str, float | None]]:
    """The compiler's figures of both programs on one device of the target."""
    place = jax.sharding.SingleDeviceSharding(target.devices[0])
    found = {}
    for kind, (function, arguments) in programs(form).items():
        there = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments)
        cost = compile_for(lower(Compilable(f"{form.case} {form.name}", function, there, (), 0)), target)
        found[kind] = {
            "gflop": cost.flops and cost.flops / 1e9,
            "megabytes": cost.bytes and cost.bytes / 1e6,
            "temporary_megabytes": cost.temporaries and cost.temporaries / 1e6,
            "at_least_ms": cost.bound and 1e3 * cost.bound,
            "compile_seconds": cost.seconds,
            "compile_processor_seconds": cost.processor_seconds,
        }
    return found


def timed(forms: Sequence[Form], repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Processor milliseconds (median and quartiles) of both programs of every form of a case, in turns."""
    rng = np.random.default_rng(0)
    runs: dict[tuple[str, str], tuple[Any, Any]] = {}
    for form in forms:
        for kind, (function, arguments) in programs(form).items():
            runs[form.name, kind] = jax.jit(function), jax.tree.map(lambda x: _filled(x, rng), arguments)
    calls = {key: partial(_run, call, values) for key, (call, values) in runs.items()}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (name, kind), times in in_turns(calls, repeats).items():
        found.setdefault(name, {})[kind] = summary(times, 1e3)["cpu"]
    return found


def _run(call: Callable[..., Any], values: tuple[Any, ...]) -> None:
    jax.block_until_ready(call(*values))


def _filled(x: Any, rng: np.random.Generator) -> jax.Array:
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.asarray(rng.standard_normal(x.shape), x.dtype)
    return jnp.asarray(x)


def run(description: str | None, module: str, forms: Callable[[int], Sequence[Form]]) -> None:
    """The command line of a comparison: a table, and its JSON.

    Args:
        description: of `--help`.
        module: name of the benchmark, also of its JSON.
        forms: batch size -> what is compared.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", help="to compile for; default: v5e:2x2 if libtpu is installed; none: skip")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs here; 0: skip")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", default="", help="rows whose 'case/form' has this in it; alternatives by a comma")
    parser.add_argument("--output", type=Path, help="JSON; rows that it has from an earlier run stay")
    options = parser.parse_args()
    host_memory.keep_freed()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", "highest")  # as the jobs do
    topology = options.topology or ("v5e:2x2" if importlib.util.find_spec("libtpu") else "none")
    target = None if topology == "none" else open_target(topology)
    chosen = [
        form
        for form in forms(options.batch)
        if any(part in f"{form.case}/{form.name}" for part in options.only.split(","))
    ]
    rows: dict[str, Any] = {}
    if options.output and options.output.exists():
        rows = json.loads(options.output.read_text())["rows"]
    print(
        f"{module}: batch {options.batch}, forward / with gradients; compiled for {topology}, processor ms of this CPU"
    )
    print(f"{'case':28} {'form':16} {'GFLOP':>15} {'MB':>15} {'at least ms':>15} {'compile CPU s':>15} {'ms here':>15}")
    for case in dict.fromkeys(form.case for form in chosen):
        same = [form for form in chosen if form.case == case]
        here = timed(same, options.repeats) if options.repeats else {}
        for form in same:
            row = rows.setdefault(f"{case}/{form.name}", {})
            if form.name in here:
                row["cpu_ms"] = here[form.name]
            if target:
                row[topology] = compiled(form, target)
            costs = row.get(topology, {})
            pairs = [_pair(costs, key) for key in ("gflop", "megabytes", "at_least_ms", "compile_processor_seconds")]
            here_ms = row.get("cpu_ms", {})
            pairs.append("/".join(_short(here_ms.get(kind, {}).get("median")) for kind in ("forward", "gradients")))
            print(f"{case:28} {form.name:16} " + " ".join(f"{pair:>15}" for pair in pairs), flush=True)
            if options.output:
                write_json(options.output, {"benchmark": module, "batch": options.batch, "rows": rows})


def _pair(costs: dict[str, dict[str, float | None]], key: str) -> str:
    return "/".join(_short(costs.get(kind, {}).get(key)) for kind in ("forward", "gradients"))


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
