"""Name maps: exact round trips, and every fault of a file reported."""

from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from convert_weights import mapping, names
from ecgjax.errors import UserError
from ecgjax.models import registry
from tests.models import golden

Tensors = dict[str, np.ndarray]
SMALL = {"width": 16, "layers": 2, "l_max": 40}
HEADS = {
    "s4": {"linear": {"kernel": np.ones((16, 3), np.float32), "bias": np.zeros(3, np.float32)}},
    "ecg_cpc": {"ssl": {"kernel": np.eye(16, dtype=np.float32)}},
}


def small(model: str) -> tuple[Any, Any, Tensors]:
    """A reduced model's names module, encoder and torch tensors."""
    encoder = registry.create(model, **SMALL)
    variables = jax.device_get(encoder.init(jax.random.key(0)))
    rules = names.get(model)
    return rules, encoder, mapping.to_torch(rules, encoder, variables, HEADS[model])


@pytest.mark.parametrize("model", sorted(HEADS))
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_round_trip_is_exact(model: str, prefix: str) -> None:
    rules, _, tensors = small(model)
    prefixed = {prefix + name: value for name, value in tensors.items()}
    encoder = registry.create(model, **mapping.arguments(rules, prefixed))
    assert {**SMALL, "state_size": 8}.items() <= encoder.arguments.items()
    variables = mapping.to_variables(rules, encoder, prefixed)
    expected = encoder.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(expected))
    heads = mapping.to_heads(rules, encoder, prefixed)
    jax.tree.map(np.testing.assert_array_equal, heads, HEADS[model])
    again = mapping.to_torch(rules, encoder, variables, heads)
    assert again.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
        assert again[name].dtype == value.dtype


@pytest.mark.parametrize("case", ["s4", "ecg_cpc", "ecg_cpc_pretrain"])
def test_export_of_a_reference_state_dict(case: str) -> None:
    c = golden.load(case)
    exported = mapping.to_torch(names.get(c.manifest["model"]), c.encoder, c.variables, c.heads)
    assert exported.keys() == c.tensors.keys()
    for name, value in c.tensors.items():
        assert exported[name].shape == value.shape, name
        if name.endswith((".omega", ".z")):
            # Made anew from exact nodes. The file's carry rounding errors, which z magnifies towards Nyquist.
            end = len(value) // 2 if name.endswith(".z") else len(value)
            np.testing.assert_allclose(exported[name][:end], value[:end], rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(exported[name], value, err_msg=name)


def test_exported_nodes_work_in_the_reference_formula() -> None:
    # The kernel by the reference's own expression on the exported buffers, Nyquist node included.
    c = golden.load("s4")
    prefix = "s4_layers.0.kernel.kernel."
    exported = mapping.to_torch(names.get("s4"), c.encoder, c.variables)
    omega, z, w, P, Q, B, C = (
        (x[..., 0] + 1j * x[..., 1]).astype(np.complex128)
        for x in (exported[prefix + key] for key in ("omega", "z", "w", "P", "Q", "B", "C"))
    )
    dt = np.exp(exported[prefix + "log_dt"].astype(np.float64))[:, None]

    def cauchy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        v = (a * b)[..., None]
        pole = (dt * w)[..., None]
        return dt * np.sum(v / (z - pole) + v.conj() / (z - pole.conj()), -2)

    spectrum = 2 / (1 + omega) * (cauchy(B, C) - cauchy(B, Q) * cauchy(P, C) / (1 + cauchy(P, Q)))
    expected = c.arrays["kernel/0"]
    assert golden.relative(golden.thin(np.fft.irfft(spectrum), 1, expected), expected) < 1e-5


@pytest.mark.parametrize("model", sorted(HEADS))
def test_every_variable_has_a_torch_name(model: str) -> None:
    rules, encoder, tensors = small(model)
    paths = flatten_dict(mapping.to_variables(rules, encoder, tensors), sep="/")
    assert paths.keys() == flatten_dict(encoder.shapes(), sep="/").keys()


def broken(model: str, change: Any) -> str:
    rules, encoder, tensors = small(model)
    change(tensors)
    with pytest.raises(UserError) as caught:
        mapping.to_variables(rules, encoder, tensors)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_all_faults_are_reported_together_with_the_closest_names() -> None:
    def change(t: Tensors) -> None:
        t["s4_layers.0.DD"] = t.pop("s4_layers.0.D")
        t["encoder.weight"] = t["encoder.weight"][:, :3]
        t["something.else"] = np.zeros(2)
        del t["norms.1.bias"]

    message = broken("s4", change)
    assert "5 faults" in message
    assert "'s4_layers.0.D' is missing (closest: 's4_layers.0.DD')" in message
    assert "'s4_layers.0.DD' is unknown (closest: 's4_layers.0.D')" in message
    assert "'encoder.weight' is (16, 3, 1), expected (16, 12, 1)" in message
    assert "'something.else' is unknown" in message
    assert "'norms.1.bias' is missing" in message


def test_a_layer_too_many_is_unknown() -> None:
    message = broken("s4", lambda t: t.update({"norms.2.weight": t["norms.1.weight"]}))
    assert "'norms.2.weight' is unknown" in message


def test_an_extra_dimension_is_not_squeezed() -> None:
    message = broken("s4", lambda t: t.update({"s4_layers.0.D": np.repeat(t["s4_layers.0.D"], 2, 0)}))
    assert "'s4_layers.0.D' is (2, 16), expected (1, 16)" in message


def test_half_a_head_is_refused() -> None:
    assert "'decoder.bias' is missing" in broken("s4", lambda t: t.pop("decoder.bias"))


def test_a_head_of_another_width_is_refused() -> None:
    message = broken("s4", lambda t: t.update({"decoder.weight": np.zeros((3, 5), np.float32)}))
    assert "'decoder.weight' is (3, 5), expected 16 inputs" in message


def test_a_buffer_that_contradicts_the_others_is_refused() -> None:
    name = "ts_encoder.predictor.predictor.s4_layers.1.kernel.kernel.Q"
    assert f"{name!r} differs by" in broken("ecg_cpc", lambda t: t.update({name: t[name] + 1}))
    name = name.replace(".Q", ".omega")
    assert f"{name!r} is (9, 2), expected (21, 2)" in broken("ecg_cpc", lambda t: t.update({name: t[name][:9]}))


def test_two_tensors_of_one_name_are_refused_unless_they_are_equal() -> None:
    message = broken("s4", lambda t: t.update({"model.decoder.bias": t["decoder.bias"] + 1}))
    assert "'model.decoder.bias'" in message
    rules, encoder, tensors = small("s4")
    once = mapping.to_variables(rules, encoder, tensors)
    twice = mapping.to_variables(rules, encoder, {**tensors, "model.decoder.bias": tensors["decoder.bias"]})
    jax.tree.map(np.testing.assert_array_equal, once, twice)


def test_a_long_list_of_faults_is_cut() -> None:
    message = broken("s4", lambda t: t.update({f"extra.{i}": np.zeros(1) for i in range(40)}))
    assert "40 faults" in message
    assert message.endswith("and 28 more")


def test_arguments_of_another_models_file() -> None:
    _, _, tensors = small("s4")
    with pytest.raises(UserError, match=r"ecg_cpc: tensor 'ts_encoder.*kernel.C' is missing"):
        mapping.arguments(names.get("ecg_cpc"), tensors)
    with pytest.raises(UserError, match="cannot have"):
        mapping.arguments(names.get("s4"), {"s4_layers.0.kernel.kernel.C": np.zeros(3)})


def test_export_faults() -> None:
    rules, encoder, tensors = small("s4")
    variables = mapping.to_variables(rules, encoder, tensors)
    del variables["params"]["projection"]["bias"]
    variables["params"]["stack"]["layer_0"]["D"] = np.zeros(3, np.float32)
    with pytest.raises(
        UserError, match=r"2 faults .*projection/bias' is missing.*layer_0/D' is \(3,\), expected \(16,\)"
    ):
        mapping.to_torch(rules, encoder, variables)
    with pytest.raises(UserError, match="no torch name"):
        mapping.to_torch(rules, encoder, mapping.to_variables(rules, encoder, tensors), {"mlp": {"kernel": 1.0}})


def test_unknown_model() -> None:
    with pytest.raises(UserError, match="'resnet'"):
        names.get("resnet")
