"""Mode "linear_exact" from end to end: what the run leaves is what scikit-learn fits to the model's own features."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import ecgjax
from ecgjax.data.crops import mean_by_record
from ecgjax.data.resampling import resample
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate, evaluate_exact
from ecgjax.models.model import load_model
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import read_metrics
from tests.jobs.conftest import RATE
from tests.jobs.evaluate_run import make_config, read_predictions, read_results

pytestmark = pytest.mark.usefixtures("tiny")

STRENGTHS = (1e-3, 1e-1)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory, tiny):
    workdir = tmp_path_factory.mktemp("exact")
    config = make_config(
        store, mode="linear_exact", labels="joint", save_crops=True, **{"probe.strengths": STRENGTHS, "seed": 3}
    )
    evaluate.run(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def windows(store, tiny):
    """Standardised features of both windows of every record, by the model's public functions."""
    opened = ecgjax.open_store(store)
    signals = np.stack([opened.signal(f"r{k}") for k in range(80)])
    model = load_model("tiny", seed=3)
    cut = np.stack([signals[:, :250], signals[:, 250:500]], axis=1).reshape(160, 250, 12)
    pooled = np.asarray(model.features(np.asarray(jax.jit(lambda x: resample(x, RATE, 50.0))(cut))).pooled)
    train = pooled[:128].astype(np.float64)
    z = (pooled - train.mean(axis=0)) / np.where(train.std(axis=0) > 1e-6, train.std(axis=0), 1)
    return z, opened.targets("joint")


def test_the_run_is_whole(finished):
    assert (finished / "DONE").exists()
    assert not (finished / "features").exists()
    found = read_results(finished)
    assert (found["mode"], found["best"]["epoch"]) == ("linear_exact", None)
    assert set(found["best"]["strength"]) == {"SR", "AFIB", "OFFSET", "amplitude"}
    assert set(found["best"]["strength"].values()) <= set(STRENGTHS)
    assert found["best"]["gradient"] < 1e-8
    assert found["parameters"]["trained"] == 16 * 4 + 4 < found["parameters"]["total"]
    assert found["windows"] == 16
    lines = read_metrics(finished / "metrics.jsonl")
    assert [line["strength"] for line in lines] == list(STRENGTHS)
    assert {file.name for file in (finished / "figures").iterdir()} >= {"learning_curve.png", "auroc.png", "mae.png"}


def test_scores_are_those_of_scikit_learn(finished, windows):
    z, targets = windows
    found, predictions = read_results(finished), read_predictions(finished)
    repeated = np.repeat(targets, 2, axis=0)
    columns = {"amplitude": 0, "SR": 1, "AFIB": 2, "OFFSET": 3}  # of the store
    assert predictions["labels"].tolist() == ["SR", "AFIB", "OFFSET", "amplitude"]
    for k, label in enumerate(predictions["labels"]):
        y, strength = repeated[:128, columns[label]], found["best"]["strength"][label]
        if label == "amplitude":
            values = Ridge(alpha=strength * 128).fit(z[:128], y).predict(z[144:])
        else:
            regression = LogisticRegression(C=1 / (strength * 128), solver="newton-cholesky", tol=1e-10)
            values = regression.fit(z[:128], y).predict_proba(z[144:])[:, 1]
        np.testing.assert_allclose(predictions["scores"][:, k], values.reshape(8, 2).mean(axis=1), atol=2e-4)


def test_the_head_gives_the_predictions(finished, store):
    with np.load(finished / "probe.npz") as file:
        probe = dict(file)
    predictions = read_predictions(finished)
    model = load_model("tiny", seed=3)
    signal = ecgjax.open_store(store).signal("r72")[None, :250]
    pooled = np.asarray(model.features(np.asarray(jax.jit(lambda x: resample(x, RATE, 50.0))(signal))).pooled)
    logits = (pooled @ probe["kernel"] + probe["bias"])[0]
    expected = np.concatenate([1 / (1 + np.exp(-logits[:3])), logits[3:]])
    np.testing.assert_allclose(predictions["crop_scores"][0], expected, atol=1e-4)
    assert probe["labels"].tolist() == predictions["labels"].tolist()
    assert probe["validation"].shape == probe["gradient"].shape == (2, 4)


@pytest.mark.parametrize("choose", ["together", "each"])
def test_the_strength_is_the_best_on_the_validation_fold(store, tmp_path, choose):
    changes = {"probe.strengths": (1e-5, 1e-2, 10.0), "probe.choose": choose, "probe.classification": "ridge"}
    evaluate.run(make_config(store, mode="linear_exact", figures=False, **changes), tmp_path)
    with np.load(tmp_path / "probe.npz") as file:
        chosen, values = file["chosen"], file["validation"]
    if choose == "each":
        assert (values[chosen, np.arange(3)] == values.max(axis=0))[:2].all()
    else:
        assert len(set(chosen.tolist())) == 1
        assert values[chosen[0], :2].mean() == values[:, :2].mean(axis=1).max()
    assert np.isnan(values[:, 2]).all()  # the validation fold has no negative
    assert chosen[2] in chosen[:2] or choose == "each"
    scores = read_predictions(tmp_path)["scores"]
    assert ((scores > 0) & (scores < 1)).all()


def test_a_killed_run_goes_on(store, tmp_path, finished, monkeypatch):
    """The features that were computed are still there, and the result is that of an undisturbed run."""
    changes = {"probe.strengths": STRENGTHS, "seed": 3}
    config = make_config(store, mode="linear_exact", labels="joint", figures=False, **changes)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_exact, "fit", _killed)
        with pytest.raises(RuntimeError, match="killed"):
            evaluate.run(config, tmp_path)
    assert list((tmp_path / "features").glob("*/*/pooled.npy"))
    monkeypatch.setattr(evaluate_exact.features, "_compiled", _killed)  # nothing is computed again
    evaluate.run(config, tmp_path)
    ours, theirs = read_predictions(tmp_path), read_predictions(finished)
    np.testing.assert_array_equal(ours["scores"], theirs["scores"])


def _killed(*_):
    raise RuntimeError("killed")


def test_a_record_counts_once_however_long_it_is(store, tiny, tmp_path):
    """Weights of windows: the same optimum as with the longer records' windows averaged in the loss."""
    config = make_config(store, mode="linear_exact")
    from ecgjax import tasks
    from ecgjax.jobs.evaluate_setting import Parts, load
    from ecgjax.training.run_directory import RunDirectory

    subject = load(config, RunDirectory(tmp_path), *tasks.get(config.task), Parts())
    subject.data.store.records.loc[:9, "samples"] = 250  # of these, one window only
    cache = evaluate_exact.obtain([subject], tmp_path / "features", Interrupt())
    x, windows = evaluate_exact._read(subject, cache, "train")
    assert np.bincount(windows.record)[:12].tolist() == [1] * 10 + [2] * 2
    evaluate_exact.fit(subject, cache, 0.0)
    with np.load(tmp_path / "probe.npz") as file:
        probe = dict(file)
    logits = x.astype(np.float64) @ probe["kernel"] + probe["bias"]
    residual = 1 / (1 + np.exp(-logits)) - subject.data.targets[windows.record]
    # The bias is not penalised: its derivative says how records are weighed.
    np.testing.assert_allclose(mean_by_record(residual, windows.record, 64).mean(axis=0), 0, atol=1e-6)


def test_the_mode_belongs_into_the_name_of_the_config(store, tmp_path):
    config = make_config(store, mode="linear")
    config.mode = "linear_exact"
    with pytest.raises(UserError, match=r"expected it as configs/evaluate.py:mode=linear_exact"):
        evaluate.run(config, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe.strengths": (0.1, 0.0)}, r"config.probe.strengths is \(0.1, 0.0\); expected different positive"),
        ({"probe.choose": "label"}, r"config.probe.choose is 'label'; expected one of together, each"),
        ({"probe.solver": "sgd"}, r"config.probe.solver is 'sgd'"),
        ({"signal.policy": "dropout"}, r"config.signal.policy is 'dropout' in mode linear_exact; expected"),
        ({"probe.classification": "svm"}, r"config.probe.classification is 'svm'; expected one of logistic, ridge"),
    ],
)
def test_what_cannot_be_is_refused(store, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate.run(make_config(store, mode="linear_exact", **changes), tmp_path)
