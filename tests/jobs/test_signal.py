"""Job "evaluate" on fewer leads and worse signals."""

import numpy as np
import pytest

from ecgjax.data.recording import Recording
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate
from tests.jobs.evaluate_run import make_config, read_log, read_predictions, read_results

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def clean(store, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("clean")
    evaluate.run(make_config(store, figures=False), workdir)
    return workdir


def test_lead_one_is_a_store_whose_other_leads_are_zero(store, tmp_path):
    opened = open_store(store)
    with StoreWriter(tmp_path / "zeroed", source="synthetic", sampling_rate=opened.sampling_rate) as writer:
        for record in opened.records.itertuples():
            signal = opened.signal(record.record_id)
            signal[:, 1:] = 0
            recording = Recording(
                record.record_id, signal, opened.sampling_rate, microvolt_per_bit=record.microvolt_per_bit
            )
            writer.add(recording, patient_id=record.patient_id, fold=record.fold)
        labels = (opened.classes("labels"), opened.targets("labels"), opened.kinds("labels"))
        writer.finish({"labels": labels})
    evaluate.run(make_config(store, mode="finetune", figures=False, **{"signal.leads": "I"}), tmp_path / "a")
    evaluate.run(make_config(tmp_path / "zeroed", mode="finetune", figures=False), tmp_path / "b")
    a, b = (read_predictions(tmp_path / name) for name in "ab")
    np.testing.assert_array_equal(a["scores"], b["scores"])
    assert read_log(tmp_path / "a") == read_log(tmp_path / "b")
    found = read_results(tmp_path / "a")
    assert found["signal"] == {"leads": ["I"], "policy": "zero"}
    assert read_results(tmp_path / "b")["signal"] is None
    assert found["tasks"] == read_results(tmp_path / "b")["tasks"]


def test_noise_is_in_the_test_records_only(store, clean, tmp_path, capsys):
    noisy = {"signal.baseline_wander": -10.0, "signal.missing": 0.2}
    evaluate.run(make_config(store, figures=False, **noisy), tmp_path)
    assert read_log(tmp_path) == read_log(clean)  # training and validation
    assert np.abs(read_predictions(tmp_path)["scores"] - read_predictions(clean)["scores"]).max() > 0.01
    expected = {"baseline_wander": -10.0, "missing": 0.2, "disturbed": "test", "seed": 0}
    assert read_results(tmp_path)["signal"] == expected
    assert "signal    baseline wander at -10 dB, 20 % lost in test" in capsys.readouterr().out


def test_random_leads_in_training_are_the_same_wherever_signals_lie(store, clean, tmp_path):
    logs = []
    for placement in ("device", "host"):
        signal = {"signal.leads": "2", "signal.policy": "dropout", "data.placement": placement}
        evaluate.run(make_config(store, figures=False, **signal), tmp_path / placement)
        logs.append([line["train/loss"] for line in read_log(tmp_path / placement)])
        expected = {"leads": ["I", "II"], "policy": "dropout", "seed": 0}
        assert read_results(tmp_path / placement)["signal"] == expected
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    assert logs[0] != pytest.approx([line["train/loss"] for line in read_log(clean)], rel=1e-3)


def test_derived_leads_are_stored_with_the_run(store, tmp_path):
    evaluate.run(make_config(store, figures=False, **{"signal.leads": "2", "signal.policy": "derive"}), tmp_path)
    derivation = read_results(tmp_path)["signal"]["derivation"]
    matrix = np.array(derivation["matrix"])
    assert derivation["records"] == 64
    np.testing.assert_array_equal(matrix[:, :2], np.eye(12)[:, :2])
    np.testing.assert_array_equal(matrix[:2, 2:6], [[-1, -0.5, 1, -0.5], [1, -0.5, -0.5, 1]])
    assert not matrix[2:].any()


def test_what_cannot_be_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(UserError, match=r"config\.signal\.leads '13'; expected one of 12, 6"):
        evaluate.run(make_config(store, **{"signal.leads": "13"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
