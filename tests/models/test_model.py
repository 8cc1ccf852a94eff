"""Registry, load_model, features, weights on disk and embed."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ecgjax
from ecgjax.errors import UserError
from ecgjax.models import heads, model, registry, weights
from ecgjax.models.encoder import CANONICAL_LEADS
from ecgjax.training.optimiser import rate_groups

SMALL = {"width": 16, "layers": 1, "l_max": 60}


@pytest.fixture(scope="module")
def small() -> model.Model:
    return ecgjax.load_model("ecg_cpc", seed=3, seconds=1.0, **SMALL)


@pytest.fixture
def saved(small: model.Model, tmp_path: Path) -> Path:
    weights.save_weights(tmp_path / "weights", small.encoder, small.variables, {"ssl": {"kernel": jnp.eye(16)}}, step=7)
    return tmp_path / "weights"


@pytest.mark.parametrize(("name", "count"), [("ecg_cpc", 2_932_736), ("s4", 2_183_239)])
def test_parameter_counts_of_the_spec(name: str, count: int) -> None:
    encoder = registry.create(name)
    trees = [encoder.shapes()["params"]]
    if name == "s4":
        trees.append(jax.eval_shape(heads.create("linear", 512, 71).init, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(trees)) == count


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("ecg_cpc", {"early": (12, 808_960), "late": (24, 2_123_776)}), ("s4", {"all": (28, 2_183_239)})],
)
def test_rate_groups_cover_every_parameter(name: str, sizes: dict[str, tuple[int, int]]) -> None:
    encoder = registry.create(name)
    head = jax.eval_shape(heads.create("linear", 512, 71).init, jax.random.key(0))
    params = {"encoder": encoder.shapes()["params"], "head": head}
    groups = encoder.spec.lr_groups
    _, rows = rate_groups(params, groups, {group: 1e-3 for group, _ in groups})
    found = {row.group: (row.tensors, row.values) for row in rows}
    assert sizes.items() <= found.items()


@pytest.mark.parametrize("name", ["ecg_cpc", "s4"])
def test_arguments_rebuild_the_encoder(name: str) -> None:
    encoder = registry.create(name, width=32, layers=1)
    again = registry.create(name, **json.loads(json.dumps(dict(encoder.arguments))))
    assert again.arguments == encoder.arguments
    assert again.module == encoder.module


@pytest.mark.parametrize("name", ["ecg_cpc", "s4"])
def test_fresh_models(name: str) -> None:
    a, b = (ecgjax.load_model(name, seed=seed, width=32, layers=2) for seed in (0, 1))
    x = np.random.default_rng(0).standard_normal((2, a.encoder.samples, 12)).astype(np.float32)
    out = a.features(x)
    assert out.pooled.shape == (2, a.spec.channels)
    assert out.sequence.shape[2] == a.spec.channels
    assert np.isfinite(out.pooled).all()
    np.testing.assert_allclose(out.sequence.mean(1), out.pooled, atol=1e-6)
    assert np.abs(out.pooled - b.features(x).pooled).max() > 1e-3
    # Layers are initialised independently of each other.
    leaves = {path: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(a.variables) if path[-1].key == "C"}
    first, second = leaves.values()
    assert np.abs(first - second).max() > 1e-3


def test_initial_scales() -> None:
    # Output layers uniform on +-1/sqrt(width), log dt uniform on the stated range.
    encoder = registry.create("s4", width=64, layers=1)
    variables = encoder.init(jax.random.key(0))
    kernel = variables["params"]["stack"]["layer_0"]["output"]["kernel"]
    assert 0.95 / 8 < jnp.abs(kernel).max() <= 1 / 8
    dt = jnp.exp(variables["buffers"]["stack"]["layer_0"]["log_dt"])
    assert 1e-3 <= dt.min() < 2e-3
    assert 5e-2 < dt.max() <= 1e-1


def test_any_length_and_missing_values(small: model.Model) -> None:
    x = np.random.default_rng(0).standard_normal((1, 333, 12)).astype(np.float32)
    assert small.features(x).sequence.shape == (1, 167, 16)
    assert small.features(x[:, :1]).sequence.shape == (1, 1, 16)
    x[0, 5, 2] = np.nan
    zeroed = np.nan_to_num(x)
    np.testing.assert_array_equal(small.features(x).pooled, small.features(zeroed).pooled)


def test_train_mode_updates_batch_statistics_only(small: model.Model) -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 50, 12)), jnp.float32)
    _, rest = small.encoder.apply(small.variables, x, train=True, key=jax.random.key(0))
    assert rest.keys() == {"batch_stats", "buffers"}
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), rest, {k: small.variables[k] for k in rest})
    assert all(jax.tree.leaves(changed["batch_stats"]))
    assert not any(jax.tree.leaves(changed["buffers"]))
    _, same = small.encoder.apply(small.variables, x)
    jax.tree.map(np.testing.assert_array_equal, same, {k: small.variables[k] for k in same})


@pytest.mark.parametrize("shape", [(50, 12), (1, 12, 50), (1, 50, 8), (0, 50, 12), (1, 0, 12)])
def test_wrong_shapes(small: model.Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expected \(batch, samples, 12\)"):
        small.features(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ecg_cpcc", {}, "did you mean 'ecg_cpc'"),
        ("ecg_cpc", {"widht": 3}, "did you mean 'width'"),
        ("ecg_cpc", {"width": 0}, "width is 0"),
        ("ecg_cpc", {"layers": 1.5}, "layers is 1.5"),
        ("s4", {"state_size": 7}, "state_size is 7"),
        ("s4", {"seconds": 0}, "seconds is 0"),
        ("s4", {"seconds": "2.5"}, "seconds is '2.5'"),
        ("s4", {"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_arguments(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ecgjax.load_model(name, **arguments)


def test_weights_round_trip(small: model.Model, saved: Path) -> None:
    for folder in (saved, saved.parent):  # the folder, or a run's work directory
        loaded = ecgjax.load_model("ecg_cpc", weights=folder)
        assert loaded.encoder.arguments == small.encoder.arguments
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, small.variables)
    np.testing.assert_array_equal(weights.load_heads(saved)["ssl"]["kernel"], np.eye(16))
    card = weights.load_card(saved)
    assert (card["model"], card["step"]) == ("ecg_cpc", 7)
    assert card["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(small.variables["params"]))
    assert ecgjax.load_model("ecg_cpc", weights=saved, dropout=0.0, seconds=0.5).spec.seconds == 0.5


def test_weights_of_another_model(saved: Path) -> None:
    with pytest.raises(UserError, match="weights of 'ecg_cpc'; expected weights of 's4'"):
        ecgjax.load_model("s4", weights=saved)
    with pytest.raises(UserError, match="weights have l_max=60, not 1200"):
        ecgjax.load_model("ecg_cpc", weights=saved, l_max=1200)


def test_damaged_weights(saved: Path) -> None:
    with pytest.raises(UserError, match=r"no card\.json"):
        ecgjax.load_model("ecg_cpc", weights=saved / "elsewhere")
    card = json.loads((saved / "card.json").read_text())
    card["arguments"]["width"] = 32
    (saved / "card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"do not fit ecg_cpc: .* expected \(32,\)"):
        ecgjax.load_model("ecg_cpc", weights=saved)
    file = saved / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="SHA-256"):
        ecgjax.load_model("ecg_cpc", weights=saved)
    file.unlink()
    with pytest.raises(UserError, match=r"weights.safetensors: missing"):
        ecgjax.load_model("ecg_cpc", weights=saved)
    (saved / "card.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        ecgjax.load_model("ecg_cpc", weights=saved)


def test_embed_is_the_mean_over_resampled_windows(small: model.Model) -> None:
    signal = np.random.default_rng(0).standard_normal((1300, 12)).astype(np.float32)
    out = ecgjax.embed(signal, 400.0, CANONICAL_LEADS, model=small, batch_size=2)
    np.testing.assert_array_equal(out.starts, [0, 400, 800])
    np.testing.assert_allclose(out.pooled, out.crops.mean(0), atol=1e-6)
    from ecgjax.data.resampling import resample

    for start, crop in zip(out.starts, out.crops, strict=True):
        alone = small.features(resample(signal[None, start : start + 400], 400.0, 240.0))
        np.testing.assert_allclose(crop, alone.pooled[0], atol=2e-6)


def test_embed_orders_and_derives_leads(small: model.Model) -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((300, 12)).astype(np.float32)
    one, two = signal[:, 0], signal[:, 1]
    signal[:, 2:6] = np.stack([two - one, -(one + two) / 2, one - two / 2, two - one / 2], 1)
    expected = ecgjax.embed(signal, 240.0, CANONICAL_LEADS, model=small).pooled
    order = [11, 1, 0, 6, 7, 8, 9, 10]
    found = ecgjax.embed(signal[:, order], 240.0, [CANONICAL_LEADS[i] for i in order], model=small)
    np.testing.assert_allclose(found.pooled, expected, atol=1e-5)


def test_embed_bad_input(small: model.Model) -> None:
    signal = np.zeros((500, 12), np.float32)
    with pytest.raises(UserError, match=r"0.4 s; expected at least the 1 s window of ecg_cpc"):
        ecgjax.embed(signal[:96], 240.0, CANONICAL_LEADS, model=small)
    with pytest.raises(UserError, match="no lead V6"):
        ecgjax.embed(signal[:, :11], 240.0, CANONICAL_LEADS[:11], model=small)
    with pytest.raises(UserError, match="11 lead names"):
        ecgjax.embed(signal, 240.0, CANONICAL_LEADS[:11], model=small)
    with pytest.raises(UserError, match="sampling rate is -1"):
        ecgjax.embed(signal, -1, CANONICAL_LEADS, model=small)
