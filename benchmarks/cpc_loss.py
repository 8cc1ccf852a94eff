"""CPC loss and gradient: one product and a gather, against a loop over the predicted tokens, in time and memory.

    python -m benchmarks.cpc_loss [--batch=8] [--tokens=1200] [--channels=512] [--repeats=5]

The loop gathers the negatives' vectors of one token after the other, as the authors' code does; it is a `lax.scan`, so
it is compiled too. A third way is timed beside it: weighting all scores by how often each token was drawn, whose
gradient needs no scatter. All run interleaved in one process; times are medians, ratios medians of each round's ratio
("wall" of elapsed time, "cpu" of the process's CPU time), memory is XLA's own account of temporary buffers. Prints one
line of JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ecgjax.pretraining import cpc

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
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
    options = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    shape = (options.batch, options.tokens, options.channels)
    keys = jax.random.split(jax.random.key(0), 3)
    encoded, predicted = jax.nn.relu(jax.random.normal(keys[0], shape)), 0.1 * jax.random.normal(keys[1], shape)
    arguments = encoded, predicted, cpc.draw_negatives(keys[2], options.batch, options.tokens)

    programs, values = {}, {}
    for name, function in {"gather": gather, "counts": counts, "loop": loop}.items():
        programs[name] = jax.jit(jax.value_and_grad(function, argnums=(0, 1))).lower(*arguments).compile()
        values[name] = float(programs[name](*arguments)[0])
    seconds: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in programs} for clock in CLOCKS}
    for _ in range(options.repeats):
        for name, program in programs.items():
            start = {clock: now() for clock, now in CLOCKS.items()}
            jax.block_until_ready(program(*arguments))
            for clock, now in CLOCKS.items():
                seconds[clock][name].append(now() - start[clock])
    median = {name: statistics.median(times) for name, times in seconds["wall"].items()}

    def ratio(name: str, to: str) -> dict[str, float]:
        return {
            clock: statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))
            for clock, times in seconds.items()
        }

    megabytes = {name: program.memory_analysis().temp_size_in_bytes / 1e6 for name, program in programs.items()}
    print(
        json.dumps(
            {
                "device": jax.devices()[0].device_kind,
                **vars(options),
                "loss": values,
                "seconds": median,
                "megabytes": megabytes,
                "times_faster_than_loop": ratio("loop", "gather"),
                "times_less_memory_than_loop": megabytes["loop"] / megabytes["gather"],
                "counts_time_to_gather": ratio("counts", "gather"),
            }
        )
    )


if __name__ == "__main__":
    main()
