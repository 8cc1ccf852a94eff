"""Rate groups cover everything once; AdamW does what it says per group."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecgjax.errors import UserError
from ecgjax.training import optimiser, schedules

PARAMS = {
    "encoder": {
        "encoder": {"conv_0": {"kernel": jnp.ones((3, 2))}},
        "predictor": {"layer_0": {"C": jnp.ones(4), "D": jnp.ones(2)}},
    },
    "head": {"kernel": jnp.ones((2, 5)), "bias": jnp.ones(5)},
}
GROUPS = (("head", ("head/",)), ("late", ("encoder/predictor/",)), ("early", ("encoder/encoder/",)))
RATES = {"head": 1e-3, "late": 1e-4, "early": 1e-5}


def test_labels_and_table():
    labels, rows = optimiser.rate_groups(PARAMS, GROUPS, RATES)
    assert labels["encoder"]["predictor"] == {"layer_0": {"C": "late", "D": "late"}}
    assert labels["head"] == {"kernel": "head", "bias": "head"}
    assert [tuple(row) for row in rows] == [("head", 2, 15, 1e-3), ("late", 2, 6, 1e-4), ("early", 1, 6, 1e-5)]
    table = optimiser.group_table(rows).splitlines()
    assert table[0].split() == ["group", "tensors", "values", "rate"]
    assert table[1].split() == ["head", "2", "15", "0.001"]
    assert table[-1].split() == ["all", "5", "27"]


def test_works_on_shapes_alone():
    shapes = jax.eval_shape(lambda: PARAMS)
    assert optimiser.rate_groups(shapes, GROUPS, RATES)[1] == optimiser.rate_groups(PARAMS, GROUPS, RATES)[1]


def test_all_faults_in_one_line():
    groups = (("head", ("head/",)), ("late", ("encoder/encodr/",)), ("early", ("encoder/encoder/", "head/bias")))
    with pytest.raises(UserError) as error:
        optimiser.rate_groups(PARAMS, groups, RATES)
    message = str(error.value)
    assert "\n" not in message
    assert "group 'late' has no parameter" in message
    assert "encoder/predictor/layer_0/C is in no group" in message
    assert "encoder/predictor/layer_0/D is in no group" in message
    assert "head/bias is in 2 groups (head, early)" in message
    assert "head/kernel" not in message


def test_patterns_match_from_the_start():
    # "encoder/" is inside no "head/" path and the encoder's own "encoder/encoder/" must not catch the predictor.
    with pytest.raises(UserError, match="head/bias is in no group; head/kernel is in no group"):
        optimiser.rate_groups(PARAMS, (("all", ("encoder/",)),), {"all": 1e-3})


def test_groups_and_rates_must_agree():
    with pytest.raises(
        UserError, match="rate groups head, late, early need one learning rate each; rates are for head"
    ):
        optimiser.rate_groups(PARAMS, GROUPS, {"head": 1e-3})


def test_adamw_by_hand():
    labels, _ = optimiser.rate_groups(PARAMS, GROUPS, RATES)
    schedule = schedules.create("linear", total=10)
    transform = optimiser.adamw(labels, RATES, weight_decay=0.1, schedule=schedule)
    rng = np.random.default_rng(0)
    params, state = PARAMS, transform.init(PARAMS)
    expected = jax.tree.map(lambda x: np.asarray(x, np.float64), PARAMS)
    m = jax.tree.map(np.zeros_like, expected)
    v = jax.tree.map(np.zeros_like, expected)
    for step in range(4):
        grads = jax.tree.map(lambda x: rng.standard_normal(x.shape), expected)
        updates, state = transform.update(jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), grads), state, params)
        params = optax.apply_updates(params, updates)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        factor, t = schedule(step), step + 1

        def update(p, m, v, label, factor=factor, t=t):
            adam = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            return p - RATES[label] * factor * (adam + 0.1 * p)

        expected = jax.tree.map(update, expected, m, v, labels)
    for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6)
