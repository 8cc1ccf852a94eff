"""What the tests of fused units share: a sweep whose cells have one encoder, and its cells run alone."""

import json

import numpy as np

from ecgjax.jobs import evaluate
from ecgjax.models.model import load_model
from ecgjax.models.weights import save_weights
from ecgjax.sweep.axes import axis, chain, fixed, product
from tests.sweep import stub


def save(root):
    """Weights of a small encoder."""
    model = load_model("tiny", width=32, seed=5)
    save_weights(root / "tiny", model.encoder, model.variables)
    return str(root)


def mixed():
    """Two label sets, both kinds of head, rates, decays and seeds: nine cells, one encoder, one crop stream."""
    base = fixed({"model": "tiny", "data.seed": 3})
    labels = axis("data.labels", ["labels", "joint"])
    seeds = axis("seed", range(2))
    return chain(
        product(base, labels, axis("mode", ["linear", "frozen"]), seeds),
        product(base, fixed({"data.labels": "labels", "mode": "linear", "weight_decay": 0.1, "learning_rate": 0.1})),
    )


def config(store, weights, axes=None, **changes):
    small = {"common.epochs": 3, "common.batch_size": 16, "common.interval.replicates": 20, "common.log_every": 3}
    made = stub.config(store, mixed() if axes is None else axes, **{**small, "weights": weights, **changes})
    made.common.data.labels = None
    return made


def run_alone(cell, folder):
    evaluate.run(cell.config(), folder)
    return folder


def read_log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_equal(folder, alone, tolerance=2e-5):
    """Results of a cell in a unit are those of the cell alone, or of an undisturbed unit."""
    with np.load(folder / "predictions.npz") as ours, np.load(alone / "predictions.npz") as theirs:
        assert ours.files == theirs.files
        for name in set(ours.files) - {"scores"}:
            np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=tolerance)
    ours, theirs = (json.loads((path / "results.json").read_text()) for path in (folder, alone))
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"seconds", "best", "tasks"}:
        assert ours[name] == theirs[name], name
    assert ours["best"]["epoch"] == theirs["best"]["epoch"]
    for a, b in zip(read_log(folder), read_log(alone), strict=True):
        assert list(a) == list(b)
        for key in a.keys() - {"seconds"}:
            np.testing.assert_allclose(a[key], b[key], rtol=2e-4, atol=tolerance)
    assert json.loads((folder / "config.json").read_text()) == json.loads((alone / "config.json").read_text())
    ours, theirs = ({file.name for file in path.iterdir()} for path in (folder, alone))
    assert theirs - {"checkpoints"} <= ours
