"""Features, gradients and kernels of S4 and ECG-CPC against the reference."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import s4_kernel
from ecgjax.models.model import Model
from tests.models import golden

FEATURES, GRADIENT = 2e-5, 1e-4
STACK = {"s4": "stack", "ecg_cpc": "predictor"}
MODELS = sorted(STACK)

case = cache(golden.load)


@pytest.mark.parametrize("name", MODELS)
def test_features(name: str) -> None:
    c = case(name)
    out = Model(c.encoder, c.variables).features(c.x)
    expected = c.arrays["sequence_features"]
    assert golden.relative(golden.thin(out.sequence, 1, expected), expected) < FEATURES
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < FEATURES
    np.testing.assert_array_equal(out.taps["layer_3"], out.sequence)


@pytest.mark.parametrize("name", MODELS)
def test_input_gradient(name: str) -> None:
    c = case(name)

    def target(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = c.encoder.apply(c.variables, x)[0].pooled
        if name == "s4":
            head = c.heads["linear"]
            out = out @ head["kernel"] + head["bias"][None]
        return jnp.sum(out * c.draw("cotangent", out.shape).astype(np.float32)), out

    gradient, out = jax.jit(jax.grad(target, has_aux=True))(c.x)
    assert golden.relative(golden.channels_last(gradient), c.arrays["grad_input"]) < GRADIENT
    if name == "s4":
        assert golden.relative(out, c.arrays["logits"]) < FEATURES


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("which", ["kernel/0", "kernel_short/0", "kernel_long/0", "kernel_exact/0"])
def test_kernel(name: str, which: str) -> None:
    C, system, l_max = _layer(name)
    expected = case(name).arrays[which]
    found = jax.jit(s4_kernel.kernel, static_argnums=(2, 3))(C, system, l_max, expected.shape[-1])
    # The reference's doubling squares float32 powers; ours is nearer to the exact kernel than to the reference.
    limit = {"kernel_long/0": 1e-4, "kernel_exact/0": 2e-6}.get(which, 1e-5)
    assert golden.relative(golden.thin(found, 1, expected), expected) < limit


@pytest.mark.parametrize("name", MODELS)
def test_doubled_output_vector(name: str) -> None:
    C, system, l_max = _layer(name)
    length = case(name).arrays["kernel_long/0"].shape[-1]
    doubled, new_l_max = s4_kernel.lengthen(C, system, l_max, length)
    assert new_l_max == case(name).manifest["ssm_kernel"]["kernel_long/0"]["internal_length_after"]
    assert golden.relative(doubled, case(name).arrays["C_after_double/0"]) < 2e-5


def _layer(name: str) -> tuple[jax.Array, s4_kernel.System, int]:
    c = case(name)
    layer = c.variables["buffers"][STACK[name]]["layer_0"]
    system = s4_kernel.System(**layer)
    return c.variables["params"][STACK[name]]["layer_0"]["C"], system, c.encoder.arguments["l_max"]


def test_pretraining_outputs() -> None:
    c = case("ecg_cpc_pretrain")
    taps = Model(c.encoder, c.variables).features(c.x).taps
    tokens = c.arrays["token_index"]
    assert golden.relative(taps["encoder"][:, tokens], c.arrays["encoder_output"]) < FEATURES
    assert golden.relative(taps["predictor"][:, tokens], c.arrays["predictor_output"]) < FEATURES
    ssl = taps["predictor"] @ c.heads["ssl"]["kernel"]
    assert golden.relative(ssl[:, tokens], c.arrays["ssl_head_output"]) < FEATURES
