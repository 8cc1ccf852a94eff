"""CPC loss and gradient: one product and a gather, against a loop over the predicted tokens, in time and memory.

    python -m benchmarks.cpc_loss [--batch=8] [--tokens=1200] [--channels=512] [--repeats=5] [--output=FILE]

The loop gathers the negatives' vectors of one token after the other, as the authors' code does; it is a `lax.scan`, so
it is compiled too. A third way is timed beside it: weighting all scores by how often each token was drawn, whose
gradient needs no scatter. All run interleaved in one process; times are medians, ratios medians of each round's ratio
("wall" of elapsed time, "cpu" of the process's CPU time), memory is XLA's own account of temporary buffers. Prints one
line of JSON.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import asked, in_turns, ratio, save, summary
from ecgjax import host_memory
from ecgjax.pretraining import cpc

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def gather(encoded: jax.Array, predicted: jax.Array, negatives: jax.Array) -> jax.Array:
    return cpc.loss(encoded, predicted, negatives)[0]


def loop(encoded: jax.Array, predicted: jax.Array, negatives: jax.Array) -> jax.Array:
    def one(total: jax.Array, position: jax.Array) -> tuple[jax.Array, None]:
        query = predicted[:, position]
        candidates = jnp.take_along_axis(encoded, negatives[:, position, :, None], 1)
        scores = jnp.einsum("bc,bnc->bn", query, candidates)
        target = jnp.sum(query * encoded[:, position + cpc.STEPS_AHEAD], -1)
        return total + jnp.logaddexp(target, jax.nn.logsumexp(scores, -1)) - target, None

    total, _ = jax.lax.scan(one, jnp.zeros(encoded.shape[0]), jnp.arange(negatives.shape[1]))
    return jnp.mean(total)


def counts(encoded: jax.Array, predicted: jax.Array, negatives: jax.Array) -> jax.Array:
    tokens = encoded.shape[1]
    batch, positions, _ = negatives.shape
    flat = (jnp.arange(batch * positions).reshape(batch, positions, 1) * tokens + negatives).ravel()
    count = jnp.zeros(batch * positions * tokens).at[flat].add(1.0).reshape(batch, positions, tokens)
    query = predicted[:, : -cpc.STEPS_AHEAD]
    scores = jnp.einsum("bpc,btc->bpt", query, encoded)
    target = jnp.sum(query * encoded[:, cpc.STEPS_AHEAD :], -1)
    log_partition = jnp.logaddexp(target, jax.nn.logsumexp(scores, -1, b=count))
    return jnp.mean(jnp.sum(log_partition - target, -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"batch": 8, "tokens": 1200, "channels": 512, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    host_memory.keep_freed()
    jax.config.update("jax_default_matmul_precision", "highest")
    shape = (options.batch, options.tokens, options.channels)
    keys = jax.random.split(jax.random.key(0), 3)
    encoded, predicted = jax.nn.relu(jax.random.normal(keys[0], shape)), 0.1 * jax.random.normal(keys[1], shape)
    arguments = encoded, predicted, cpc.draw_negatives(keys[2], options.batch, options.tokens)

    programs, values = {}, {}
    for name, function in {"gather": gather, "counts": counts, "loop": loop}.items():
        programs[name] = jax.jit(jax.value_and_grad(function, argnums=(0, 1))).lower(*arguments).compile()
        values[name] = float(programs[name](*arguments)[0])
    calls = {name: partial(_run, program, arguments) for name, program in programs.items()}
    times = in_turns(calls, options.repeats)
    megabytes = {name: program.memory_analysis().temp_size_in_bytes / 1e6 for name, program in programs.items()}
    size = f"CPC loss and gradient, {options.batch} x {options.tokens} tokens"
    memory = {"median": megabytes["loop"] / megabytes["gather"]}
    found = {
        "loss": values,
        "seconds": {name: summary(taken) for name, taken in times.items()},
        "megabytes": megabytes,
        "ratios": {
            f"{size}: loop over tokens / one product": {**ratio(times["loop"], times["gather"]), "memory": memory},
            f"{size}: weighted by counts / one product": ratio(times["counts"], times["gather"]),
        },
    }
    print(json.dumps({"options": asked(options), **found}))
    save(options.output, "cpc_loss", {"options": asked(options), **found})


def _run(program: Any, arguments: tuple[jax.Array, ...]) -> None:
    jax.block_until_ready(program(*arguments))


if __name__ == "__main__":
    main()
