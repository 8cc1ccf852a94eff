"""Forms of the grouped convolution at the shapes of Net1D: what `ecgjax.models.convolution.cpu_form` is chosen by.

    taskset -c 1 python -m benchmarks.convolutions --batch=32

Prints milliseconds of processor time, forward / forward and all gradients, the least of the repeats; a star marks the
form that is used. 16 taps, 16 channels per group, 2.5 s at 500 Hz; `--seconds=10` for the lengths of 10 s.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from ecgjax.models.convolution import convolution, cpu_form
from ecgjax.models.net1d import BLOCKS, GROUP_WIDTH, RATE, TAPS, WIDTHS

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch", 32, "windows per batch", lower_bound=1)
flags.DEFINE_integer("repeats", 7, "timed runs", lower_bound=1)
flags.DEFINE_float("seconds", 2.5, "window")
flags.DEFINE_list("forms", ["plain", "split", "blocks of 4", "blocks of 8", "blocks of 10"], "forms to time")


def shapes(samples: int) -> list[tuple[int, int, int]]:
    """(channels, length, stride) of every different grouped convolution."""
    length = -(-samples // 2)
    found = []
    for width, blocks in zip(WIDTHS, BLOCKS, strict=True):
        found.append((width, length, 2))
        length = -(-length // 2)
        if blocks > 1:
            found.append((width, length, 1))
    return found


def programs(form: str, stride: int, groups: int) -> tuple[Callable[..., object], Callable[..., object]]:
    """Forward; forward and the gradients with respect to signal and kernel."""

    def forward(x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
        return convolution(x, kernel, stride, "same", groups, form)

    def both(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        y, back = jax.vjp(lambda x, kernel: forward(x, kernel, g), x, kernel)
        return y, *back(g)

    return jax.jit(forward), jax.jit(both)


def milliseconds(run: Callable[..., object], *arguments: jax.Array) -> float:
    """Least processor time of the repeats, after one run to warm up."""
    times = []
    for _ in range(FLAGS.repeats + 1):
        began = time.process_time()
        jax.block_until_ready(run(*arguments))
        times.append(time.process_time() - began)
    return 1e3 * min(times[1:])


def main(_: list[str]) -> None:
    rng = np.random.default_rng(0)
    for channels, length, stride in shapes(int(FLAGS.seconds * RATE)):
        groups, outputs = channels // GROUP_WIDTH, -(-length // stride)
        x = jnp.asarray(rng.standard_normal((FLAGS.batch, length, channels)), jnp.float32)
        kernel = jnp.asarray(rng.standard_normal((TAPS, GROUP_WIDTH, channels)), jnp.float32)
        g = jnp.asarray(rng.standard_normal((FLAGS.batch, outputs, channels)), jnp.float32)
        cells = []
        for form in FLAGS.forms:
            forward, both = (milliseconds(f, x, kernel, g) for f in programs(form, stride, groups))
            mark = "*" if form == cpu_form(groups, outputs) else " "
            cells.append(f"{form} {forward:6.1f} /{both:7.1f}{mark}")
        print(f"{channels:5} channels, {length:4} samples, stride {stride}: " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    app.run(main)
