"""Many heads on one frozen encoder against each head alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.data.cutter import Cutter
from ecgjax.models.model import load_model
from ecgjax.training import fused_heads, supervised
from ecgjax.training.cached_features import FeatureSource
from ecgjax.training.fused_heads import Head
from tests.jobs.conftest import tiny

RECORDS, BATCH = 40, 8


__all__ = ["tiny"]


@pytest.fixture(scope="module")
def model(tiny):
    return load_model("tiny", width=32)


@pytest.fixture(scope="module")
def targets():
    rng = np.random.default_rng(0)

    def make(outputs):
        drawn = (rng.random((RECORDS, outputs)) < 0.4).astype(np.float32)
        return np.where(rng.random(drawn.shape) < 0.1, np.nan, drawn)

    return {"a": make(3), "b": make(3), "c": make(5)}


def items(model, count, seed=0):
    rng = np.random.default_rng(seed)
    samples = model.encoder.samples
    for _ in range(count):
        record = rng.permutation(RECORDS)[:BATCH].astype(np.int32)
        crop = rng.standard_normal((BATCH, samples, 12)).astype(np.float32)
        yield {"record": record, "start": np.zeros(BATCH, np.int32), "crop": crop, "millivolt": np.ones(BATCH, "f4")}


def cutter(model):
    return Cutter(None, model.encoder.samples, model.spec.sampling_rate, model.spec.sampling_rate)


def mixed(targets):
    linear, frozen = supervised.MODES["linear"], supervised.MODES["frozen"]
    return [
        Head(linear, 3, 0, 1e-3, 1e-3, 0, targets["a"]),
        Head(frozen, 3, 0, 1e-2, 1e-3, 1, targets["a"]),
        Head(linear, 3, 0, 1e-1, 0.0, 1, targets["b"]),
        Head(linear, 4, 1, 1e-2, 1e-1, 0, targets["c"]),
        Head(frozen, 4, 1, 1e-3, 0.0, 2, targets["c"]),
        Head(linear, 3, 0, 1e-2, 1e-3, 0, targets["b"]),
        Head(frozen, 3, 0, 1e-3, 1e-3, 3, targets["b"]),
    ]


def alone(model, run, batches):
    program = supervised.build(
        model, run.mode, n_classification=run.n_classification, n_regression=run.n_regression, rate_factor=0.1,
        learning_rate=run.learning_rate, weight_decay=run.weight_decay, seed=run.seed,
    )  # fmt: skip
    state, losses = program.state, []
    for item in batches:
        state, loss = program.step(state, program.frozen, cutter(model), item, jnp.asarray(run.targets))
        losses.append(float(loss))
    return losses, state.params["head"], program.predict(state, program.frozen, cutter(model), batches[0])


def train(program, source, batches):
    state, losses = program.state, []
    for item in batches:
        state, values = program.step(state, source, item)
        losses.append(np.asarray(values))
    return state, np.array(losses)


def test_each_head_is_as_if_it_were_alone(model, targets):
    runs, batches = mixed(targets), list(items(model, 6))
    program = fused_heads.build(model, runs)
    state, losses = train(program, cutter(model), batches)
    predicted = program.predict(state, cutter(model), batches[0], False)
    state = program.keep(state, np.ones(len(runs), bool))
    for i, run in enumerate(runs):
        its_losses, params, (scores, finite) = alone(model, run, batches)
        np.testing.assert_allclose(losses[:, i], its_losses, rtol=2e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params,
                     program.one(state, i)["params"]["head"])  # fmt: skip
        np.testing.assert_allclose(predicted[i][0], scores, atol=1e-5)
        np.testing.assert_array_equal(predicted[i][1], finite)


def test_a_head_that_diverges_leaves_the_others_as_they_are(model, targets):
    runs, batches = mixed(targets), list(items(model, 5))
    wild = [run._replace(learning_rate=3e38) if i in (1, 2) else run for i, run in enumerate(runs)]
    (calm_state, calm), (wild_state, found) = (
        train(program, cutter(model), batches) for program in (fused_heads.build(model, r) for r in (runs, wild))
    )
    others = [i for i in range(len(runs)) if i not in (1, 2)]
    assert not np.isfinite(found[:, [1, 2]]).all()
    np.testing.assert_array_equal(found[:, others], calm[:, others])
    programs = fused_heads.build(model, runs), fused_heads.build(model, wild)
    expected, given = (
        program.predict(state, cutter(model), batches[0], False)
        for program, state in zip(programs, (calm_state, wild_state), strict=True)
    )
    for i in others:
        np.testing.assert_array_equal(given[i][0], expected[i][0])


def test_the_best_of_each_head_is_its_own(model, targets):
    runs, batches = mixed(targets), list(items(model, 2))
    program = fused_heads.build(model, runs)
    before = [program.one(program.state, i)["params"]["head"] for i in range(len(runs))]
    state, _ = train(program, cutter(model), batches)
    improved = np.arange(len(runs)) % 2 == 0
    state = program.keep(state, improved)
    now = program.predict(state, cutter(model), batches[0], False)
    best = program.predict(state, cutter(model), batches[0], True)
    for i in range(len(runs)):
        same = [np.array_equal(a, b) for a, b in zip(now[i], best[i], strict=True)]
        assert same[0] == improved[i]
        kept = jax.tree.leaves(jax.tree.map(np.array_equal, before[i], program.one(state, i)["params"]["head"]))
        assert all(kept) != improved[i]


def test_features_that_were_computed_before_serve_as_well(model, targets):
    runs, batches = mixed(targets), list(items(model, 1))
    program = fused_heads.build(model, runs)
    expected = program.predict(program.state, cutter(model), batches[0], False)
    found = program.features(cutter(model), batches[0])
    assert set(found) == {"pooled", "sequence"}
    kept = FeatureSource(None, None, on_device=False)
    for (a, _), (b, _) in zip(program.predict(program.state, kept, found, False), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_batches_of_their_own_on_shared_features(model, targets):
    runs, batches = mixed(targets), list(items(model, 5))
    features = [fused_heads.build(model, runs).features(cutter(model), item) for item in batches]
    table = FeatureSource(*(jnp.concatenate([f[kind] for f in features]) for kind in ("pooled", "sequence")), True)
    record = np.concatenate([item["record"] for item in batches])
    rng = np.random.default_rng(1)
    feature = rng.integers(0, len(record), (4, len(runs), BATCH)).astype(np.int32)
    _, losses = train(
        fused_heads.build(model, runs), table, [{"feature": own, "record": record[own]} for own in feature]
    )
    for i, run in enumerate(runs):
        program = fused_heads.build(model, [run])
        _, alone = train(program, table, [{"feature": own[i], "record": record[own[i]]} for own in feature])
        np.testing.assert_allclose(losses[:, i], alone[:, 0], rtol=2e-5)


def test_only_what_heads_read_is_computed(model, targets):
    item = next(items(model, 1))
    linear = [run for run in mixed(targets) if run.mode.head == "linear"]
    assert set(fused_heads.build(model, linear).features(cutter(model), item)) == {"pooled"}
    frozen = [run for run in mixed(targets) if run.mode.head == "attention"]
    assert set(fused_heads.build(model, frozen).features(cutter(model), item)) == {"sequence"}
