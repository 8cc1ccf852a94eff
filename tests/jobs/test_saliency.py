"""Job "saliency" on runs of all kinds of heads: their own scores, files and figure."""

import json
import shutil

import numpy as np
import pytest

import ecgjax
from configs.saliency import get_config
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate, evaluate_outcome, saliency
from tests.jobs.evaluate_run import make_config, read_predictions

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory, tiny):
    """A run of every way to keep a head, and test record r72 as a file."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_outcome.cell_values, "keep", lambda folder: None)
        for mode in ("linear_exact", "frozen", "finetune_attention"):
            config = make_config(store, mode=mode, labels="joint", epochs=1, figures=False, seed=3)
            evaluate.run(config, folder / mode)
    np.save(folder / "r72.npy", ecgjax.open_store(store).signal("r72"))
    about = {"sampling_rate": 100, "unit": "mV", "leads": list(ecgjax.data.leads.CANONICAL)}
    (folder / "r72.json").write_text(json.dumps(about))
    return folder


def make(runs, mode, workdir, **changes):
    config = get_config()
    config.update_from_flattened_dict({"weights": str(runs / mode), "recording": str(runs / "r72.npy"), **changes})
    saliency.run(config, workdir)
    with np.load(workdir / "saliency.npz") as file:
        return dict(file)


@pytest.mark.parametrize(
    ("mode", "method"),
    [("linear_exact", "integrated_gradients"), ("frozen", "attention"), ("finetune_attention", "gradient")],
)
def test_every_head(runs, tmp_path, mode, method, capsys):
    found = make(runs, mode, tmp_path, method=method, steps=4, label="AFIB")
    predictions = read_predictions(runs / mode)
    column = predictions["labels"].tolist().index("AFIB")
    assert float(found["score"]) == pytest.approx(float(predictions["scores"][0, column]), abs=1e-5)
    assert found["values"].shape == (2, 125, 12)
    assert found["start"].tolist() == [0.0, 2.5]
    assert ("gap" in found) == (method == "integrated_gradients")
    assert (tmp_path / "saliency.png").stat().st_size > 10_000
    assert f"AFIB: probability {float(found['score']):.3f}" in capsys.readouterr().out


def test_the_most_probable_class_and_a_measurement(runs, tmp_path, capsys):
    found = make(runs, "linear_exact", tmp_path, method="gradient")
    scores = read_predictions(runs / "linear_exact")
    assert str(found["label"]) == scores["labels"][np.argmax(scores["scores"][0, :3])]
    make(runs, "linear_exact", tmp_path, method="gradient", label="amplitude", layout="3x4")
    assert "amplitude: standardised value" in capsys.readouterr().out


def test_what_cannot_be_is_refused(runs, tmp_path):
    for changes, message in (
        ({"label": "XX"}, r"config.label is 'XX'; expected one of the run's 4: SR, AFIB, OFFSET, amplitude"),
        ({"weights": str(tmp_path)}, "no finished evaluation"),
        ({"method": "lime"}, "config.method is 'lime'"),
        ({"recording": str(runs / "no.npy")}, "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            make(runs, "linear_exact", tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()
    shutil.copytree(runs / "frozen", tmp_path / "swept", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(UserError, match="has no checkpoints, as cells of a sweep"):
        make(tmp_path, "swept", tmp_path / "out", recording=str(runs / "r72.npy"))
