"""Torch names of the heads: to the benchmark's files and back, for every model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convert_weights import mapping, names
from ecgjax.errors import UserError
from ecgjax.models import heads, registry
from ecgjax.models.encoder import Features
from tests import kit
from tests.conftest import load_golden

PREFIX = "nonlinear_head."
ATTENTION = {
    "head.query": "query",
    "head.q_proj.weight": "query_projection",
    "head.k_proj.weight": "key_projection",
    "head.v_proj.weight": "value_projection",
    "head.c_proj.weight": "output",
}
SMALL: dict[str, dict[str, Any]] = {
    "ecg_cpc": {"width": 64, "layers": 1, "l_max": 40},
    "s4": {"width": 64, "layers": 1, "l_max": 40},
}


def weights(model: str) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Names, encoder and the encoder's torch tensors, zeros that take no memory."""
    encoder = registry.create(model, **SMALL.get(model, {}))
    rules = names.get(model)
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), encoder.shapes())
    return rules, encoder, mapping.to_torch(rules, encoder, zeros)


@pytest.mark.parametrize("model", names.MODELS)
@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_heads_of_every_model_round_trip(model: str, kind: str) -> None:
    rules, encoder, tensors = weights(model)
    head = jax.device_get(heads.create(kind, encoder.spec.channels, 5).init(jax.random.key(0)))
    variables = mapping.to_variables(rules, encoder, tensors)
    exported = mapping.to_torch(rules, encoder, variables, {kind: head})
    added = exported.keys() - tensors.keys()
    assert len(added) == len(head)
    if kind == "attention":
        assert added == {PREFIX + name for name in ATTENTION}
    found = mapping.to_heads(rules, encoder, {"model." + name: value for name, value in exported.items()})
    assert found.keys() == {kind}
    jax.tree.map(np.testing.assert_array_equal, found[kind], head)


def attention_of_cpc() -> tuple[Any, Any, dict[str, np.ndarray], dict[str, Any]]:
    """A small ECG-CPC with the reference's attention head of 64 channels, and the manifest of that golden case."""
    rules, encoder, tensors = weights("ecg_cpc")
    case = load_golden("head_attention_pool")[0]["cases"][1]
    head = {PREFIX + name: value for name, value in kit.tensors(case, {}).items()}
    return rules, encoder, {**tensors, **head}, case


def test_a_converted_attention_head_gives_the_references_outputs() -> None:
    rules, encoder, tensors, case = attention_of_cpc()
    params = mapping.to_heads(rules, encoder, tensors)["attention"]
    x = jnp.asarray(kit.make_input(tuple(case["input"]["shape"]), case["seed"], case["input"]["scale"]))
    found = heads.create("attention", 64, 5).apply(params, Features(x, x[:, 0], {}))
    np.testing.assert_allclose(found, load_golden("head_attention_pool")[1]["small/output_float64"], atol=2e-5)


@pytest.mark.parametrize("change", ["part", "width", "dimensions"])
def test_an_attention_head_that_is_none_of_the_models_is_left_out(change: str) -> None:
    rules, encoder, tensors, _ = attention_of_cpc()
    name = PREFIX + "head.k_proj.weight"
    other: dict[str, np.ndarray] = {"width": tensors[name][:, :16], "dimensions": np.zeros((), np.float32)}
    tensors = {**tensors, name: other[change]} if change in other else {k: v for k, v in tensors.items() if k != name}
    assert mapping.to_heads(rules, encoder, tensors) == {}
    assert mapping.to_variables(rules, encoder, tensors)


def test_both_heads_of_a_file_are_kept() -> None:
    rules, encoder, tensors, _ = attention_of_cpc()
    linear = {"head.weight": np.ones((3, 64), np.float32), "head.bias": np.ones(3, np.float32)}
    assert mapping.to_heads(rules, encoder, {**tensors, **linear}).keys() == {"linear", "attention"}
    with pytest.raises(UserError, match=r"'head.bias' is missing"):
        mapping.to_heads(rules, encoder, {**tensors, "head.weight": linear["head.weight"]})


def test_ecg_founder_fine_tuned_by_the_benchmark() -> None:
    rules, encoder, tensors = weights("ecg_founder")
    linear = {"head.weight": np.ones((3, 1024), np.float32), "head.bias": np.ones(3, np.float32)}
    found = mapping.to_heads(rules, encoder, {**tensors, **linear})
    assert found["linear"]["kernel"].shape == (1024, 3)
    # Exported under the name that the authors' own network has.
    assert {"dense.weight", "dense.bias"} <= mapping.to_torch(
        rules, encoder, mapping.to_variables(rules, encoder, tensors), found
    ).keys()
