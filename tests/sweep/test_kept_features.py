"""A unit's program reads features from the cache as if it read signals."""

import jax
import numpy as np
import pytest

from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.batches import evaluation_iterator, iterate
from ecgjax.data.cutter import make_cutter
from ecgjax.data.store import open_store
from ecgjax.jobs import evaluate_outcome, sweep
from ecgjax.models.model import load_model
from ecgjax.sweep import features, plan
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.kept_features import keep
from ecgjax.training import fused_heads
from ecgjax.training.supervised import MODES
from tests.sweep import fused

pytestmark = pytest.mark.usefixtures("tiny")
BATCH = 16


@pytest.mark.parametrize(("crops", "dtype"), [("fixed", "float32"), ("fixed", "bfloat16"), ("random", "float32")])
def test_heads_learn_the_same_from_the_cache(store, tmp_path, crops, dtype):
    opened, model = open_store(store), load_model("tiny").rounded(dtype)
    cutter = make_cutter(opened, np.arange(len(opened)), seconds=2.5, sampling_rate=50.0)
    lengths, targets = opened.records["samples"].to_numpy(), opened.targets("labels")
    options = {"window": cutter.window, "batch_size": BATCH, "seed": 0, "epochs": 2, "crops": crops}
    plan = BatchPlan(opened.rows("train"), lengths, **options)
    runs = [
        fused_heads.Head(MODES[mode], 3, 0, rate, 0.0, seed, targets)
        for seed, (mode, rate) in enumerate([("linear", 0.01), ("frozen", 0.01), ("linear", 0.1)])
    ]
    rows = {split: opened.rows(split) for split in ("validation", "test")}
    kept = keep(
        model, None, 0, opened, cutter, [plan], rows.values(), kinds=["pooled", "sequence"], batch_size=BATCH,
        folder=tmp_path,
    )  # fmt: skip
    assert kept.trained == (crops == "fixed")

    def train(batches, source, evaluate):
        program = fused_heads.build(model, runs)
        state, losses = program.state, []
        for item in batches:
            state, values = program.step(state, source, item)
            losses.append(np.asarray(values))
        scores = [program.predict(state, *found, False) for split in rows for found in evaluate(split)]
        return np.stack(losses), jax.device_get(scores)

    def signals(split):
        return ((cutter, item) for item in evaluation_iterator(opened, rows[split], cutter, batch_size=BATCH))

    def kept_features(split):
        return ((kept.source, item) for item in kept.evaluation(opened, rows[split], BATCH))

    expected = train(iterate(opened, plan, cutter), cutter, signals)
    batches, source = (kept.training(plan), kept.source) if kept.trained else (iterate(opened, plan, cutter), cutter)
    found = train(batches, source, kept_features)
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found[1], expected[1])


def test_windows_that_come_again_are_known(store):
    opened = open_store(store)
    lengths = opened.records["samples"].to_numpy()
    options = {"batch_size": 16, "seed": 4, "epochs": 3}

    def plan(**changes):
        return BatchPlan(opened.rows("train"), lengths, **{"window": 250, **options, **changes})

    assert plan().windows() is None
    for made in (plan(crops="fixed"), plan(window=600), plan(window=599, last_start=False)):
        record, start = made.windows()
        known = dict(zip(record.tolist(), start.tolist(), strict=True))
        for step in range(len(made)):
            assert all(
                known[r] == s for r, s in zip(*(made[step][n].tolist() for n in ("record", "start")), strict=True)
            )
    assert plan(window=599).windows() is None


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(evaluate_outcome.evaluation_report, "draw", lambda folder: None)
    monkeypatch.setattr(evaluate_outcome.cell_values, "keep", lambda folder: None)


@pytest.mark.parametrize("crops", ["fixed", "random"])
def test_a_sweep_ends_the_same_with_kept_features(store, tmp_path, undrawn, monkeypatch, crops):
    weights = fused.save(tmp_path / "weights")
    axes = chain(
        product(fixed({"model": "tiny", "data.labels": "labels"}), axis("mode", ["linear", "frozen"])),
        fixed({"model": "tiny", "data.labels": "labels", "mode": "linear", "data.ratio": 0.5}),  # one cell by itself
    )
    common = {"common.epochs": 2, "common.data.crops": crops, "features_folder": str(tmp_path / "features")}
    passes = []
    encode = features._encode
    monkeypatch.setattr(features, "_encode", lambda *args: passes.append(args[-1]["record"].shape) or encode(*args))
    for asked in ("cache", "recompute", "cache"):
        workdir = tmp_path / f"{asked}{len(list(tmp_path.glob(asked + '*')))}"
        sweep.run(fused.config(store, weights, axes, **common, features=asked), workdir)
    assert len(passes) == 1  # traced once: both kinds of all windows together, of which the fraction's are some
    cells = plan.make(fused.config(store, weights, axes, **common)).cells
    for cell in cells:
        kept, computed, again = (tmp_path / name / "cells" / cell.name for name in ("cache0", "recompute0", "cache1"))
        fused.check_equal(kept, computed)
        fused.check_equal(again, computed)
        assert "features from" in (kept / "log.txt").read_text()
        assert "features from" not in (computed / "log.txt").read_text()
