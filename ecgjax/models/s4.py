"""S4 layer and stack, and the supervised S4 baseline.

Gu et al. 2022, arXiv:2111.00396; as an ECG classifier: Mehari and Strodthoff 2023, arXiv:2308.15291. The benchmark
trains this model from scratch: there are no released weights.

Input: 12 leads, mV, 100 Hz, 2.5 s; no normalisation. Differences from the authors' code: see `s4_kernel`. As there,
only C and D of the state space are trained; dt, Lambda, P and B keep their initial values (collection `buffers`).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models import s4_kernel
from ecgjax.models.dropout import Dropout
from ecgjax.models.encoder import Encoder, Features, ModelSpec
from ecgjax.models.layers import Conv, Dense, LayerNorm, gelu
from ecgjax.models.long_convolution import long_convolution
from ecgjax.models.rematerialisation import block
from ecgjax.models.tokens import Edit, Tokens, replace

Array = jax.Array

DT_RANGE = (1e-3, 1e-1)
RATE = 100.0


class S4Layer(nn.Module):
    """State space, GELU, dropout, position-wise linear, GLU: (batch, L, width) -> the same shape.

    Attributes:
        l_max: length that the trained output vector belongs to; inputs may be shorter or longer.
        state_size: 2N, even.
        bidirectional: a second kernel acts on the strict future.
        dropout: rate, tied over time.
    """

    l_max: int
    state_size: int = 8
    bidirectional: bool = False
    dropout: float = 0.2

    @nn.compact
    def __call__(self, u: Array, train: bool) -> Array:
        length, width = u.shape[1:]
        kernels = 2 if self.bidirectional else 1
        system = self._system(width)
        C = self.param("C", self._init_output, (kernels, width, self.state_size // 2, 2), system)
        D = self.param("D", nn.initializers.normal(1.0), (width,))
        k = s4_kernel.kernel(C, system, self.l_max, length)
        # The skip D u is the kernel's first tap.
        past = k[0].at[:, 0].add(D)
        # Kernels and convolution stay in float32: a Fourier transform has none of bfloat16's tolerance.
        y = long_convolution(u.astype(jnp.float32), past, k[1] if self.bidirectional else None).astype(u.dtype)
        y = Dropout(self.dropout, tied=(1,))(gelu(y), train)
        a, b = jnp.split(Dense(2 * width, name="output")(y), 2, axis=-1)
        return a * jax.nn.sigmoid(b)

    def _system(self, width: int) -> s4_kernel.System:
        Lambda, P, B = (s4_kernel.to_pairs(x) for x in s4_kernel.hippo_legs(self.state_size))

        def log_dt() -> Array:
            low, high = (math.log(x) for x in DT_RANGE)
            return jax.random.uniform(self.make_rng("params"), (width,), jnp.float32, low, high)

        def constant(name: str, value: Any) -> Array:
            shape = (width, *value.shape)
            return self.variable("buffers", name, lambda: jnp.broadcast_to(value[None], shape)).value

        return s4_kernel.System(
            self.variable("buffers", "log_dt", log_dt).value,
            constant("Lambda", Lambda),
            constant("P", P),
            constant("B", B),
        )

    def _init_output(self, key: Array, shape: tuple[int, ...], system: s4_kernel.System) -> Array:
        return s4_kernel.truncate(jax.random.normal(key, shape) * math.sqrt(0.5), system, self.l_max)


class S4Stack(nn.Module):
    """Post-norm residual stack: x <- LayerNorm(x + Dropout(S4(x))).

    Attributes:
        layers: number of layers.
        l_max: see `S4Layer`.
        state_size: see `S4Layer`.
        bidirectional: see `S4Layer`.
        dropout: rate inside the layers and on their output, tied over time.
    """

    layers: int
    l_max: int
    state_size: int = 8
    bidirectional: bool = False
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, dict[str, Array]]:
        taps = {}
        for i in range(self.layers):
            layer = block(S4Layer)(self.l_max, self.state_size, self.bidirectional, self.dropout, name=f"layer_{i}")
            x = x + Dropout(self.dropout, tied=(1,))(layer(x, train), train)
            x = taps[f"layer_{i}"] = LayerNorm(name=f"norm_{i}")(x)
        return x, taps


class SupervisedS4(nn.Module):
    """Projection of the leads to `width` channels and a bidirectional stack; arguments as in `create`."""

    width: int
    layers: int
    l_max: int
    state_size: int
    dropout: float
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool, edit: Edit | None = None) -> Features:
        x = Conv(self.width, 1, name="projection")(x)
        stack = S4Stack(self.layers, self.l_max, self.state_size, not self.causal, self.dropout, name="stack")
        sequence, taps = stack(replace(x, edit), train)
        taps = {"projection": x, **taps, **({} if edit is None else {"tokens": x})}
        return Features(sequence, jnp.mean(sequence, 1, dtype=jnp.float32), taps)


def create(
    width: int = 512,
    layers: int = 4,
    state_size: int = 8,
    seconds: float = 2.5,
    l_max: int | None = None,
    dropout: float = 0.2,
    dtype: str = "float32",
    causal: bool = False,
) -> Encoder:
    """The supervised S4 baseline.

    Args:
        width: channels.
        layers: S4 layers.
        state_size: of the real state per channel, even.
        seconds: window at 100 Hz.
        l_max: length the trained output vectors belong to; None: the window's samples.
        dropout: rate.
        dtype: of the computation, "float32" or "bfloat16"; the state space itself stays in float32.
        causal: no second kernel that acts on the future; the benchmark's has it.
    """
    check.window("s4", seconds, RATE)
    check.one_of("s4", "causal", causal, (True, False))
    check.one_of("s4", "dtype", dtype, check.DTYPES)
    l_max = int(seconds * RATE) if l_max is None else l_max
    arguments = check_arguments(
        "s4", width=width, layers=layers, state_size=state_size, seconds=seconds, l_max=l_max, dropout=dropout
    )
    spec = ModelSpec(
        name="s4",
        sampling_rate=RATE,
        seconds=seconds,
        channels=width,
        family="state-space",
        reference="Mehari and Strodthoff 2023, arXiv:2308.15291; Gu et al. 2022, arXiv:2111.00396",
        licence="no released weights: trained from scratch by the benchmark",
        lr_groups=(("all", ("encoder/", "head/")),),
        supervised=True,
    )
    tokens = Tokens(stride=1, window=1, causal=causal)
    module = SupervisedS4(width, layers, l_max, state_size, dropout, causal)
    return Encoder(spec, module, {**arguments, "dtype": dtype, "causal": causal}, tokens=tokens)


def check_arguments(model: str, **arguments: Any) -> dict[str, Any]:
    """The arguments, if an S4 model can have them.

    Raises:
        UserError: names the argument and what is expected.
    """
    for name in ("width", "layers", "state_size", "l_max"):
        value = arguments[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"model {model}: {name} is {value!r}; expected a positive integer")
    if arguments["state_size"] % 2:
        raise UserError(f"model {model}: state_size is {arguments['state_size']}; expected an even number")
    dropout = arguments["dropout"]
    if not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
        raise UserError(f"model {model}: dropout is {dropout!r}; expected a number from 0 up to below 1")
    return arguments
