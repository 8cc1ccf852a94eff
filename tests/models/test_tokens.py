"""The hook between tokens and context: without an edit nothing changes, and an edit does what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import registry
from ecgjax.models.tokens import Edit, scale_gradient
from tests.pretraining.small import MODELS


def make(model, seconds=None, **arguments):
    arguments = {**MODELS[model], **arguments, **({} if seconds is None else {"seconds": seconds})}
    encoder = registry.create(model, **arguments)
    x = jax.random.normal(jax.random.key(1), (2, encoder.samples, 12))
    return encoder, encoder.init(jax.random.key(0)), x


@pytest.mark.parametrize("model", sorted(MODELS))
def test_taps_of_an_edit(model):
    encoder = registry.create(model, **MODELS[model])
    x = jax.ShapeDtypeStruct((2, encoder.samples, 12), jnp.float32)
    plain, edited = (
        jax.eval_shape(lambda v, x, e=e: encoder.apply(v, x, edit=e)[0], encoder.shapes(), x) for e in (None, Edit())
    )
    added = set(edited.taps) - set(plain.taps)
    assert "tokens" in added
    assert encoder.tokens.extractor == ({"features", "extracted"} <= added)
    leads = len(encoder.spec.leads)
    tokens = encoder.tokens.rows(leads) * encoder.tokens.columns(encoder.samples, leads)
    assert edited.taps["tokens"].shape == plain.sequence.shape == (2, tokens, encoder.spec.channels)


@pytest.mark.parametrize("model", ["merl_vit", "st_mem"])
def test_an_empty_edit_changes_nothing(model):
    encoder, variables, x = make(model)
    plain, edited = (jax.jit(lambda v, x, e=e: encoder.apply(v, x, edit=e)[0])(variables, x) for e in (None, Edit()))
    np.testing.assert_array_equal(plain.sequence, edited.sequence)
    np.testing.assert_array_equal(plain.pooled, edited.pooled)


@pytest.mark.parametrize("model", ["st_mem", "ecg_jepa"])
def test_tokens_that_are_left_out_are_as_if_the_record_were_shorter(model):
    # The first K columns with their positions are those of a window of K patches.
    encoder, variables, x = make(model)
    patch = encoder.tokens.stride
    kept = jnp.arange(3, dtype=jnp.int32)[None, None]
    found = jax.jit(lambda v, x: encoder.apply(v, x, edit=Edit(kept=kept))[0])(variables, x)
    expected = jax.jit(lambda v, x: encoder.apply(v, x)[0])(variables, x[:, : 3 * patch])
    np.testing.assert_allclose(found.sequence, expected.sequence, atol=1e-5)
    np.testing.assert_allclose(found.pooled, expected.pooled, atol=1e-5)


@pytest.mark.parametrize("model", ["s4", "merl_vit", "st_mem"])
def test_masked_tokens_say_nothing(model):
    encoder, variables, x = make(model)
    leads = len(encoder.spec.leads)
    rows, columns = encoder.tokens.rows(leads), encoder.tokens.columns(encoder.samples, leads)
    mask = np.zeros((2, rows, columns), bool)
    mask[:, :, columns // 2 :] = True
    edit = Edit(jnp.asarray(mask.reshape(2, -1)), jnp.full(encoder.spec.channels, 0.5))
    apply = jax.jit(lambda v, x: encoder.apply(v, x, edit=edit)[0].sequence)
    other = x.at[:, -encoder.tokens.stride :].multiply(-1.0)
    np.testing.assert_array_equal(apply(variables, other), apply(variables, x))
    assert not np.array_equal(apply(variables, x.at[:, : encoder.tokens.stride].multiply(-1.0)), apply(variables, x))


@pytest.mark.parametrize("model", ["merl_vit", "s4"])
def test_causal_encoders_do_not_see_the_future(model):
    encoder, variables, x = make(model, causal=True)
    assert encoder.tokens.causal
    assert not registry.create(model).tokens.causal
    apply = jax.jit(lambda v, x: encoder.apply(v, x)[0].sequence)
    before = encoder.samples // 2
    tokens = before // encoder.tokens.stride
    a, b = apply(variables, x), apply(variables, x.at[:, before:].set(0.0))
    np.testing.assert_allclose(a[:, :tokens], b[:, :tokens], atol=1e-5)
    assert np.abs(a[:, tokens:] - b[:, tokens:]).max() > 1e-3


def test_gradient_factor():
    x = jnp.arange(3.0)
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(scale_gradient(x, Edit(gradient=0.1)) ** 2))(x)
    np.testing.assert_allclose(value, 5.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.2 * x, rtol=1e-6)
    assert scale_gradient(x, None) is x
