"""Facts of the specifications: sizes, lengths, rate groups, initialisation, taps, dropouts, bf16, refusals."""

import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import ecgjax
from ecgjax.errors import UserError
from ecgjax.models import heads, registry
from ecgjax.models.encoder import CANONICAL_LEADS
from ecgjax.models.wav2vec import ContextNetwork
from ecgjax.training import optimiser, supervised
from tests.models.golden import relative

MODELS = ("ecg_fm", "ecg_jepa", "hubert_ecg", "merl_vit", "st_mem")


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(name: str, samples: int | None = None, **arguments):
    encoder = registry.create(name, **arguments)
    x = jax.ShapeDtypeStruct((2, samples or encoder.samples, 12), jnp.float32)
    return jax.eval_shape(lambda variables, x: encoder.apply(variables, x)[0], encoder.shapes(), x)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("merl_vit", {}, 5_473_152),
        # With their constant position tables.
        ("ecg_jepa", {}, 85_374_720),
        ("st_mem", {}, 85_150_614),
        # The reference counts the mask vector, which is not created here.
        ("hubert_ecg", {"size": "small"}, 30_209_664 - 512),
        ("hubert_ecg", {"size": "base"}, 92_798_848 - 768),
        ("hubert_ecg", {"size": "large"}, 187_644_736 - 960),
        ("ecg_fm", {}, 90_373_248),
    ],
)
def test_parameter_counts_of_the_spec(name: str, arguments: dict[str, str], expected: int) -> None:
    assert count(registry.create(name, **arguments).shapes()) == expected


def group_sizes(name: str, paper: bool = False, **arguments) -> dict[str, int]:
    encoder = registry.create(name, **arguments)
    head = jax.eval_shape(heads.create("linear", encoder.spec.channels, 71).init, jax.random.key(0))
    params = {"encoder": encoder.shapes()["params"], "head": head}
    groups, rates = supervised.rate_groups_of(encoder.spec, supervised.MODES["finetune"], 1e-3, 0.1, paper)
    _, rows = optimiser.rate_groups(params, groups, rates)
    by_name = {"head": 1e-3, "late": 1e-4, "early": 1e-5, "frozen": 0.0}
    assert [row.rate for row in rows] == pytest.approx([by_name[row.group] for row in rows])
    return {row.group: row.tensors for row in rows}


def test_rate_groups() -> None:
    # The reference's table, less what has no gradient there: JEPA's position table; the extractor of ECG-FM.
    assert group_sizes("ecg_jepa") == {"head": 2, "late": 101, "early": 36 - 1}
    assert group_sizes("hubert_ecg") == {"head": 2, "late": 96, "early": 101 + 4 + 7}
    assert group_sizes("ecg_fm") == {"head": 2, "late": 96, "early": 105, "frozen": 6}
    assert group_sizes("ecg_fm", train_extractor=True) == {"head": 2, "late": 96, "early": 111}
    assert group_sizes("st_mem") == {"head": 2, "late": 9 * 12 + 2, "early": 1 + 12 + 6 + 3 * 12}
    assert group_sizes("merl_vit") == {"head": 2, "late": 9 * 12 + 2, "early": 2 + 3 * 12}
    for size, layers in (("small", 8), ("large", 16)):
        assert group_sizes("hubert_ecg", size=size)["late"] == layers // 2 * 16


def test_rate_groups_of_the_paper_where_they_differ() -> None:
    assert group_sizes("st_mem", paper=True) == {"head": 2, "frozen": 165}
    assert group_sizes("merl_vit", paper=True) == {"head": 2, "frozen": 148}
    for name in ("ecg_fm", "ecg_jepa", "hubert_ecg"):
        assert group_sizes(name, paper=True) == group_sizes(name)


def test_frozen_parameters_neither_move_nor_decay_nor_have_moments() -> None:
    params = {"encoder": jnp.ones(3), "head": jnp.ones(2)}
    labels = {"encoder": "frozen", "head": "head"}
    update = optimiser.adamw(labels, {"frozen": 0.0, "head": 0.1}, weight_decay=0.5)
    state = update.init(params)
    assert count(state) == 2 * 2 + 1  # two moments and a counter
    updates, _ = update.update(jax.tree.map(jnp.ones_like, params), state, params)
    np.testing.assert_array_equal(updates["encoder"], 0)
    np.testing.assert_allclose(updates["head"], -0.1 * (1 + 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("train", "arguments", "reaches"),
    [(False, {}, True), (True, {"train_extractor": True}, True), (True, {}, False)],
)
def test_gradient_through_the_extractor_of_ecg_fm(train: bool, arguments: dict, reaches: bool) -> None:
    encoder = registry.create("ecg_fm", activation_dropout=0.0, width=48, layers=2, **arguments)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 64, 12)), jnp.float32)
    variables = encoder.init(jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(encoder.apply(v, x, train)[0].sequence[..., 0])))(variables)["params"]
    assert np.any(gradient["projection"]["kernel"])
    assert np.any(gradient["extractor"]["conv_0"]["kernel"]) == reaches


@pytest.mark.parametrize(
    ("name", "samples", "tokens"),
    [
        ("merl_vit", None, 100),
        ("merl_vit", 1250, 25),
        ("ecg_jepa", None, 400),
        ("ecg_jepa", 50, 8),
        ("st_mem", None, 96),
        ("st_mem", 2250, 360),
        ("hubert_ecg", None, 93),
        ("hubert_ecg", 1000, 187),
        ("ecg_fm", None, 156),
        ("ecg_fm", 5000, 312),
        ("ecg_fm", 16, 1),
    ],
)
def test_lengths_and_taps(name: str, samples: int | None, tokens: int) -> None:
    out = shapes(name, samples)
    channels = registry.create(name).spec.channels
    assert out.sequence.shape == (2, tokens, channels)
    assert out.pooled.shape == (2, channels)
    assert len([tap for tap in out.taps if tap.startswith(("block_", "layer_"))]) == 12
    assert all(tap.shape[-1] in (channels, 512, 256) for tap in out.taps.values())


def test_fewer_leads() -> None:
    leads = ("I", "V2", "V6")
    assert shapes("ecg_jepa", leads=leads).sequence.shape == (2, 150, 768)
    assert shapes("st_mem", leads=leads).sequence.shape == (2, 24, 768)
    assert registry.create("st_mem", leads=leads).spec.leads == leads
    assert registry.create("st_mem", leads=leads).shapes() == registry.create("st_mem").shapes()


@pytest.mark.parametrize("leads", [("V6", "I"), ("I", "I"), (), ("aVR", "X"), "I"])
def test_impossible_leads_are_refused(leads) -> None:
    with pytest.raises(UserError, match=r"model st_mem: leads is .*expected some of I, II, III"):
        registry.create("st_mem", leads=leads)
    with pytest.raises(UserError, match=r"model ecg_jepa: leads is .*expected some of I, II, V1"):
        registry.create("ecg_jepa", leads=leads)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("merl_vit", {"seconds": 12.5}, "seconds is 12.5; expected a multiple of 0.1 up to 10"),
        ("ecg_jepa", {"seconds": 0.3}, "seconds is 0.3; expected a multiple of 0.2 up to 10"),
        ("st_mem", {"seconds": 2.5}, "seconds is 2.5; expected a multiple of 0.3 up to 9"),
        ("hubert_ecg", {"size": "huge"}, "size is 'huge'; expected 'small' or 'base' or 'large'"),
        ("hubert_ecg", {"layerdrop": 1}, "layerdrop is 1; expected a number from 0"),
        ("ecg_fm", {"attention_dropout": "0"}, "attention_dropout is '0'"),
        ("ecg_fm", {"train_extractor": "yes"}, "train_extractor is 'yes'"),
        ("ecg_fm", {"contract": "author"}, "contract is 'author'; expected 'benchmark' or 'authors'"),
        ("st_mem", {"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
def test_impossible_arguments_are_refused(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"model {name}: {message}"):
        registry.create(name, **arguments)


@pytest.mark.parametrize(
    ("name", "samples"), [("merl_vit", 5050), ("ecg_jepa", 2499), ("st_mem", 76), ("ecg_fm", 15), ("hubert_ecg", 12)]
)
def test_impossible_lengths_are_refused(name: str, samples: int) -> None:
    with pytest.raises(UserError, match="samples"):
        shapes(name, samples)


@pytest.mark.parametrize("name", MODELS)
def test_arguments_rebuild_the_encoder(name: str) -> None:
    for arguments in ({}, {"contract": "authors", "dtype": "bfloat16"}):
        encoder = registry.create(name, **arguments)
        again = registry.create(name, **json.loads(json.dumps(dict(encoder.arguments))))
        assert again.arguments == encoder.arguments
        assert again.module == encoder.module
        assert again.spec == encoder.spec


@pytest.fixture(scope="module")
def vit() -> ecgjax.models.Encoder:
    return registry.create("merl_vit", seconds=0.5)


def test_unused_taps_cost_nothing(vit) -> None:
    x = jax.ShapeDtypeStruct((1, 250, 12), jnp.float32)

    def compiled(pick):
        return jax.jit(lambda v, x: pick(vit.apply(v, x)[0])).lower(vit.shapes(), x).compile()

    pooled, everything = compiled(lambda out: out.pooled), compiled(lambda out: out)
    assert pooled.cost_analysis()["flops"] == everything.cost_analysis()["flops"]
    assert pooled.memory_analysis().output_size_in_bytes < everything.memory_analysis().output_size_in_bytes / 20


def test_bfloat16(vit) -> None:
    half = registry.create("merl_vit", seconds=0.5, dtype="bfloat16")
    variables = vit.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 250, 12)), jnp.float32)
    expected, found = (jax.jit(lambda v, x, e=e: e.apply(v, x)[0])(variables, x) for e in (vit, half))
    assert found.pooled.dtype == found.sequence.dtype == jnp.float32
    assert 1e-5 < relative(found.pooled, expected.pooled) < 2e-2


def equations(program: Any) -> Iterator[Any]:
    """Those of a jaxpr and of all programs inside it, such as the forms of one function for each platform."""
    for equation in program.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_goes_all_the_way(name: str) -> None:
    # No product in the program has a float32 operand: nothing along the way widens the activations.
    encoder = registry.create(name, dtype="bfloat16")
    x = jax.ShapeDtypeStruct((1, encoder.samples, len(encoder.spec.leads)), jnp.bfloat16)
    program = jax.make_jaxpr(lambda v, x: encoder.module.apply(v, x, False).pooled)(encoder.shapes(), x)
    assert program.out_avals[0].dtype == jnp.bfloat16
    products = [e for e in equations(program.jaxpr) if e.primitive.name in ("dot_general", "conv_general_dilated")]
    assert len(products) >= 48
    types = [{str(v.aval.dtype) for v in e.invars} for e in products]
    # Convolutions by Fourier transform, on CPUs only: a complex product between three transforms.
    assert types.count({"float32"}) == 3 * types.count({"complex64"})
    assert {"bfloat16"} in types
    assert all(kind in ({"bfloat16"}, {"float32"}, {"complex64"}) for kind in types)


def initial(name: str, *paths: str) -> list[np.ndarray]:
    """Some parameters as initialised; the others are not even drawn."""

    @jax.jit
    def pick(key):
        params = flatten_dict(registry.create(name).init(key)["params"], sep="/")
        return [params[path] for path in paths]

    return jax.device_get(pick(jax.random.key(0)))


def test_initialisation_of_ecg_jepa() -> None:
    attention = "block_{}/attention/output/kernel"
    qkv, first, last, other, bias = initial(
        "ecg_jepa",
        "block_11/attention/qkv/kernel",
        attention.format(0),
        attention.format(11),
        "block_11/mlp_output/kernel",
        "block_3/mlp_hidden/bias",
    )
    assert qkv.std() == pytest.approx(0.02, rel=0.02)
    assert first.std() == pytest.approx(0.02 / 2**0.5, rel=0.02)
    assert last.std() == pytest.approx(0.02 / 24**0.5, rel=0.02)
    assert other.std() == pytest.approx(0.02 / 24**0.5, rel=0.02)
    assert relative(first * 2**0.5, last * 24**0.5) > 1  # independent draws
    assert not bias.any()


def test_initialisation_of_ecg_fm_and_hubert_ecg() -> None:
    position, conv, projection, query = initial(
        "ecg_fm",
        "context/position/direction",
        "extractor/conv_1/kernel",
        "projection/kernel",
        "context/layer_3/attention/query/kernel",
    )
    assert position.std() == pytest.approx((4 / (128 * 768)) ** 0.5, rel=0.02)
    assert conv.std() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert 0.99 * 256**-0.5 < np.abs(projection).max() <= 256**-0.5
    assert query.std() == pytest.approx(0.02, rel=0.02)
    position, gain, projection = initial(
        "hubert_ecg", "context/position/direction", "context/position/gain", "projection/kernel"
    )
    bound = (48 * 128) ** -0.5
    assert 0.99 * bound < np.abs(position).max() <= bound
    np.testing.assert_allclose(gain, np.sqrt(np.square(position).sum((1, 2))), rtol=1e-5)
    assert projection.std() == pytest.approx(0.02, rel=0.02)


def test_initialisation_of_st_mem_and_merl_vit() -> None:
    qkv, lead = initial("st_mem", "block_5/attention/qkv/kernel", "lead_3")
    assert np.abs(qkv).max() == pytest.approx((6 / (4 * 768)) ** 0.5, rel=1e-3)
    assert lead.std() == pytest.approx(0.02, rel=0.1)
    position, bias = initial("merl_vit", "position", "block_2/mlp_output/bias")
    assert position.std() == pytest.approx(1, rel=0.02)
    assert 0.9 * 768**-0.5 < np.abs(bias).max() <= 768**-0.5


def test_layerdrop_leaves_out_whole_layers_and_scales_nothing() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 32)), jnp.float32)
    network = ContextNetwork(layers=2, heads=2, layerdrop=0.5)
    variables = jax.jit(network.init, static_argnums=2)(jax.random.key(0), x, False)

    @jax.jit
    def both(key):
        return network.apply(variables, x, False)[1], network.apply(variables, x, True, rngs={"dropout": key})[1]

    seen = set()
    for seed in range(20):
        whole, taps = both(jax.random.key(seed))
        first = bool(np.allclose(taps["layer_0"], taps["position"]))  # left out for the whole batch
        second = bool(np.allclose(taps["layer_1"], taps["layer_0"]))
        if not first:
            np.testing.assert_allclose(taps["layer_0"], whole["layer_0"], atol=1e-5)
        if not first and not second:
            np.testing.assert_allclose(taps["layer_1"], whole["layer_1"], atol=1e-5)
        seen.add((first, second))
    assert len(seen) == 4


def test_dropouts_of_the_specification() -> None:
    hubert = registry.create("hubert_ecg").arguments
    assert [hubert[r] for r in ("dropout", "attention_dropout", "activation_dropout", "layerdrop")] == [0.1] * 4
    assert registry.create("hubert_ecg", size="large").arguments["layerdrop"] == 0.0
    fm = registry.create("ecg_fm").arguments
    assert [fm[r] for r in ("dropout", "attention_dropout", "activation_dropout", "layerdrop")] == [0, 0, 0.1, 0]


def test_leads_of_the_authors_contracts() -> None:
    assert registry.create("merl_vit", contract="authors").spec.leads[4:6] == ("aVF", "aVL")
    assert registry.create("hubert_ecg", contract="authors").spec.sampling_rate == 500.0
    assert registry.create("ecg_fm").spec.leads == CANONICAL_LEADS
