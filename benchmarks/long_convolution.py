"""Forms of the S4 convolution at the models' lengths: what `ecgjax.models.long_convolution.CHOICE` is chosen by.

    python -m benchmarks.long_convolution [--only="300 causal"] [--topology=none] [--repeats=5] [--output=FILE]

Causal at ECG-CPC's 300 and 1,200 tokens, in both directions at the S4 baseline's 250 and 1,000 samples; 32 x 512
channels. "states of N" is the S4 convolution in chunks of N samples with the state handed on: it needs no kernel, so
beside it stands "kernel", which the other forms need first. Its loop is counted once.
See `benchmarks.forms` for what is measured.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.forms import Form, run, shape
from ecgjax.models import s4_kernel, state_passing
from ecgjax.models.long_convolution import long_convolution
from ecgjax.models.s4_kernel import System

CHANNELS, STATE = 512, 8
CASES = {
    300: (False, ("matmul", "two_stages", "fft", "blocks of 60", "blocks of 100")),
    1200: (False, ("matmul", "two_stages", "fft", "blocks of 100")),
    250: (True, ("matmul", "two_stages", "fft")),
    1000: (True, ("matmul", "two_stages", "fft")),
}
CHUNKS = {300: 60, 1200: 60, 250: 50, 1000: 50}


def forms(batch: int) -> list[Form]:
    found = []
    for length, (both, names) in CASES.items():
        case = f"{length} {'both ways' if both else 'causal'}"
        u, k = shape(batch, length, CHANNELS), shape(CHANNELS, length)
        arguments = (u, k, k) if both else (u, k)
        found += [Form(case, name, _convolution(name), arguments, len(arguments)) for name in names]
        C, system = _state_space(2 if both else 1)
        found.append(Form(case, "kernel", _kernel(length), (C, system), 1))
        if not both:
            chunk = CHUNKS[length]
            found.append(Form(case, f"states of {chunk}", _states(length, chunk), (u, C, system), 2))
    return found


def _convolution(name: str) -> Callable[..., jax.Array]:
    def function(u: jax.Array, past: jax.Array, future: jax.Array | None = None) -> jax.Array:
        return long_convolution(u, past, future, name)

    return function


def _kernel(length: int) -> Callable[..., jax.Array]:
    return lambda C, system: s4_kernel.kernel(C, system, length, length)


def _states(length: int, chunk: int) -> Callable[..., jax.Array]:
    return lambda u, C, system: state_passing.convolve(u, C[0], system, length, chunk)


def _state_space(kernels: int) -> tuple[jax.Array, System]:
    rng = np.random.default_rng(0)
    Lambda, P, B = (
        np.broadcast_to(s4_kernel.to_pairs(x), (CHANNELS, STATE // 2, 2)) for x in s4_kernel.hippo_legs(STATE)
    )
    log_dt = rng.uniform(np.log(1e-3), np.log(1e-1), CHANNELS)
    system = System(*(jnp.asarray(x, jnp.float32) for x in (log_dt, Lambda, P, B)))
    return jnp.asarray(rng.standard_normal((kernels, CHANNELS, STATE // 2, 2)), jnp.float32), system


if __name__ == "__main__":
    run(__doc__, "long_convolution", forms)
