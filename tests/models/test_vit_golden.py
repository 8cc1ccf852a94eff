"""Features and gradients of the vision transformers against the reference, full-size."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models.ecg_jepa import LEADS
from tests.models import golden

FEATURES, GRADIENT = 5e-6, 2e-5

case = cache(golden.load)


@pytest.mark.parametrize("name", ["merl_vit", "ecg_jepa", "st_mem"])
def test_features_and_input_gradient(name: str) -> None:
    c = case(name)
    cotangent = c.draw("cotangent", (2, c.encoder.spec.channels)).astype(np.float32)

    @jax.jit
    def run(variables, x):
        def target(x):
            out = c.encoder.apply(variables, x)[0]
            return jnp.sum(out.pooled * cotangent), out

        return jax.grad(target, has_aux=True)(x)

    gradient, out = run(c.variables, c.x)
    expected = c.arrays["sequence_features"]
    assert golden.relative(golden.thin(out.sequence, 1, expected), expected) < FEATURES
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < FEATURES
    expected = c.arrays["grad_input"]
    assert golden.relative(golden.thin(golden.channels_last(gradient), 2, expected), expected) < GRADIENT
    # Before the last norm, the tokens are the last block's.
    last = out.taps["block_11"]
    if name == "merl_vit":
        np.testing.assert_array_equal(last, out.sequence)
    elif name == "st_mem":
        np.testing.assert_array_equal(last.reshape(2, 12, 10, 768)[:, :, 1:-1].reshape(2, 96, 768), out.sequence)


def test_ecg_jepa_with_three_leads() -> None:
    c = case("ecg_jepa")
    leads = tuple(LEADS[i] for i in c.arrays["restricted/leads"])
    fewer = golden.registry.create("ecg_jepa", leads=leads)
    out = jax.jit(lambda variables, x: fewer.apply(variables, x)[0])(c.variables, c.x)
    assert golden.relative(out.pooled, c.arrays["restricted/pooled_features"]) < FEATURES
    expected = c.arrays["restricted/sequence_features_first_8_tokens"]
    assert golden.relative(out.sequence[:, :8], expected) < FEATURES
