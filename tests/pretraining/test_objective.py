"""Objectives by name, alone and together: refusals, weights, shared passes, supervised training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.models import registry as models
from ecgjax.models.encoder import Encoder
from ecgjax.pretraining import registry, supervised
from ecgjax.pretraining.objective import Setup
from ecgjax.training import losses
from tests.pretraining import small


@pytest.mark.parametrize(
    ("objective", "model", "message"),
    [
        (
            "cpc",
            "merl_vit",
            r"merl_vit whose tokens see what comes after .*model_arguments\.causal=True",
        ),
        ("cpc", "s4", "cpc cannot train s4 whose tokens see"),
        ("cpc", "st_mem", "cpc cannot train st_mem whose tokens see what comes after them$"),
        ("masked_clusters", "net1d", "masked_clusters cannot train net1d: it has no tokens"),
        ("masked_autoencoder", "ecg_founder", "it has no tokens"),
        ("jepa", "merl_resnet", "it has no tokens"),
        ("wav2vec", "s4", "wav2vec cannot train s4: no convolutional extractor"),
        ("supervised+wav2vec", "st_mem", "no convolutional extractor"),
    ],
)
def test_what_an_objective_cannot_train_is_refused(objective, model, message):
    with pytest.raises(UserError, match=message):
        registry.check(objective, models.create(model))


def test_what_it_can_train_is_not_refused():
    for objective, model, arguments in (
        ("cpc", "ecg_cpc", {}),
        ("cpc", "merl_vit", {"causal": True}),
        ("cpc", "s4", {"causal": True}),
        ("masked_clusters+supervised", "hubert_ecg", {}),
        ("wav2vec", "hubert_ecg", {}),
        ("supervised", "net1d", {}),
    ):
        registry.check(objective, models.create(model, **arguments))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpd", "objective 'cpd' is unknown .did you mean 'cpc'..; expected one of cpc, jepa"),
        ("cpc:0", "expected each name once, with a positive weight"),
        ("cpc+cpc", "expected each name once"),
        ("cpc:x", "positive weight"),
        ("", "objective '' is unknown"),
    ],
)
def test_names_and_weights(text, message):
    with pytest.raises(UserError, match=message):
        registry.parse(text)


def test_parse():
    assert registry.parse("cpc") == {"cpc": 1.0}
    assert registry.parse("cpc:2 + supervised:0.5") == {"cpc": 2.0, "supervised": 0.5}
    assert registry.segments("cpc") == 1
    assert registry.segments("cpc+wav2vec") == 2


def test_supervised_is_the_cross_entropy_of_what_is_known():
    logits = jax.random.normal(jax.random.key(0), (4, 3)) * 3
    targets = np.array([[1, 0, np.nan], [0, 0, 1], [np.nan] * 3, [1, 1, 1]], np.float32)
    valid = jnp.ones(4, bool)
    found, gradient = jax.value_and_grad(lambda z: jnp.mean(supervised.record_losses(z, targets, valid)))(logits)
    total = known = 0.0
    for row, wanted in zip(np.asarray(logits, np.float64), targets, strict=True):
        for z, y in zip(row, wanted, strict=True):
            if not np.isnan(y):
                p = 1 / (1 + np.exp(-z))
                total -= y * np.log(p) + (1 - y) * np.log(1 - p)
                known += 1
    np.testing.assert_allclose(found, total / known, rtol=1e-5)
    expected = jax.grad(lambda z: losses.bce(z, jnp.asarray(targets)))(logits)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    # Records that only fill a batch count for nothing.
    some = np.asarray(supervised.record_losses(logits, targets, jnp.array([True, True, False, False])))
    np.testing.assert_allclose(some[:2].mean(), losses.bce(logits[:2], jnp.asarray(targets[:2])), rtol=1e-6)
    assert (some[2:] == 0).all()


def test_a_sum_of_objectives_is_one_pass_of_the_encoder_and_the_sum_of_their_losses(monkeypatch):
    both = small.make("cpc:2+supervised:0.5", "ecg_cpc")
    assert both.metrics == ("cpc_loss", "cpc_accuracy", "supervised_loss", "supervised_accuracy")
    params, memory, batch = small.start(both, train=False)
    assert memory == {}
    passes, apply = [], Encoder.apply
    monkeypatch.setattr(Encoder, "apply", lambda self, *a, **k: passes.append(1) or apply(self, *a, **k))
    total, metrics = small.losses_of(both, memory, batch)(params)
    assert len(passes) == 1
    single = {}
    for number, name in enumerate(("cpc", "supervised")):
        one = small.make(name, "ecg_cpc")
        own = {"encoder": params["encoder"], "head": params["head"][name]}
        key = batch.key if number == 0 else jax.random.fold_in(batch.key, number)
        single[name] = small.losses_of(one, {}, batch._replace(key=key))(own)[0]
        np.testing.assert_allclose(metrics[f"{name}_loss"], single[name], rtol=1e-5)
    np.testing.assert_allclose(total, 2 * single["cpc"] + 0.5 * single["supervised"], rtol=1e-5)


def test_supervised_needs_labels():
    encoder = models.create("s4", width=8, layers=1)
    with pytest.raises(UserError, match=r"config\.data\.labels names no label set"):
        registry.create("supervised", Setup(encoder, 250, 1))


@pytest.mark.parametrize(
    ("objective", "model", "arguments"),
    [
        ("cpc", "merl_vit", {"causal": True}),
        ("cpc", "s4", {"causal": True}),
        ("masked_clusters", "st_mem", {}),
        ("masked_clusters", "ecg_fm", {}),
        ("masked_autoencoder", "merl_vit", {}),
        ("masked_autoencoder", "ecg_fm", {}),
        ("jepa", "st_mem", {}),
        ("jepa", "s4", {}),
        ("jepa:0.5+masked_clusters", "ecg_cpc", {}),
        ("wav2vec", "ecg_fm", {"train_extractor": True}),
        ("wav2vec+supervised:0.5", "ecg_cpc", {}),
    ],
)
def test_shapes_of_other_pairs(objective, model, arguments):
    mixture = small.make(objective, model, **arguments)
    params, memory = jax.eval_shape(lambda: small.start(mixture, fit=False)[:2])

    def step(params, memory):
        _, _, batch = small.start(mixture, fit=False)
        losses, metrics, rest = mixture.losses(params, memory, batch, jax.random.key(0))
        return losses, metrics, rest, mixture.after_update(memory, params, jnp.int32(1))

    losses, metrics, _, after = jax.eval_shape(step, params, memory)
    assert losses.shape == (3,)
    assert sorted(metrics) == sorted(mixture.metrics)
    assert all(value.shape == (3,) for value in metrics.values())
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), memory
    )
