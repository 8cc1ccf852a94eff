"""Layers against the model's own taps, probes against scikit-learn, and the job on the embedded data."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import ecgjax
from configs.similarity import get_config
from ecgjax import cka
from ecgjax.data import embedded
from ecgjax.data.resampling import resample
from ecgjax.errors import UserError
from ecgjax.evaluation.layers import layer_features
from ecgjax.evaluation.probes import probe
from ecgjax.jobs import similarity


@pytest.fixture(scope="module")
def store():
    return ecgjax.open_store(embedded.synthetic_store())


def test_layers_are_the_token_means_of_the_taps(store) -> None:
    model = ecgjax.load_model("s4", width=16, layers=2)
    rows = np.array([3, 1, 8, 2, 5])
    found = layer_features(model, store, rows, batch_size=2)
    names = store.records["record_id"].to_numpy()[rows]
    window = np.stack([store.signal(name)[: int(model.spec.seconds * 500)] for name in names])
    taps = model.features(resample(window, 500, model.spec.sampling_rate)).taps
    assert set(found) == set(taps)
    for name, values in taps.items():
        values = np.asarray(values)
        expected = values.reshape(len(rows), -1, values.shape[-1]).mean(axis=1)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=2e-5)
    only = layer_features(model, store, rows, only=[list(found)[-1]])
    assert list(only) == [list(found)[-1]]
    with pytest.raises(UserError, match="no layer 'x'; expected some of"):
        layer_features(model, store, rows, only=["x"])


def test_probes_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    y = (x[:, :2] + rng.normal(size=(200, 2)) > 0.3).astype(np.float32)
    y[::7, 1] = np.nan
    scores, chosen = probe((x[:120], y[:120]), (x[120:160], y[120:160]), x[160:])
    assert scores.shape == (40, 2)
    assert ecgjax.metrics.macro_auroc(y[160:], scores) > 0.7
    assert chosen in (1e-4, 1e-3, 1e-2, 1e-1)
    z = (x - x[:120].mean(axis=0)) / x[:120].std(axis=0)
    for c in range(2):
        known = np.flatnonzero(~np.isnan(y[:120, c]))
        # scikit-learn's C multiplies the sum of the losses.
        theirs = LogisticRegression(C=1 / (chosen * len(known)), tol=1e-8, solver="newton-cholesky").fit(
            z[known], y[known, c]
        )
        np.testing.assert_allclose(scores[:, c], theirs.decision_function(z[160:]), atol=1e-4)


def run(workdir: Path, **fields: object) -> None:
    config = get_config()
    for name, value in fields.items():
        config[name] = value
    similarity.run(config, workdir)


def test_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"width": 16, "layers": 2}
    monkeypatch.setattr(
        similarity, "load_model", lambda name, weights, seed: ecgjax.load_model(name, seed=seed, **small)
    )
    how = {"models": "s4,ecg_cpc", "records": 40, "estimator": "minibatch", "batch": 20}
    run(tmp_path / "run", **how, probes=True, probe_records=60)
    assert "s4 and ecg_cpc: CKA" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "similarity.json").read_text())
    assert [(pair["model_x"], pair["model_y"]) for pair in result["pairs"]] == [
        ("s4", "s4"),
        ("s4", "ecg_cpc"),
        ("ecg_cpc", "ecg_cpc"),
    ]
    own, cross, _ = (np.array(pair["matrix"], float) for pair in result["pairs"])
    np.testing.assert_allclose(np.diag(own), 1, atol=1e-5)
    np.testing.assert_array_equal(own, own.T)
    layers = [result["models"][name]["layers"] for name in ("s4", "ecg_cpc")]
    assert cross.shape == (len(layers[0]), len(layers[1]))
    assert [entry["layer"] for entry in result["probes"]] == layers[0] + layers[1]
    assert all(0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1 for entry in result["probes"])
    assert (tmp_path / "run" / "figures" / "similarity_s4_ecg_cpc.svg").is_file()
    assert (tmp_path / "run" / "DONE").is_file()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models": "s4,s4"}, "names s4 twice"),
        ({"models": ""}, "config.models is empty"),
        ({"estimator": "minibatch"}, "config.batch is None"),
        ({"estimator": "kernel"}, "config.estimator is 'kernel'"),
        ({"models": "s4=nowhere"}, "nowhere"),
        ({"records": 0}, "config.records is 0"),
    ],
)
def test_bad_configs(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **fields)
    assert not (tmp_path / "run").exists()


def test_the_modules_name() -> None:
    assert ecgjax.cka is cka
