import numpy as np
import pytest

from configs.features import get_config
from ecgjax.data.resampling import resample
from ecgjax.errors import UserError
from ecgjax.jobs import features
from ecgjax.models.encoder import CANONICAL_LEADS
from ecgjax.models.model import load_model
from ecgjax.models.weights import save_weights


@pytest.fixture(scope="module")
def model(tiny):
    return load_model("tiny", seed=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("weights")
    save_weights(folder, model.encoder, model.variables)
    return folder


@pytest.fixture(scope="module")
def signals():
    x = np.random.default_rng(0).standard_normal((5, 250, 12)).astype(np.float32)
    x[1, 60:90, 3] = np.nan
    return x


def _run(tmp_path, weights, batch_size=2, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    config = get_config()
    config.model, config.batch_size = "tiny", batch_size
    config.weights = None if weights is None else str(weights)
    config.input, config.output = str(tmp_path / "x.npz"), str(tmp_path / "y.npz")
    features.run(config, None)
    with np.load(tmp_path / "y.npz") as file:
        assert set(file.files) == {"sequence", "pooled"}
        return file["sequence"], file["pooled"]


def test_same_as_the_python_surface(tmp_path, weights, model, signals):
    sequence, pooled = _run(tmp_path, weights, signals=signals, sampling_rate=50)
    expected = model.features(signals)
    np.testing.assert_allclose(sequence, expected.sequence, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled, expected.pooled, rtol=1e-5, atol=1e-6)


def test_other_rates_are_resampled(tmp_path, weights, model, signals):
    _, pooled = _run(tmp_path, weights, signals=signals, sampling_rate=100.0)
    np.testing.assert_allclose(pooled, model.features(resample(signals, 100, 50)).pooled, rtol=1e-5, atol=1e-6)


def test_leads_are_matched_by_name(tmp_path, weights, model, signals):
    order = np.random.default_rng(1).permutation(12)
    names = np.array(CANONICAL_LEADS)[order]
    _, pooled = _run(tmp_path, weights, signals=signals[..., order], sampling_rate=50, lead_names=names)
    np.testing.assert_allclose(pooled, model.features(signals).pooled, rtol=1e-5, atol=1e-6)


def test_missing_limb_leads_are_derived_and_said(tmp_path, weights, model, signals, capsys):
    given = [0, 1, *range(6, 12)]
    names = [CANONICAL_LEADS[i] for i in given]
    full = np.nan_to_num(signals)
    i, ii = full[..., 0], full[..., 1]
    full[..., 2:6] = np.stack([ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=-1)
    _, pooled = _run(tmp_path, weights, signals=full[..., given], sampling_rate=50, lead_names=names)
    np.testing.assert_allclose(pooled, model.features(full).pooled, rtol=1e-4, atol=1e-5)
    assert "leads III, aVR, aVL, aVF are derived" in capsys.readouterr().err


def test_random_initialisation_is_said(tmp_path, signals, capsys):
    _run(tmp_path, None, signals=signals, sampling_rate=50)
    assert "random initialisation (seed 0)" in capsys.readouterr().err


X = np.zeros((2, 125, 12), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"signals": X}, "has no 'sampling_rate' .it has signals.; expected"),
        ({"sampling_rate": 50}, "has no 'signals'"),
        ({"signals": X[0], "sampling_rate": 50}, r"signals is float32 \(125, 12\); expected numbers \(batch, samples"),
        ({"signals": X, "sampling_rate": 0}, "sampling_rate is 0; expected one positive number in Hz"),
        ({"signals": X, "sampling_rate": np.array([50, 250])}, "sampling_rate is .50, 250.; expected one"),
        ({"signals": X[..., :8], "sampling_rate": 50}, "no lead_names for 8 leads"),
        ({"signals": X, "sampling_rate": 50, "lead_names": ["I", "II"]}, "2 lead_names for 12 leads"),
        (
            {"signals": X[..., :2], "sampling_rate": 50, "lead_names": ["I", "II"]},
            "no lead V1, V2, V3, V4, V5, V6",
        ),
        ({"signals": X[..., :2], "sampling_rate": 50, "lead_names": ["I", "I"]}, "x.npz.*I"),
        ({"signals": X + np.inf, "sampling_rate": 50}, "signals of record 0 hold an infinite value"),
    ],
)
def test_bad_input(tmp_path, weights, arrays, message):
    with pytest.raises(UserError, match=message):
        _run(tmp_path, weights, **arrays)
    assert not (tmp_path / "y.npz").exists()


def test_bad_files(tmp_path, weights, signals):
    config = get_config()
    with pytest.raises(UserError, match=r"config.input is empty"):
        features.run(config, None)
    config.input, config.output = str(tmp_path / "none.npz"), str(tmp_path / "y.npz")
    with pytest.raises(UserError, match=r"none.npz: no such file"):
        features.run(config, None)
    (tmp_path / "none.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(UserError, match=r"none.npz: "):
        features.run(config, None)
    np.savez(tmp_path / "none.npz", signals=signals, sampling_rate=50)
    content = (tmp_path / "none.npz").read_bytes()
    (tmp_path / "none.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"none.npz: "):
        features.run(config, None)


def test_output_into_a_missing_folder_names_it(tmp_path, weights, signals):
    np.savez(tmp_path / "x.npz", signals=signals, sampling_rate=50)
    config = get_config()
    config.model, config.weights = "tiny", str(weights)
    config.input, config.output = str(tmp_path / "x.npz"), str(tmp_path / "none" / "y.npz")
    with pytest.raises(UserError, match="none: no such folder"):
        features.run(config, None)
