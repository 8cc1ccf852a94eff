"""Attention and blocks against their definitions, in all forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models.attention import MAPPED_FROM, Block, attend, attend_cross
from tests.models.golden import relative

RNG = np.random.default_rng(0)


def qkv(tokens: int, heads: int = 3, width: int = 4, batch: int = 2) -> list[jax.Array]:
    return [jnp.asarray(RNG.standard_normal((batch, tokens, heads, width)), jnp.float32) for _ in range(3)]


def masked(q, k, v, mask: np.ndarray) -> np.ndarray:
    """The definition, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = np.einsum("bqnd,bknd->bnqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True)) * mask
    return np.einsum("bnqk,bknd->bqnd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("tokens", [1, 7, MAPPED_FROM])
@pytest.mark.parametrize("form", ["together", "mapped", "auto"])
def test_attention_is_its_definition(form: str, tokens: int) -> None:
    x = qkv(tokens)
    assert relative(jax.jit(lambda *x: attend(*x, form=form))(*x), masked(*x, np.ones((tokens, tokens)))) < 1e-6


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_both_forms_have_the_same_gradients_and_drop_the_same_weights(dropout: float) -> None:
    x, key = qkv(9), jax.random.key(0)

    def gradients(form: str):
        return jax.jit(jax.grad(lambda *x: jnp.sum(jnp.cos(attend(*x, dropout, key, form))), argnums=(0, 1, 2)))(*x)

    for a, b in zip(gradients("together"), gradients("mapped"), strict=True):
        assert relative(a, b) < 1e-6


def test_attention_dropout_keeps_the_mean() -> None:
    q, k, _ = qkv(64, batch=20)
    v = jnp.ones_like(q)
    out = attend(q, k, v, 0.25, jax.random.key(0))
    assert abs(float(out.mean()) - 1) < 0.01
    assert out.std() > 0.02


@pytest.mark.parametrize("form", ["parts", "masked", "auto"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (4, 1), (3, 5)])
def test_cross_attention_is_masked_full_attention(rows: int, columns: int, form: str) -> None:
    x = qkv(rows * columns)
    row, column = np.divmod(np.arange(rows * columns), columns)
    mask = (row[:, None] == row) | (column[:, None] == column)
    assert relative(jax.jit(attend_cross, static_argnums=(3, 4))(*x, rows, form), masked(*x, mask)) < 1e-6

    def of_mask(q, k, v):
        logits = jnp.einsum("bqnd,bknd->bnqk", q, k) / 2
        return jnp.einsum("bnqk,bknd->bqnd", jax.nn.softmax(jnp.where(mask[None, None], logits, -jnp.inf)), v)

    weights = jnp.asarray(RNG.standard_normal(x[0].shape), jnp.float32)

    @jax.jit
    def both(*x):
        forms = (lambda *x: attend_cross(*x, rows, form), of_mask)
        return [jax.grad(lambda *x, f=f: jnp.sum(weights * f(*x)), argnums=(0, 1, 2))(*x) for f in forms]

    for a, b in zip(*both(*x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_block_without_its_branches_is_the_residual_path(norm_first: bool, fused: bool) -> None:
    x = jnp.asarray(RNG.standard_normal((2, 5, 8)), jnp.float32)
    block = Block(2, 32, norm_first, fused)
    params = jax.jit(block.init, static_argnums=2)(jax.random.key(0), x, False)["params"]
    apply = jax.jit(block.apply, static_argnums=2)
    assert not np.allclose(apply({"params": params}, x, False), x)
    for path in (("attention", "output"), ("mlp_output",)):
        layer = params[path[0]] if len(path) == 1 else params[path[0]][path[1]]
        layer.update(jax.tree.map(jnp.zeros_like, layer))
    y = apply({"params": params}, x, False)
    if norm_first:
        np.testing.assert_array_equal(y, x)
    else:
        np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
        np.testing.assert_allclose(y.std(-1), 1, atol=1e-4)


def test_block_dropouts_act_in_training_only() -> None:
    x = jnp.asarray(RNG.standard_normal((2, 5, 8)), jnp.float32)
    plain = Block(2, 32, norm_first=True)
    params = jax.jit(plain.init, static_argnums=2)(jax.random.key(0), x, False)
    expected = jax.jit(plain.apply, static_argnums=2)(params, x, False)
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        block = Block(2, 32, norm_first=True, **{name: 0.5})

        @jax.jit
        def modes(params, block=block):
            trained = [block.apply(params, x, True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2)]
            return block.apply(params, x, False), *trained

        still, a, b = modes(params)
        np.testing.assert_allclose(still, expected, atol=1e-6)
        assert not np.allclose(a, expected)
        assert not np.allclose(a, b)


def test_bfloat16_softmax_is_wide() -> None:
    x = qkv(50)
    found = attend(*(y.astype(jnp.bfloat16) for y in x))
    assert found.dtype == jnp.bfloat16
    assert relative(found.astype(jnp.float32), attend(*x)) < 2e-2
