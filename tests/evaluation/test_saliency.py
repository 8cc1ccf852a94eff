"""Attributions against finite differences and their own theorem; attention against what it is spread from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.errors import UserError
from ecgjax.evaluation import saliency
from ecgjax.models import heads
from ecgjax.models.encoder import CANONICAL_LEADS
from tests.jobs import tiny_model

ENCODER = tiny_model.create()


@pytest.fixture(scope="module")
def parts():
    variables = ENCODER.init(jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((2, 125, 12)).astype(np.float32)
    made = {kind: heads.create(kind, 16, 3) for kind in ("linear", "attention")}
    return variables, {kind: (head, head.init(jax.random.key(1))) for kind, head in made.items()}, x


def logit(variables, head, params, x):
    return np.asarray(head.apply(params, ENCODER.apply(variables, jnp.asarray(x))[0]))[:, 1]


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_gradient_times_input(parts, kind):
    variables, made, x = parts
    head, params = made[kind]
    found = saliency.attribute(ENCODER, variables, head, params, 1, x, "gradient")
    np.testing.assert_allclose(found.logits, logit(variables, head, params, x), rtol=1e-5)
    for sample, lead in ((3, 0), (60, 7), (124, 11)):
        step = np.zeros_like(x)
        step[:, sample, lead] = 1e-2
        up, down = (logit(variables, head, params, x + sign * step) for sign in (1, -1))
        np.testing.assert_allclose(
            found.values[:, sample, lead], x[:, sample, lead] * (up - down) / 2e-2, atol=2e-4, rtol=0.05
        )


def test_integrated_gradients_sum_to_the_logit_above_a_flat_line(parts):
    variables, made, x = parts
    head, params = made["attention"]  # with a linear one this model is homogeneous, and any number of steps exact
    found = saliency.attribute(ENCODER, variables, head, params, 1, x, steps=64)
    above = logit(variables, head, params, x) - logit(variables, head, params, 0 * x)
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), above, rtol=0.02)
    np.testing.assert_allclose(found.gap, above - found.values.sum(axis=(1, 2)), atol=1e-5)
    coarse = saliency.attribute(ENCODER, variables, head, params, 1, x, steps=1)
    assert np.abs(coarse.gap).max() > np.abs(found.gap).max()


def test_attention_is_that_of_the_head(parts):
    variables, made, x = parts
    head, params = made["attention"]
    found = saliency.attribute(ENCODER, variables, head, params, 1, x, "attention")
    sequence = ENCODER.apply(variables, jnp.asarray(x))[0].sequence
    q = (params["query"] @ params["query_projection"]).reshape(16, 1)
    keys = np.asarray(sequence @ params["key_projection"]).reshape(2, -1, 16, 1)
    scores = np.einsum("btnd,nd->btn", keys, q)
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = weights.mean(axis=2)
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), 1, rtol=1e-5)
    # 32 tokens of 125 samples: the first stands for 3.9 of them.
    first = found.values[:, :3].sum(axis=(1, 2)) + 0.90625 * found.values[:, 3].sum(axis=1)
    np.testing.assert_allclose(found.values[:, 0].sum(axis=1), expected[:, 0] * 32 / 125, rtol=1e-4)
    assert (first < expected[:, 0] * 1.3).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 90), st.sampled_from(["ecg_cpc", "st_mem", "hubert_ecg"]))
def test_spread_tokens_keep_their_sum(tokens, samples, model):
    weights = np.random.default_rng(tokens).random(tokens).astype(np.float32)
    found = saliency.spread_tokens(weights, samples, model, CANONICAL_LEADS)
    assert found.shape == (samples, 12)
    assert found.sum() == pytest.approx(weights.sum(), rel=1e-4)


def test_tokens_lie_where_they_were_cut():
    leads = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    weights = np.arange(16, dtype=np.float32)  # two patches of each lead
    found = saliency.spread_tokens(weights, 10, "ecg_jepa", leads)
    assert found[:5, CANONICAL_LEADS.index("II")].tolist() == pytest.approx([2 / 5] * 5)
    assert found[5:, CANONICAL_LEADS.index("V6")].tolist() == pytest.approx([15 / 5] * 5)
    assert not found[:, CANONICAL_LEADS.index("aVR")].any()
    every = saliency.spread_tokens(weights[:2], 4, "ecg_cpc", CANONICAL_LEADS)
    assert every[3].tolist() == pytest.approx([1 / 2 / 12] * 12)


def test_smoothing_is_a_moving_mean():
    values = np.random.default_rng(0).standard_normal((2, 20, 12)).astype(np.float32)
    found = saliency.smooth(values, 5)
    np.testing.assert_allclose(found[:, 7], values[:, 5:10].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[:, 0], values[:, :5].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[:, 19], values[:, 17:].mean(axis=1), atol=1e-6)
    assert saliency.smooth(values, 1) is values


def test_what_cannot_be_is_refused(parts):
    variables, made, x = parts
    head, params = made["linear"]
    with pytest.raises(UserError, match=r"config\.method is 'lime'"):
        saliency.attribute(ENCODER, variables, head, params, 0, x, "lime")
    with pytest.raises(UserError, match="the head is linear; expected a run of mode frozen"):
        saliency.attribute(ENCODER, variables, head, params, 0, x, "attention")
    with pytest.raises(UserError, match=r"config\.steps is 0"):
        saliency.attribute(ENCODER, variables, head, params, 0, x, steps=0)
