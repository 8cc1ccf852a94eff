"""Name maps of the transformers, on full-size state dicts of the released layouts."""

from functools import cache

import jax
import numpy as np
import pytest

from convert_weights import groups, mapping, names
from ecgjax.errors import UserError
from ecgjax.models import registry
from tests.conftest import load_golden

MODELS = ("ecg_fm", "ecg_jepa", "hubert_ecg", "merl_vit", "st_mem")
# Of the golden files' tensors, those that no evaluation reads.
UNUSED = {"ecg_fm": {"mask_emb"}, "hubert_ecg": {"masked_spec_embed"}}


@cache
def state_dict(model: str) -> dict[str, np.ndarray]:
    """The tensors of the file under its own names; cheap values, all different."""
    entries = load_golden(model)[0]["tensors"]
    starts = np.cumsum([0] + [int(np.prod(entry["shape"])) % 4099 for entry in entries])
    return {
        entry["name"]: np.arange(start, start + np.prod(entry["shape"]), dtype=np.float32).reshape(entry["shape"])
        for start, entry in zip(starts, entries, strict=False)
    }


def convert(model: str, tensors):
    rules = names.get(model)
    encoder = registry.create(model, **mapping.arguments(rules, tensors))
    return encoder, mapping.to_variables(rules, encoder, tensors)


@pytest.mark.parametrize("model", MODELS)
def test_round_trip_to_the_reference_names(model: str) -> None:
    tensors = state_dict(model)
    again = mapping.to_torch(names.get(model), *convert(model, tensors))
    expected = {name: value for name, value in tensors.items() if name not in UNUSED.get(model, ())}
    if model == "st_mem":  # written under the names of the encoder-only file
        expected = {name.removeprefix("encoder."): value for name, value in expected.items()}
    assert again.keys() == expected.keys()
    for name, value in expected.items():
        assert again[name].dtype == value.dtype
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_tensor_counts_of_the_spec() -> None:
    assert {model: len(state_dict(model)) for model in MODELS} == {
        "ecg_fm": 208,
        "ecg_jepa": 137,
        "hubert_ecg": 209,
        "merl_vit": 148,
        "st_mem": 166,
    }


def same(model: str, tensors) -> bool:
    equal = jax.tree.map(np.array_equal, convert(model, tensors)[1], convert(model, state_dict(model))[1])
    return all(jax.tree.leaves(equal))


@pytest.mark.parametrize("model", ["ecg_fm", "hubert_ecg"])
def test_weight_norm_in_its_older_spelling(model: str) -> None:
    spelling = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = dict(state_dict(model))
    for new, old in spelling.items():
        name = next(name for name in tensors if name.endswith(new))
        tensors[name.removesuffix(new) + old] = tensors.pop(name)
    assert same(model, tensors)
    name = next(name for name in tensors if name.endswith("weight_g"))
    with pytest.raises(UserError, match="are both params/context/position/gain"):
        convert(model, {**state_dict(model), name: tensors[name]})


def test_full_and_encoder_only_files_of_st_mem() -> None:
    tensors = state_dict("st_mem")
    bare = {name.removeprefix("encoder."): value for name, value in tensors.items()}
    assert same("st_mem", bare)
    extra = load_golden("st_mem")[0]["checkpoint_layout"]["extra_entries"]
    decoder = {entry["name"]: np.zeros(entry["shape"], np.float32) for entry in extra}
    doubles = {name: bare[name] for name in decoder if name.startswith("to_patch_embedding.")}
    assert len(doubles) == 6
    assert same("st_mem", {**tensors, **decoder, **doubles})
    with pytest.raises(UserError, match=r"'to_patch_embedding\.\d\.\w+' and another are both"):
        convert("st_mem", {**tensors, **decoder})
    # What silently left the transformer at its initial values is refused.
    del bare["block7.attn.fn.to_qkv.weight"]
    with pytest.raises(UserError, match=r"'block7\.attn\.fn\.to_qkv\.weight' is missing"):
        convert("st_mem", bare)


@pytest.mark.parametrize("model", ["ecg_fm", "hubert_ecg"])
def test_what_serves_pretraining_is_left_out(model: str) -> None:
    extra = load_golden(model)[0]["checkpoint_layout"]["extra_entries"]
    tensors = {**state_dict(model), **{entry["name"]: np.zeros(entry["shape"], np.float32) for entry in extra}}
    assert same(model, tensors)


@pytest.mark.parametrize(
    ("model", "prefix", "extra"),
    [
        ("hubert_ecg", "hubert_ecg.", {"classifier.weight": (5, 768), "classifier.bias": (5,)}),
        ("ecg_jepa", "model.", {"head.weight": (5, 768), "head.bias": (5,), "nonlinear_head.query": (1, 1, 768)}),
        ("merl_vit", "ecg_encoder.", {}),
    ],
)
def test_wrappers(model: str, prefix: str, extra: dict[str, tuple[int, ...]]) -> None:
    tensors = {**state_dict(model), **{name: np.zeros(shape, np.float32) for name, shape in extra.items()}}
    assert same(model, {prefix + name: value for name, value in tensors.items()})


def test_fine_tuned_files_of_ecg_fm() -> None:
    # "encoder." stands before names of which some begin with "encoder." anyhow; `proj` is the classification layer.
    bare = state_dict("ecg_fm")
    tensors = {"encoder." + name: value for name, value in bare.items()}
    tensors |= {"proj.weight": np.ones((5, 768), np.float32), "proj.bias": np.ones(5, np.float32)}
    selection = groups.select({"model": tensors}, list(bare))
    assert selection.prefix == "encoder."
    assert set(selection.outside) == {"proj.weight", "proj.bias"}
    assert same("ecg_fm", selection.tensors)
    rules, encoder = names.get("ecg_fm"), registry.create("ecg_fm")
    head = mapping.to_heads(rules, encoder, {**selection.tensors, **{n: tensors[n] for n in selection.outside}})
    assert head["linear"]["kernel"].shape == (768, 5)


def test_sizes_of_hubert_ecg() -> None:
    for size, width in (("small", 512), ("base", 768), ("large", 960)):
        tensors = {"encoder.layer_norm.weight": np.ones(width)}
        assert mapping.arguments(names.get("hubert_ecg"), tensors) == {"size": size}
    with pytest.raises(UserError, match="1024 channels, expected 512 or 768 or 960"):
        mapping.arguments(names.get("hubert_ecg"), {"encoder.layer_norm.weight": np.ones(1024)})


def test_missing_and_unknown_tensors_are_named() -> None:
    tensors = dict(state_dict("ecg_jepa"))
    tensors["encoder_blocks.blocks.4.attn.q_k_v.weight"] = tensors.pop("encoder_blocks.blocks.4.attn.qkv.weight")
    with pytest.raises(UserError, match=r"blocks\.4\.attn\.qkv\.weight' is missing .*q_k_v\.weight' is unknown"):
        convert("ecg_jepa", tensors)
