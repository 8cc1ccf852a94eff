"""The contrastive loss against the golden case and a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convert_weights import mapping
from convert_weights.names import ecg_cpc
from ecgjax.errors import UserError
from ecgjax.pretraining import cpc
from tests import kit
from tests.models import golden


def loop(encoded, predicted, negatives):
    """The definition, in float64, one prediction at a time."""
    total = hits = 0.0
    batch, tokens, _ = encoded.shape
    for b in range(batch):
        for i in range(tokens - 14):
            candidates = np.concatenate([encoded[b, i + 14][None], encoded[b, negatives[b, i]]])
            logits = candidates @ predicted[b, i]
            total += np.log(np.sum(np.exp(logits - logits.max()))) + logits.max() - logits[0]
            hits += np.argmax(logits) == 0
    return total / batch, hits / (batch * (tokens - 14))


def test_equals_a_loop_over_predictions():
    rng = np.random.default_rng(0)
    encoded, predicted = np.maximum(rng.standard_normal((3, 40, 8)), 0), rng.standard_normal((3, 40, 8))
    negatives = cpc.draw_negatives(jax.random.key(0), 3, 40, 16)
    value, accuracy = cpc.loss(jnp.float32(encoded), jnp.float32(predicted), negatives)
    expected = loop(encoded, predicted, np.asarray(negatives))
    np.testing.assert_allclose((value, accuracy), expected, rtol=1e-6)
    per_record, _ = cpc.record_losses(jnp.float32(encoded), jnp.float32(predicted), negatives)
    one, _ = loop(encoded[1:2], predicted[1:2], np.asarray(negatives)[1:2])
    np.testing.assert_allclose(per_record[1], one, rtol=1e-6)


def test_chance_and_large_logits():
    negatives = cpc.draw_negatives(jax.random.key(0), 2, 30)
    encoded = jnp.ones((2, 30, 4))
    value, accuracy = cpc.loss(encoded, encoded, negatives)
    np.testing.assert_allclose(value, 16 * np.log(129), rtol=1e-6)
    assert accuracy == 1  # ties count for the target, as the reference's arg max does
    value, gradient = jax.value_and_grad(lambda p: cpc.loss(encoded * 1e4, p, negatives)[0])(encoded * 1e4)
    assert np.isfinite(value)  # logits of 4e8
    assert np.isfinite(gradient).all()


def test_targets_and_negatives_carry_gradient():
    rng = np.random.default_rng(1)
    encoded, predicted = (jnp.float32(rng.standard_normal((1, 20, 4))) for _ in range(2))
    negatives = jnp.zeros((1, 6, 3), jnp.int32)
    gradient = jax.grad(lambda e: cpc.loss(e, predicted, negatives)[0])(encoded)
    moved = np.abs(np.asarray(gradient[0])).sum(-1) > 0
    np.testing.assert_array_equal(np.flatnonzero(moved), [0, 14, 15, 16, 17, 18, 19])


def test_negatives_are_uniform_over_all_but_the_target():
    tokens, draws = 20, 4000
    negatives = np.asarray(cpc.draw_negatives(jax.random.key(3), 2, tokens, draws))
    assert negatives.shape == (2, 6, draws)
    for position in range(6):
        counts = np.bincount(negatives[0, position], minlength=tokens)
        assert len(counts) == tokens
        assert counts[position + 14] == 0
        # Binomial: 210 expected, standard deviation 14.
        others = np.delete(counts, position + 14)
        assert np.all(np.abs(others - draws / 19) < 75)
    assert not np.array_equal(negatives[0], negatives[1])


def test_too_short_crops():
    with pytest.raises(UserError, match="14 tokens; expected more than the 14 steps"):
        cpc.draw_negatives(jax.random.key(0), 1, 14)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(mode):
    case = golden.load("ecg_cpc_pretrain", dropout=0.0)
    arrays, shape = case.arrays, tuple(case.manifest["loss_input"]["shape"])
    x = jnp.asarray(golden.channels_last(kit.make_input(shape, case.manifest["seed"])))
    negatives = jnp.asarray(arrays["negative_indices"].transpose(1, 0, 2), jnp.int32)
    rest = {name: value for name, value in case.variables.items() if name != "params"}

    def objective(params, head, x):
        variables = {"params": params, **rest}
        features, _ = case.encoder.apply(variables, x, train=mode == "train", key=jax.random.key(0))
        return cpc.loss(features.taps["encoder"], cpc.apply_head(head, features.taps["predictor"]), negatives)

    run = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))
    (value, accuracy), (params, head, gradient) = run(case.variables["params"], case.heads["ssl"], x)
    np.testing.assert_allclose(value, arrays[f"loss_{mode}"], rtol=2e-6)
    np.testing.assert_allclose(accuracy, arrays[f"accuracy_{mode}"], atol=1e-6)
    assert golden.relative(golden.channels_last(gradient), arrays[f"grad_input_{mode}"]) < 1e-4
    gradients = mapping.to_torch(ecg_cpc, case.encoder, {**case.variables, "params": params}, {"ssl": head})
    checked = 0
    for key, expected in arrays.items():
        if key.startswith(f"grad_{mode}/"):
            found = gradients[key.removeprefix(f"grad_{mode}/")].reshape(-1)[: expected.size]
            assert golden.relative(found, expected) < 1e-4, key
            checked += 1
    assert checked == len(jax.tree.leaves(params)) + 1
