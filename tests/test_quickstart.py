"""Pieces of the quickstart: what it prints, draws and predicts. The whole of it is run by scripts/quickstart.sh."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import ecgjax
from configs import evaluate as evaluate_config
from ecgjax import quickstart
from ecgjax.data.embedded import dicom_recording_path, synthetic_store
from ecgjax.data.recording import Recording
from ecgjax.data.sources.synthetic import CLASSES
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate
from ecgjax.reporting import evaluation_report


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """An evaluation of a tiny model, fine-tuned for one epoch on forty synthetic records."""
    folder = tmp_path_factory.mktemp("quickstart")
    config = evaluate_config.get_config("model=ecg_cpc,task=synthetic,mode=finetune")
    config.model_arguments.update(width=16, layers=1)
    config.data.store = str(synthetic_store(folder, records=40))
    config.update(epochs=1, batch_size=8, learning_rate=1e-2)
    config.interval.replicates = 20
    evaluate.run(config, folder / "finetune")
    return folder / "finetune"


@pytest.fixture(scope="module")
def recording() -> Recording:
    return ecgjax.read_recording(dicom_recording_path())


def printed(table) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_prediction_is_what_the_evaluation_predicted(run):
    with np.load(run / "predictions.npz") as predictions:
        record, scores = str(predictions["record_id"][0]), predictions["scores"][0]
    store = ecgjax.open_store(next(run.parent.glob("synthetic-*")))
    predicted = quickstart.predict(run, Recording(record, store.signal(record), store.sampling_rate))
    assert list(predicted) == list(CLASSES)
    np.testing.assert_allclose(list(predicted.values()), scores, rtol=1e-4)


def test_comparison_names_every_evaluation_and_says_that_it_is_synthetic(run):
    found = evaluation_report.read_results(run)
    text = printed(quickstart.comparison_table(dict.fromkeys(quickstart.EVALUATIONS, found)))
    assert "not real patients" in text
    assert f"{found['tasks']['synthetic']['auroc']['value']:.3f}" in text
    for name in quickstart.EVALUATIONS.values():
        assert name in text


def test_genuine_table_shows_what_the_file_says_beside_the_model(recording):
    text = printed(quickstart.genuine_table(recording, {"AFIB": 0.1, "SR": 0.875}))
    assert "RITMO SINUSALE" in text
    assert "PR Interval 161 ms" in text
    assert text.index("0.88") < text.index("0.10")  # the most probable first


def test_figures_are_drawn(run, recording, tmp_path):
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "metrics.jsonl").write_text('{"step": 1, "seconds": 1.0, "loss": 2.0, "accuracy": 0.1}\n')
    results = dict.fromkeys(quickstart.EVALUATIONS, evaluation_report.read_results(run))
    figures = quickstart.draw(tmp_path, results, recording)
    assert set(figures) == {"learning curve", "comparison", "ECG"}
    assert all(path.stat().st_size > 0 for path in figures.values())


def test_a_job_that_fails_ends_the_quickstart_with_its_exit_code(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 2))
    with pytest.raises(SystemExit) as stopped:
        quickstart.quickstart(tmp_path, Console())
    assert stopped.value.code == 2


def test_a_run_without_weights_is_refused(recording, tmp_path):
    with pytest.raises(UserError, match="expected a folder of ecgjax weights or a run's workdir"):
        quickstart.predict(tmp_path, recording)
