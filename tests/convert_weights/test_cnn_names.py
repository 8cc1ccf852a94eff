"""Name maps of the convolutional encoders, on full-size state dicts of the released layouts."""

from functools import cache

import jax
import numpy as np
import pytest

from convert_weights import mapping, names
from ecgjax.errors import UserError
from ecgjax.models import registry
from tests import kit
from tests.conftest import load_golden

MODELS = ("ecg_founder", "ecgfm_ked", "merl_resnet", "net1d")


@cache
def state_dict(model: str) -> dict[str, np.ndarray]:
    """The tensors a real file holds: the manifest's, aliases, and the layers that the benchmark ignores."""
    manifest, arrays = load_golden(model)
    tensors = kit.tensors(manifest, arrays)
    tensors.update({alias: tensors[name] for alias, name in manifest.get("aliases", {}).items()})
    if model == "ecg_founder":
        tensors["dense.weight"], tensors["dense.bias"] = np.ones((150, 1024), np.float32), np.ones(150, np.float32)
    return tensors


def convert(model: str, tensors):
    rules = names.get(model)
    encoder = registry.create(model, **mapping.arguments(rules, tensors))
    return encoder, mapping.to_variables(rules, encoder, tensors), mapping.to_heads(rules, encoder, tensors)


@pytest.mark.parametrize("model", MODELS)
def test_round_trip_to_the_reference_names(model: str) -> None:
    tensors = state_dict(model)
    encoder, variables, head = convert(model, tensors)
    again = mapping.to_torch(names.get(model), encoder, variables, head)
    assert again.keys() == tensors.keys()
    for name, value in tensors.items():
        assert again[name].dtype == value.dtype
        assert again[name].shape == value.shape
        if model in ("ecg_founder", "net1d") and ("bn" in name.split(".")[-2]):
            # Batch norms that are not run: written as they are initialised.
            assert np.all(again[name] == (1 if name.endswith(("weight", "var")) else 0))
        else:
            np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_tensor_counts_of_the_spec() -> None:
    assert len(state_dict("ecgfm_ked")) == 1224
    assert len(load_golden("ecgfm_ked")[0]["aliases"]) == 594
    assert sum("bn" in name and name.endswith(("weight", "bias")) for name in state_dict("ecg_founder")) == 122


def test_classification_layers_are_heads() -> None:
    assert convert("ecg_founder", state_dict("ecg_founder"))[2]["linear"]["kernel"].shape == (1024, 150)
    assert convert("net1d", state_dict("net1d"))[2]["linear"]["kernel"].shape == (1024, 71)


@pytest.mark.parametrize(
    ("model", "prefix", "extra"),
    [
        ("ecgfm_ked", "ecg_model.", {}),
        ("merl_resnet", "ecg_encoder.", {"linear.weight": (10, 512), "linear.bias": (10,)}),
        ("merl_resnet", "module.", {}),
        (
            "merl_resnet",
            "model.",
            {"nonlinear_head.head.query": (1, 1, 512), "head.weight": (5, 512), "head.bias": (5,)},
        ),
    ],
)
def test_wrappers(model: str, prefix: str, extra: dict[str, tuple[int, ...]]) -> None:
    tensors = {**state_dict(model), **{name: np.zeros(shape, np.float32) for name, shape in extra.items()}}
    expected = convert(model, state_dict(model))[1]
    found = convert(model, {prefix + name: value for name, value in tensors.items()})[1]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_unused_and_doubled_tensors_may_be_absent() -> None:
    slim = {name: value for name, value in state_dict("ecgfm_ked").items() if "convpath" not in name}
    slim = {name: value for name, value in slim.items() if not name.endswith("num_batches_tracked")}
    jax.tree.map(
        np.testing.assert_array_equal, convert("ecgfm_ked", slim)[1], convert("ecgfm_ked", state_dict("ecgfm_ked"))[1]
    )


def test_one_lead() -> None:
    tensors = dict(state_dict("ecg_founder"))
    tensors["first_conv.conv.weight"] = tensors["first_conv.conv.weight"][:, :1]
    encoder, variables, _ = convert("ecg_founder", tensors)
    assert encoder.arguments["leads"] == "1"
    assert variables["params"]["stem"]["kernel"].shape == (16, 1, 64)


def refusal(model: str, change) -> str:
    tensors = dict(state_dict(model))
    change(tensors)
    with pytest.raises(UserError) as caught:
        convert(model, tensors)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_double_that_differs_is_a_fault() -> None:
    name = "6.22.convpath.0.2.1.bias"
    assert f"'{name}' differs by 1" in refusal("ecgfm_ked", lambda t: t.update({name: t[name] + 1}))


def test_missing_and_unknown_tensors_are_named() -> None:
    message = refusal(
        "merl_resnet", lambda t: t.update({"layer2.0.short_cut.0.weight": t.pop("layer2.0.shortcut.0.weight")})
    )
    assert "'layer2.0.shortcut.0.weight' is missing (closest: 'layer2.0.short_cut.0.weight')" in message
    assert "'layer2.0.short_cut.0.weight' is unknown" in message
    message = refusal("ecg_founder", lambda t: t.pop("stage_list.3.block_list.1.se_fc1.bias"))
    assert "'stage_list.3.block_list.1.se_fc1.bias' is missing" in message
    message = refusal("ecg_founder", lambda t: t.pop("first_conv.conv.weight"))
    assert "'first_conv.conv.weight' is missing" in message


def test_a_wrong_shape_is_named() -> None:
    message = refusal("ecgfm_ked", lambda t: t.update({"0.0.weight": t["0.0.weight"][:, :8]}))
    assert "'0.0.weight' is (32, 8, 5), expected (32, 12, 5)" in message


def test_an_impossible_number_of_leads_is_named() -> None:
    message = refusal("ecg_founder", lambda t: t.update({"first_conv.conv.weight": t["first_conv.conv.weight"][:, :8]}))
    assert "leads is '8'; expected '12' or '1'" in message
