"""Blocks that are computed again: the same values, gradients and names of parameters, for less memory."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import registry
from ecgjax.models.encoder import Encoder

BLOCKS = {
    "ecg_cpc": 4, "ecg_founder": 20, "ecg_jepa": 12, "st_mem": 12, "merl_resnet": 8, "merl_vit": 12, "ecgfm_ked": 33,
    "hubert_ecg": 12, "ecg_fm": 12, "s4": 4, "net1d": 20,
}  # fmt: skip


def loss(encoder: Encoder, variables: Any, x: Any) -> tuple[jax.Array, Any]:
    features, rest = encoder.apply(variables, x, True, jax.random.key(3))
    return jnp.sum(features.pooled**2), rest


@pytest.mark.parametrize("name", registry.names())
def test_every_block_is_and_parameters_are_found(name: str) -> None:
    """The variables are those of the plain model."""
    encoder = registry.create(name)
    x = jax.ShapeDtypeStruct((1, encoder.samples, 12), jnp.float32)
    again = replace(encoder, remat=True)
    text = str(jax.make_jaxpr(lambda v, x: loss(again, v, x))(encoder.shapes(), x))
    own = 12 if name == "ecg_fm" else 0  # its attention keeps no weights
    assert text.count("prevent_cse=True") == BLOCKS[name] + own


def test_values_and_gradients() -> None:
    """With dropout: its masks are drawn the same."""
    encoder = registry.create("s4", width=16, layers=2)
    variables = encoder.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, encoder.samples, 12))

    def run(encoder: Encoder) -> Any:
        of = lambda params: loss(encoder, {**variables, "params": params}, x)  # noqa: E731
        return jax.jit(jax.value_and_grad(of, has_aux=True))(variables["params"])

    plain, again = run(encoder), run(replace(encoder, remat=True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6 * float(np.abs(a).max()))
