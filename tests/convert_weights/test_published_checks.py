"""The comparison with published logits, on a small ECGFounder whose logits are known by another way."""

import numpy as np
import pytest

import ecgjax
from convert_weights import published_checks
from ecgjax.errors import UserError

FILE = "12_lead_ECGFounder.pth"


@pytest.fixture(scope="module")
def model() -> ecgjax.models.model.Model:
    return ecgjax.load_model("ecg_founder")


def head(model: ecgjax.models.model.Model, outputs: int = 150) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {"linear": {"kernel": rng.normal(size=(model.spec.channels, outputs)), "bias": rng.normal(size=outputs)}}


def test_the_input_is_the_published_one() -> None:
    x = published_checks.CHECKS[FILE].input()
    assert x.shape == (1, 5000, 12)
    np.testing.assert_allclose(x[0, :, 0], np.linspace(-1, 1, 60_000)[:5000], atol=1e-7)
    np.testing.assert_allclose(x[0, -1, 11], 1)


def test_logits(model: ecgjax.models.model.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = head(model)
    check = published_checks.CHECKS[FILE]
    pooled = np.asarray(model.features(check.input()).sequence[0], np.float64).mean(0)
    logits = pooled @ layer["linear"]["kernel"] + layer["linear"]["bias"]
    monkeypatch.setitem(published_checks.CHECKS, FILE, check._replace(logits=tuple(logits[:10].round(4))))
    said = published_checks.compare(model, layer, FILE)
    assert said is not None
    assert said.startswith(f"the first 10 logits are those published for {FILE}")
    logits[3] += 0.01
    monkeypatch.setitem(published_checks.CHECKS, FILE, check._replace(logits=tuple(logits[:10])))
    with pytest.raises(UserError, match=r"first logits differ by 0\.01 from"):
        published_checks.compare(model, layer, FILE)


def test_another_file_and_another_layer(model: ecgjax.models.model.Model) -> None:
    assert published_checks.compare(model, head(model), "mine.pth") is None
    with pytest.raises(UserError, match="150 outputs, these weights have 71"):
        published_checks.compare(model, head(model, 71), FILE)
    with pytest.raises(UserError, match="150 outputs, these weights have 0"):
        published_checks.compare(model, {}, FILE)
