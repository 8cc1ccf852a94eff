"""The quantiser against loops with the same noise; straight-through gradients against both halves' differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.pretraining import quantiser
from tests.pretraining.slopes import assert_gradient

BATCH, TOKENS, CHANNELS, GROUPS, CODES, WIDTH = 2, 5, 6, 2, 4, 3
TAU = 1.3


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def perplexity(probabilities):
    total = 0.0
    for mean in np.mean(probabilities, (0, 1)):
        total += np.exp(-np.sum(mean * np.log(mean + 1e-7)))
    return total


def loop(kernel, bias, codebook, x, noise, soft):
    """Vectors (from the soft or the hard choice), codes, diversity, code perplexity."""
    vectors = np.zeros((BATCH, TOKENS, GROUPS * WIDTH))
    codes = np.zeros((BATCH, TOKENS, GROUPS), int)
    probabilities, likeliest = np.zeros(noise.shape), np.zeros(noise.shape)
    for b, m, g in np.ndindex(BATCH, TOKENS, GROUPS):
        logits = x[b, m] @ kernel[:, g] + bias[g]
        probabilities[b, m, g] = softmax(logits)
        likeliest[b, m, g, np.argmax(logits)] = 1
        choice = softmax((logits + noise[b, m, g]) / TAU)
        codes[b, m, g] = np.argmax(choice)
        share = choice if soft else np.eye(CODES)[codes[b, m, g]]
        vectors[b, m, g * WIDTH : (g + 1) * WIDTH] = share @ codebook[g]
    total = GROUPS * CODES
    return vectors, codes, (total - perplexity(probabilities)) / total, perplexity(likeliest)


def draw(seed):
    rng = np.random.default_rng(seed)
    params = {
        "kernel": rng.normal(size=(CHANNELS, GROUPS, CODES)).astype(np.float32),
        "bias": rng.normal(size=(GROUPS, CODES)).astype(np.float32),
        "codebook": rng.random((GROUPS, CODES, WIDTH)).astype(np.float32),
    }
    key = jax.random.key(seed)
    x = rng.normal(size=(BATCH, TOKENS, CHANNELS)).astype(np.float32)
    return params, x, key, np.float64(gumbel(key))


gumbel = jax.jit(lambda key: jax.random.gumbel(key, (BATCH, TOKENS, GROUPS, CODES)))
apply = jax.jit(quantiser.apply)


def wide(params, x):
    return *(np.float64(params[name]) for name in ("kernel", "bias", "codebook")), np.float64(x)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_equals_a_loop(seed):
    params, x, key, noise = draw(seed)
    for with_key, used in ((key, noise), (None, np.zeros_like(noise))):
        found = apply(params, x, TAU, with_key)
        vectors, codes, diversity, code_perplexity = loop(*wide(params, x), used, False)
        np.testing.assert_array_equal(found.codes, codes)
        np.testing.assert_allclose(found.vectors, vectors, rtol=1e-5)
        np.testing.assert_allclose(found.diversity, diversity, rtol=1e-4)
        np.testing.assert_allclose(found.code_perplexity, code_perplexity, rtol=1e-4)
    assert GROUPS <= found.perplexity <= GROUPS * CODES
    assert GROUPS - 1e-3 <= found.code_perplexity <= found.vectors.shape[1] * BATCH * GROUPS


def test_gradient_is_the_soft_one_to_logits_and_the_hard_one_to_codes():
    params, x, key, noise = draw(3)
    weights = np.random.default_rng(0).normal(size=(BATCH, TOKENS, GROUPS * WIDTH))

    def objective(params, x):
        found = apply(params, x, TAU, key)
        return jnp.vdot(found.vectors, jnp.float32(weights)) + 5 * found.diversity

    by_params, by_x = jax.grad(objective, (0, 1))(params, x)
    kernel, bias, codebook, x = wide(params, x)

    def slow(kernel, bias, codebook, x, soft):
        vectors, _, diversity, _ = loop(kernel, bias, codebook, x, noise, soft)
        return np.vdot(vectors, weights) + 5 * diversity

    assert_gradient(by_params["kernel"], lambda k: slow(k, bias, codebook, x, True), kernel)
    assert_gradient(by_params["bias"], lambda b: slow(kernel, b, codebook, x, True), bias)
    assert_gradient(by_x, lambda x: slow(kernel, bias, codebook, x, True), x)
    assert_gradient(by_params["codebook"], lambda c: slow(kernel, bias, c, x, False), codebook)


def test_codes_are_drawn_by_their_probabilities_at_any_temperature():
    params, x, key, _ = draw(4)
    many = np.broadcast_to(x[:1, :1], (1, 8000, CHANNELS))
    logits = np.einsum("c,cgv->gv", *(np.float64(a) for a in (x[0, 0], params["kernel"]))) + np.float64(params["bias"])
    codes = np.asarray(apply(params, many, 0.5, key).codes)[0]
    for g in range(GROUPS):
        shares = np.bincount(codes[:, g], minlength=CODES) / len(codes)
        np.testing.assert_allclose(shares, softmax(logits[g]), atol=0.025)


def test_collapse_is_penalised():
    params, x, _, _ = draw(5)
    collapsed = {**params, "kernel": 0 * params["kernel"], "bias": 50 * np.eye(GROUPS, CODES, dtype=np.float32)}
    found = apply(collapsed, x, TAU)
    np.testing.assert_allclose(found.diversity, 1 - 1 / CODES, rtol=1e-4)
    even = apply({**collapsed, "bias": 0 * params["bias"]}, x, TAU)
    np.testing.assert_allclose(even.diversity, 0, atol=1e-5)


def test_temperature_and_initialisation():
    steps = np.array([0, 1000, 277000, 277500, 10**6])
    found = jax.jit(quantiser.temperature)(steps)
    np.testing.assert_allclose(found, np.maximum(2 * 0.999995**steps, 0.5), rtol=1e-6)
    assert found[2] > 0.5 == found[3]
    params = quantiser.init(jax.random.key(0), 256)
    assert {name: value.shape for name, value in params.items()} == {
        "kernel": (256, 2, 320),
        "bias": (2, 320),
        "codebook": (2, 320, 128),
    }
    assert params["kernel"].std() == pytest.approx(1, abs=0.01)
    assert params["codebook"].mean() == pytest.approx(0.5, abs=0.01)
