"""Heads against the reference, and against projecting every token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.models import heads
from ecgjax.models.encoder import Features
from tests import kit
from tests.conftest import load_golden
from tests.models.golden import relative

NAMES = {
    "head.query": "query",
    "head.q_proj.weight": "query_projection",
    "head.k_proj.weight": "key_projection",
    "head.v_proj.weight": "value_projection",
    "head.c_proj.weight": "output",
}


def features(sequence: np.ndarray) -> Features:
    return Features(jnp.asarray(sequence), jnp.mean(jnp.asarray(sequence), 1), {})


@pytest.mark.parametrize("index", range(3))
def test_attention_golden(index: int) -> None:
    manifest, arrays = load_golden("head_attention_pool")
    case = manifest["cases"][index]
    tensors = kit.tensors(case, {})
    params = {NAMES[name]: jnp.asarray(x[0, 0] if x.ndim == 3 else x.T) for name, x in tensors.items()}
    x = kit.make_input(tuple(case["input"]["shape"]), case["seed"], case["input"]["scale"])
    cotangent = kit.draw("cotangent", tuple(case["cotangent"]["shape"]), case["seed"]).astype(np.float32)
    head = heads.create("attention", case["embed"], case["outputs"])

    @jax.jit
    def run(params, x):
        out, vjp = jax.vjp(lambda params, x: head.apply(params, Features(x, x[:, 0], {})), params, x)
        return out, *vjp(jnp.asarray(cotangent))

    out, params_grad, x_grad = run(params, x)
    prefix = case["case"]
    np.testing.assert_allclose(out, arrays[f"{prefix}/output_float64"], atol=2e-5)
    gradients = {name: params_grad[key].T if name != "head.query" else params_grad[key] for name, key in NAMES.items()}
    gradients["head.query"] = gradients["head.query"][None, None]
    gradients["input"] = x_grad
    for name, found in gradients.items():
        expected = arrays[f"{prefix}/grad/{name}"]
        slices = tuple(slice(None, None, -(-n // m)) for n, m in zip(found.shape, expected.shape, strict=True))
        assert relative(found[slices], expected) < 1e-4, name
        np.testing.assert_allclose(np.linalg.norm(found), arrays[f"{prefix}/grad_norm/{name}"], rtol=1e-5)


def test_attention_is_what_projecting_all_tokens_gives() -> None:
    rng = np.random.default_rng(0)
    head = heads.create("attention", 32, 5)
    params = {key: np.asarray(value, np.float64) for key, value in head.init(jax.random.key(0)).items()}
    x = rng.standard_normal((3, 11, 32))
    q = (params["query"] @ params["query_projection"]).reshape(16, 2)
    k, v = ((x @ params[f"{name}_projection"]).reshape(3, 11, 16, 2) for name in ("key", "value"))
    scores = np.einsum("nd,btnd->bnt", q, k) / np.sqrt(2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bnt,btnd->bnd", weights, v).reshape(3, 32) @ params["output"]
    found = head.apply(jax.tree.map(jnp.float32, params), features(x.astype(np.float32)))
    assert relative(found, expected) < 2e-6


def test_linear() -> None:
    head = heads.create("linear", 8, 3)
    params = head.init(jax.random.key(0))
    assert {key: value.shape for key, value in params.items()} == {"kernel": (8, 3), "bias": (3,)}
    assert max(jnp.abs(params["kernel"]).max(), jnp.abs(params["bias"]).max()) <= 8**-0.5
    x = features(np.random.default_rng(0).standard_normal((2, 4, 8)).astype(np.float32))
    np.testing.assert_allclose(head.apply(params, x), x.pooled @ params["kernel"] + params["bias"][None], rtol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_many_heads_train_in_one_vmap(kind: str) -> None:
    head = heads.create(kind, 32, 3)
    params = jax.vmap(head.init)(jax.random.split(jax.random.key(0), 4))
    x = features(np.random.default_rng(0).standard_normal((2, 7, 32)).astype(np.float32))
    together = jax.vmap(head.apply, (0, None))(params, x)
    for i in range(4):
        alone = head.apply(jax.tree.map(lambda leaf, i=i: leaf[i], params), x)
        np.testing.assert_allclose(together[i], alone, atol=1e-6)


def test_parameter_count_of_the_papers_head() -> None:
    # 3 d^2 + d + d K
    shapes = jax.eval_shape(heads.create("attention", 512, 71).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 3 * 512**2 + 512 + 512 * 71


def test_errors() -> None:
    with pytest.raises(UserError, match="'mlp'"):
        heads.create("mlp", 8, 3)
    with pytest.raises(UserError, match="40 channels"):
        heads.create("attention", 40, 3)
    with pytest.raises(UserError, match="outputs is 0"):
        heads.create("linear", 40, 0)
