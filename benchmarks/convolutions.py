"""Forms of the grouped convolution at the shapes of Net1D: what `ecgjax.models.convolution.cpu_form` is chosen by.

    taskset -c 1 python -m benchmarks.convolutions --batch=32 [--output=FILE]

Prints milliseconds of processor time, forward / forward and all gradients, medians of repeats in turns; a star marks
the form that is used. 16 taps, 16 channels per group, 2.5 s at 500 Hz; `--seconds=10` for the lengths of 10 s.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import asked, in_turns, save, summary
from ecgjax import host_memory
from ecgjax.models.convolution import convolution, cpu_form
from ecgjax.models.net1d import BLOCKS, GROUP_WIDTH, RATE, TAPS, WIDTHS

FORMS = "plain,split,blocks of 4,blocks of 5,fourier"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="windows per batch")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs")
    parser.add_argument("--seconds", type=float, default=2.5, help="window")
    parser.add_argument("--forms", default=FORMS, help="forms to time")
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    host_memory.keep_freed()
    rng, rows = np.random.default_rng(0), {}
    for channels, length, stride in shapes(int(options.seconds * RATE)):
        groups, outputs = channels // GROUP_WIDTH, -(-length // stride)
        x = jnp.asarray(rng.standard_normal((options.batch, length, channels)), jnp.float32)
        kernel = jnp.asarray(rng.standard_normal((TAPS, GROUP_WIDTH, channels)), jnp.float32)
        g = jnp.asarray(rng.standard_normal((options.batch, outputs, channels)), jnp.float32)
        calls = {}
        for form in options.forms.split(","):
            for kind, program in zip(("forward", "gradients"), programs(form, stride, groups), strict=True):
                calls[form, kind] = partial(_run, program, x, kernel, g)
        found: dict[str, dict[str, dict[str, float]]] = {}
        for (form, kind), times in in_turns(calls, options.repeats).items():
            found.setdefault(form, {})[kind] = summary(times, 1e3)["cpu"]
        case = f"{channels:5} channels, {length:4} samples, stride {stride}"
        rows[case] = found
        cells = []
        for form, kinds in found.items():
            mark = "*" if form == cpu_form(groups, outputs, TAPS, stride) else " "
            cells.append(f"{form} {kinds['forward']['median']:6.1f} /{kinds['gradients']['median']:7.1f}{mark}")
        print(f"{case}: " + "  ".join(cells), flush=True)
    save(options.output, "convolutions", {"options": asked(options), "rows": rows})


def _run(program: Callable[..., object], *arguments: jax.Array) -> None:
    jax.block_until_ready(program(*arguments))


if __name__ == "__main__":
    main()
