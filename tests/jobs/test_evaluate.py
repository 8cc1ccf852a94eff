"""Job "evaluate" from end to end: what every mode leaves behind, and what is said about it."""

import json

import numpy as np
import pytest
from rich.console import Console

import ecgjax
from ecgjax import bootstrap
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate
from ecgjax.models.model import load_model
from ecgjax.models.weights import save_weights
from ecgjax.reporting import evaluation_report
from tests.jobs.evaluate_run import make_config, read_log, read_predictions, read_results

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("weights")
    model = load_model("tiny", seed=3, width=32)
    save_weights(folder, model.encoder, model.variables)
    return folder


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory, tiny):
    """A finished run on classes and a measurement."""
    workdir = tmp_path_factory.mktemp("finished")
    evaluate.run(make_config(store, labels="joint", protocol="paper", save_crops=True), workdir)
    return workdir


@pytest.mark.parametrize("mode", ["finetune", "finetune_attention", "frozen", "linear"])
def test_every_mode_ends_with_results(store, weights, tmp_path, mode, capsys):
    evaluate.run(make_config(store, mode=mode, weights=str(weights), epochs=6), tmp_path)
    assert (tmp_path / "DONE").exists()
    found, predictions = read_results(tmp_path), read_predictions(tmp_path)
    assert (found["mode"], found["model"], found["arguments"]["width"]) == (mode, "tiny", 32)
    assert found["weights"] == json.loads((weights / "card.json").read_text())["sha256"]
    assert (found["protocol"], found["absent"]) == ("fixed", "skip")
    assert found["data"]["synthetic"] is True
    trains_encoder = mode.startswith("finetune")
    assert (found["parameters"]["trained"] == found["parameters"]["total"]) == trains_encoder
    assert (tmp_path / "weights" / "card.json").exists() == trains_encoder
    assert predictions["record_id"].tolist() == [f"r{k}" for k in range(72, 80)]
    # results.json says of predictions.npz what the public functions say.
    auroc = found["tasks"]["synthetic"]["auroc"]
    expected = bootstrap.intervals(predictions["targets"], predictions["scores"], replicates=50)
    assert [auroc["value"], auroc["low"]] == pytest.approx([expected.macro_value, expected.macro_low])
    labels = auroc["labels"]
    assert list(labels) == predictions["labels"].tolist() == ["SR", "AFIB", "OFFSET"]
    assert [row["high"] for row in labels.values()] == pytest.approx(expected.high.tolist())
    assert [row["positives"] for row in labels.values()] == predictions["targets"].sum(axis=0).tolist()
    drawn = {file.name for file in (tmp_path / "figures").iterdir()}
    assert drawn == {f"{name}.{suffix}" for name in ("learning_curve", "auroc") for suffix in ("png", "svg")}
    printed = capsys.readouterr().out
    assert "3 of 3 labels" in printed
    assert "early" in printed if trains_encoder else "frozen encoder" in printed
    losses = [line["train/loss"] for line in read_log(tmp_path) if "epoch" in line]
    assert losses[-1] < losses[0]


def test_a_published_architecture_learns_from_scratch(store, tmp_path, capsys):
    small = {"model_arguments.width": 16, "model_arguments.layers": 1, "learning_rate": 1e-2, "epochs": 8}
    evaluate.run(make_config(store, model="s4", mode="scratch", **small), tmp_path)
    printed = capsys.readouterr().out
    assert "random initialisation" in printed
    assert "late" not in printed  # one rate for everything
    found = read_results(tmp_path)
    assert found["weights"] is None
    losses = [line["train/loss"] for line in read_log(tmp_path) if "epoch" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_classes_and_measurements_are_trained_together(finished):
    found, arrays = read_results(finished), read_predictions(finished)
    assert found["absent"] == "half"
    assert found["best"]["criterion"] == "-(1 - macro_auroc + mae)"
    assert arrays["labels"].tolist() == ["SR", "AFIB", "OFFSET", "amplitude"]
    pooled = ecgjax.metrics.mae(arrays["targets"][:, 3:], arrays["scores"][:, 3:], pooled=True)
    assert found["tasks"]["synthetic"]["mae"]["value"] == pytest.approx(pooled)
    assert found["tasks"]["synthetic"]["mae"]["labels"]["amplitude"]["positives"] is None
    epochs = [line for line in read_log(finished) if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    for line in epochs:
        assert line["validation/score"] == pytest.approx(line["validation/macro_auroc"] - 1 - line["validation/mae"])
    assert found["best"]["score"] == max(line["validation/score"] for line in epochs)


def test_record_scores_are_means_over_windows(finished):
    found, arrays = read_results(finished), read_predictions(finished)
    assert found["windows"] == len(arrays["crop_scores"]) == 2 * found["records"]["test"]
    assert sorted(set(arrays["crop_start"].tolist())) == [0.0, 2.5]
    for record, score in enumerate(arrays["scores"]):
        own = arrays["crop_scores"][arrays["crop_record"] == record]
        np.testing.assert_allclose(own.mean(axis=0), score, rtol=1e-6)
    assert ((arrays["scores"][:, :3] > 0) & (arrays["scores"][:, :3] < 1)).all()


def test_predictions_are_those_of_the_best_checkpoint(store, tmp_path):
    # A rate so large that later epochs are worse: the best is not the last.
    evaluate.run(make_config(store, mode="finetune", epochs=4, learning_rate=1.0, labels="joint"), tmp_path)
    scores = [line["validation/score"] for line in read_log(tmp_path) if "epoch" in line]
    best = read_results(tmp_path)["best"]
    assert best["epoch"] == 1 + int(np.argmax(scores))
    again = tmp_path / "again"
    evaluate.run(make_config(store, mode="finetune", epochs=4, learning_rate=1.0, labels="joint"), again)
    np.testing.assert_array_equal(read_predictions(tmp_path)["scores"], read_predictions(again)["scores"])


def test_a_finished_run_is_shown_not_repeated(store, finished, monkeypatch, capsys):
    config = make_config(store, labels="joint", protocol="paper", save_crops=True)
    monkeypatch.setattr(evaluate, "set_up", None)
    evaluate.run(config, finished)
    printed = capsys.readouterr().out
    assert "done already" in printed
    assert "macro average" in printed
    config.seed = 1
    with pytest.raises(UserError, match=r"config.seed was 0 and is 1"):
        evaluate.run(config, finished)


def test_the_table_fits_100_columns(finished):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    evaluation_report.show(finished, console)
    table = [line for line in console.export_text().splitlines() if str(finished) not in line]
    assert max(map(len, table)) <= 100
    text = "\n".join(table)
    for part in (
        "macro average",
        "3 of 3 labels",
        "pooled",
        "1 of 1 labels",
        "8 test synthetic records",
        "undefined classes counted 0.5",
    ):
        assert part in text


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_the_unit_of_the_bootstrap(store, tmp_path, unit):
    evaluate.run(make_config(store, epochs=1, **{"interval.unit": unit, "interval.kind": "basic"}), tmp_path)
    predictions, auroc = read_predictions(tmp_path), read_results(tmp_path)["tasks"]["synthetic"]["auroc"]
    groups = np.arange(8) // 2 if unit == "patient" else None
    expected = bootstrap.intervals(
        predictions["targets"], predictions["scores"], replicates=50, kind="basic", groups=groups
    )
    assert [auroc["low"], auroc["high"]] == pytest.approx([expected.macro_low, expected.macro_high])


def test_rows_of_a_head_run_are_reported_together(store, tmp_path, capsys):
    config = make_config(store, epochs=1)
    config.task = "ptbxl_rhythm"  # SR and AFIB are rhythms of PTB-XL, OFFSET is taken for a diagnosis
    evaluate.run(config, tmp_path)
    found = read_results(tmp_path)
    assert found["run"] == "ptbxl_all"
    assert {name: list(task["auroc"]["labels"]) for name, task in found["tasks"].items()} == {
        "ptbxl_rhythm": ["SR", "AFIB"],
        "ptbxl_all": ["SR", "AFIB", "OFFSET"],
        "ptbxl_diag": ["OFFSET"],
    }
    assert found["tasks"]["ptbxl_rhythm"]["row"] == "PTB-XL (Rhythm)"
    assert "other tasks on the same predictions: AUROC" in capsys.readouterr().out
