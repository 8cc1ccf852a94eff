"""Features and gradients of the transformers against the reference, full-size."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import ecg_jepa, registry
from tests.models import golden

FEATURES, GRADIENT = 5e-6, 2e-5

case = cache(golden.load)


@pytest.mark.parametrize("name", ["merl_vit", "ecg_jepa", "st_mem", "ecg_fm", "hubert_ecg"])
def test_features_and_input_gradient(name: str) -> None:
    c = case(name)
    cotangent = c.draw("cotangent", (2, c.encoder.spec.channels)).astype(np.float32)
    # HuBERT-ECG's gradient is with respect to the prepared signal.
    prepared = name == "hubert_ecg"
    x = c.arrays["preprocessed_input"].reshape(2, 12, 500).swapaxes(1, 2) if prepared else c.x

    def features(variables: Any, x: jax.Array) -> Any:
        return c.encoder.module.apply(variables, x, False) if prepared else c.encoder.apply(variables, x)[0]

    @jax.jit
    def run(variables: Any, x: jax.Array) -> Any:
        def target(x: jax.Array) -> Any:
            out = features(variables, x)
            return jnp.sum(out.pooled * cotangent), out

        return jax.grad(target, has_aux=True)(x)

    gradient, out = run(c.variables, x)
    expected = c.arrays["sequence_features"]
    assert golden.relative(golden.thin(out.sequence, 1, expected), expected) < FEATURES
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < FEATURES
    expected = c.arrays["grad_input"].reshape(2, 12, -1)
    assert golden.relative(golden.thin(golden.channels_last(gradient), 2, expected), expected) < GRADIENT
    # Before the last norm, if there is one behind the blocks, the tokens are the last block's.
    last = out.taps["layer_11" if name in ("ecg_fm", "hubert_ecg") else "block_11"]
    if name == "st_mem":
        last = last.reshape(2, 12, 10, 768)[:, :, 1:-1].reshape(2, 96, 768)
    if name != "ecg_jepa":
        np.testing.assert_array_equal(last, out.sequence)


def test_hubert_ecg_from_millivolt() -> None:
    c = case("hubert_ecg")
    # Filtered and scaled in float32 rather than float64.
    out = jax.jit(lambda variables, x: c.encoder.apply(variables, x)[0])(c.variables, c.x)
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < 2e-5


def test_ecg_jepa_with_three_leads() -> None:
    c = case("ecg_jepa")
    leads = tuple(ecg_jepa.LEADS[i] for i in c.arrays["restricted/leads"])
    fewer = registry.create("ecg_jepa", leads=leads)
    out = jax.jit(lambda variables, x: fewer.apply(variables, x)[0])(c.variables, c.x)
    assert golden.relative(out.pooled, c.arrays["restricted/pooled_features"]) < FEATURES
    expected = c.arrays["restricted/sequence_features_first_8_tokens"]
    assert golden.relative(out.sequence[:, :8], expected) < FEATURES
