"""Facts of the specifications: sizes, lengths, rate groups, initialisation, taps, bf16, contracts of stored weights."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import ecgjax
from ecgjax.errors import UserError
from ecgjax.models import heads, registry, weights
from ecgjax.training.optimiser import rate_groups
from tests.models.golden import relative

SMALL = {"widths": (64, 64, 96), "blocks": (1, 2, 1)}


def shapes(name: str, samples: int | None = None, **arguments):
    encoder = registry.create(name, **arguments)
    x = jax.ShapeDtypeStruct((2, samples or encoder.samples, 12), jnp.float32)
    return jax.eval_shape(lambda variables, x: encoder.apply(variables, x)[0], encoder.shapes(), x)


@pytest.mark.parametrize(
    ("name", "count"),
    [("ecg_founder", 30_665_264 - 66_368), ("merl_resnet", 3_848_832), ("ecgfm_ked", 7_865_984)],
)
def test_parameter_counts_of_the_spec(name: str, count: int) -> None:
    # ECGFounder's reference holds 66,368 values of batch norms that it does not run.
    assert sum(leaf.size for leaf in jax.tree.leaves(registry.create(name).shapes()["params"])) == count


def test_parameter_count_of_net1d_with_71_classes() -> None:
    encoder = registry.create("net1d")
    head = jax.eval_shape(heads.create("linear", encoder.spec.channels, 71).init, jax.random.key(0))
    leaves = jax.tree.leaves((encoder.shapes()["params"], head))
    assert sum(leaf.size for leaf in leaves) == 30_738_039 - 66_368


@pytest.mark.parametrize(
    ("name", "early", "late"),
    # Of ECGFounder's 100 and 224 tensors 38 and 84 are those of unused batch norms.
    [("ecg_founder", 100 - 38, 224 - 84), ("merl_resnet", 30, 30), ("ecgfm_ked", (9, 17_536), 306)],
)
def test_rate_groups(name: str, early, late: int) -> None:
    encoder = registry.create(name)
    head = jax.eval_shape(heads.create("linear", encoder.spec.channels, 71).init, jax.random.key(0))
    params = {"encoder": encoder.shapes()["params"], "head": head}
    groups = encoder.spec.lr_groups
    _, rows = rate_groups(params, groups, {group: 1e-3 for group, _ in groups})
    found = {row.group: (row.tensors, row.values) for row in rows}
    assert found["head"] == (2, 72 * encoder.spec.channels - encoder.spec.channels + 71)
    assert found["late"][0] == late
    assert found["early"][0 : 2 if isinstance(early, tuple) else 1] == (early if isinstance(early, tuple) else (early,))


@pytest.mark.parametrize(
    ("name", "samples", "tokens"),
    [
        ("ecg_founder", None, [625, 313, 157, 79, 40, 20, 10, 5]),
        ("ecg_founder", 5000, [2500, 1250, 625, 313, 157, 79, 40, 20]),
        ("ecg_founder", 37, [19, 10, 5, 3, 2, 1]),
        ("merl_resnet", None, [625, 313, 157, 79]),
        ("merl_resnet", 5000, [2500, 1250, 625, 313]),
        ("merl_resnet", 3, [2, 1]),
        ("ecgfm_ked", None, [2500, 1250, 625, 313, 157]),
        ("ecgfm_ked", 1000, [500, 250, 125, 63, 32]),
    ],
)
def test_lengths_and_taps(name: str, samples: int | None, tokens: list[int]) -> None:
    out = shapes(name, samples)
    taps, last = {
        "ecg_founder": (21, "stage_6_block_3"),
        "merl_resnet": (9, "layer_4_block_1"),
        "ecgfm_ked": (36, "stage_3_block_2"),
    }[name]
    assert len(out.taps) == taps
    lengths = [tap.shape[1] for tap in out.taps.values()]
    assert sorted(set(lengths), reverse=True) == tokens
    assert out.taps[last] == out.sequence
    assert out.sequence.shape == (2, tokens[-1], out.pooled.shape[1])


def test_unused_taps_cost_nothing() -> None:
    encoder = registry.create("net1d", **SMALL)
    x = jax.ShapeDtypeStruct((2, 200, 12), jnp.float32)

    def compiled(pick):
        return jax.jit(lambda v, x: pick(encoder.apply(v, x)[0])).lower(encoder.shapes(), x).compile()

    pooled, everything = compiled(lambda out: out.pooled), compiled(lambda out: out)
    # Fusion decides differently about a few elementwise operations.
    assert pooled.cost_analysis()["flops"] == pytest.approx(everything.cost_analysis()["flops"], rel=0.01)
    assert pooled.memory_analysis().output_size_in_bytes < everything.memory_analysis().output_size_in_bytes / 20


@pytest.mark.parametrize(("name", "samples"), [("net1d", 400), ("merl_resnet", 400)])
def test_bfloat16(name: str, samples: int) -> None:
    arguments = SMALL if name == "net1d" else {}
    full, half = (ecgjax.load_model(name, dtype=dtype, **arguments) for dtype in ("float32", "bfloat16"))
    x = np.random.default_rng(0).standard_normal((2, samples, 12)).astype(np.float32)
    expected, found = full.features(x), half.features(x)
    assert found.pooled.dtype == found.sequence.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half.variables))
    error = relative(found.pooled, expected.pooled)
    assert 1e-5 < error < 2e-2
    # Batch statistics stay float32.
    _, after = jax.eval_shape(lambda v, x: half.encoder.apply(v, x, train=True), half.variables, x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after))


def test_initialisation_of_net1d_is_torchs() -> None:
    params = flatten_dict(registry.create("ecg_founder").init(jax.random.key(0))["params"], sep="/")
    for path, fan_in in (("stem", 12 * 16), ("stage_2_block_1/conv_2", 16 * 16), ("stage_4_block_0/excite", 200)):
        for leaf in (params[path + "/kernel"], params[path + "/bias"]):
            assert np.abs(leaf).max() <= fan_in**-0.5
        assert np.std(params[path + "/kernel"]) == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)


def test_initialisation_of_ecgfm_ked() -> None:
    params = flatten_dict(registry.create("ecgfm_ked").init(jax.random.key(0))["params"], sep="/")
    zero = [path for path, leaf in params.items() if path.endswith("scale") and not np.any(leaf)]
    assert len(zero) == 33
    assert all(path.endswith("conv_2/norm/scale") for path in zero)
    kernel = params["stage_1_block_2/conv_1/conv/kernel"]
    assert np.std(kernel) == pytest.approx((2 / (5 * 128)) ** 0.5, rel=0.02)
    assert not any(np.any(leaf) for path, leaf in params.items() if path.endswith("bias"))


def test_one_lead() -> None:
    encoder = registry.create("ecg_founder", leads="1")
    assert encoder.spec.leads == ("I",)
    assert encoder.shapes()["params"]["stem"]["kernel"].shape == (16, 1, 64)
    twelve = jax.tree.leaves(registry.create("ecg_founder").shapes()["params"])
    one = jax.tree.leaves(encoder.shapes()["params"])
    assert sum(leaf.size for leaf in twelve) - sum(leaf.size for leaf in one) == 11 * 16 * 64
    with pytest.raises(UserError, match="leads is '8'; expected '12' or '1'"):
        registry.create("ecg_founder", leads="8")


@pytest.mark.parametrize("stages", [{"widths": (64, 60)}, {"widths": (64,), "blocks": (1, 1)}, {"widths": (96, 64)}])
def test_impossible_stages_are_refused(stages) -> None:
    with pytest.raises(UserError, match=r"model net1d: (widths|blocks) is"):
        registry.create("net1d", **{"blocks": (1,) * len(stages["widths"]), **stages})


def test_stored_weights_can_be_used_under_the_other_contract(tmp_path: Path) -> None:
    model = ecgjax.load_model("merl_resnet", seed=1)
    weights.save_weights(tmp_path, model.encoder, model.variables)
    again = ecgjax.load_model("merl_resnet", weights=tmp_path, contract="authors", dtype="bfloat16")
    assert again.spec.seconds == 10.0
    assert again.encoder.arguments["contract"] == "authors"
    jax.tree.map(np.testing.assert_array_equal, again.variables, model.variables)
