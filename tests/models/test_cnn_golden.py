"""Features and gradients of the convolutional encoders against the reference, full-size."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests import kit
from tests.models import golden

FEATURES = 2e-5
# A ReLU whose input is within rounding of 0 passes the gradient or not. One unit of merl_resnet does so on this input,
# a few of ecgfm_ked; float64 and the short input below, where none does, are the sharp tests.
GRADIENT = {"ecg_founder": 1e-5, "net1d": 1e-5, "merl_resnet": 1e-3, "ecgfm_ked": 3e-2}
MODELS = sorted(GRADIENT)

case = cache(golden.load)


@partial(jax.jit, static_argnums=0)
def run(module: nn.Module, variables, x, cotangent):
    """Features, and the gradient of sum(pooled * cotangent). One compilation serves ecg_founder and net1d."""

    def target(x: jax.Array):
        features = module.apply(variables, x, False)
        return jnp.sum(features.pooled * cotangent), (features.sequence, features.pooled)

    gradient, (sequence, pooled) = jax.grad(target, has_aux=True)(x)
    return sequence, pooled, gradient


@pytest.mark.parametrize("name", MODELS)
def test_features_and_input_gradient(name: str) -> None:
    c = case(name)
    linear = c.heads.get("linear")
    outputs = c.encoder.spec.channels if linear is None else 71
    cotangent = c.draw("cotangent", (len(c.x), outputs)).astype(np.float32)
    if linear is not None:
        cotangent = cotangent @ linear["kernel"].T
    sequence, pooled, gradient = run(c.encoder.module, c.variables, c.x, cotangent)
    expected = c.arrays["sequence_features"]
    assert golden.relative(golden.thin(sequence, 1, expected), expected) < FEATURES
    assert golden.relative(pooled, c.arrays["pooled_features"]) < FEATURES
    if linear is not None:
        assert golden.relative(pooled @ linear["kernel"] + linear["bias"][None], c.arrays["logits"]) < FEATURES
    expected = c.arrays["grad_input"]
    assert golden.relative(golden.thin(golden.channels_last(gradient), 2, expected), expected) < GRADIENT[name]


def test_gradient_of_merl_resnet_in_float64() -> None:
    c = case("merl_resnet")
    cotangent = c.draw("cotangent", (len(c.x), 512)).astype(np.float32)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (c.variables, c.x, cotangent))
        _, _, gradient = run(c.encoder.module, *exact)
    assert gradient.dtype == np.float64
    assert golden.relative(golden.channels_last(gradient), c.arrays["grad_input"]) < 2e-6


def test_ecgfm_ked_at_its_authors_length() -> None:
    c = case("ecgfm_ked")
    x = golden.channels_last(kit.make_input((1, 12, 1000), c.manifest["seed"]))
    cotangent = c.draw("cotangent", (1, 768)).astype(np.float32)
    sequence, pooled, gradient = run(c.encoder.module, c.variables, x, cotangent)
    assert sequence.shape == (1, 32, 768)
    expected = c.arrays["short/sequence_features"]
    assert golden.relative(golden.thin(sequence, 1, expected), expected) < FEATURES
    assert golden.relative(pooled, c.arrays["short/pooled_features"]) < FEATURES
    assert golden.relative(golden.channels_last(gradient), c.arrays["short/grad_input"]) < 1e-4
