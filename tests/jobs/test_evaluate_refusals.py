"""Configs and data that job "evaluate" refuses, or names the gaps of."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ecgjax
from configs.evaluate import get_config
from ecgjax import models
from ecgjax.errors import UserError
from ecgjax.evaluation import labelled
from ecgjax.jobs import evaluate
from ecgjax.tasks import RUNS
from tests.jobs.evaluate_run import make_config, read_results

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "nowhere"}, "nowhere: no card.json"),
        ({"protocol": "papr"}, "config.protocol is 'papr'; expected one of fixed, paper"),
        ({"epochs": 0}, "config.epochs is 0; expected 1 or more"),
        ({"learning_rate": 0.0}, "config.learning_rate is 0.0; expected a positive number"),
        ({"weight_decay": -1.0}, "config.weight_decay is -1.0; expected 0 or more"),
        ({"interval.unit": "ward"}, "config.interval.unit is 'ward'; expected one of record, patient"),
        ({"interval.replicates": 1}, "config.interval.replicates is 1; expected 2 or more"),
        ({"interval.level": 95.0}, "config.interval.level is 95.0; expected a coverage"),
        ({"data.labels": "nosuch"}, "no label set 'nosuch'; expected --config.data.labels=NAME, one of labels, joint"),
        ({"data.labels": None}, "no label set 'all'"),
        ({"data.store": "nowhere"}, "nowhere: not a store"),
        ({"batch_size": 1000}, "batch_size=1000; expected 1 to 64"),
        ({"mode": "scratch", "weights": "some"}, "config.weights is 'some' in mode scratch; expected none"),
    ],
)
def test_bad_config(store, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate.run(make_config(store, **changes), tmp_path)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("model", models.names())
def test_every_argument_of_a_model_is_a_config_field(model):
    fields = get_config(f"model={model}").model_arguments
    assert set(fields) == set(models.create(model).arguments)
    # ml_collections has no flag for a field of this type.
    assert not [name for name in fields if fields.get_type(name) is type(None)]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("model=ecg_cp", r"model 'ecg_cp' is unknown \(did you mean 'ecg_cpc'\?\)"),
        ("task=ptbxl_al", "did you mean 'ptbxl_all'"),
        ("mode=frosen", "mode 'frosen' is unknown; expected one of finetune, finetune_attention, frozen, linear"),
        ("modell=s4", "'modell=s4' is unknown; expected model=, task=, mode="),
        ("s4", "'s4' is unknown"),
    ],
)
def test_bad_choice(choice, message):
    with pytest.raises(UserError, match=message):
        get_config(choice)


def test_the_command_says_a_bad_choice_in_one_line(tmp_path):
    command = ["-m", "ecgjax.main", "--config=configs/evaluate.py:task=ptbxl", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "task 'ptbxl' is unknown" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_task_without_embedded_data_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"task ptbxl_all needs a store; expected --config.data.store=STORE"):
        evaluate.run(get_config("model=tiny,task=ptbxl_form"), tmp_path)


def test_the_only_label_set_needs_no_name(store, tmp_path):
    with pytest.raises(UserError, match=r"no label set is named; expected --config.data.labels=NAME, one of labels"):
        labelled.load(RUNS["folder"], 2.5, str(store))


def test_a_row_of_a_head_run_needs_its_classes(store, tmp_path):
    config = make_config(store)
    config.task = "ptbxl_form"
    with pytest.raises(
        UserError, match=r"task ptbxl_form: none of the 3 classes .* belongs to it; expected classes like"
    ):
        evaluate.run(config, tmp_path)


def test_a_damaged_shard_is_named(store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    shard = copy / "signals-00000.npy"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"signals-00000.npy: damaged"):
        evaluate.run(make_config(copy), tmp_path / "run")


@pytest.fixture
def clear_test_fold(store, monkeypatch):
    """Opens the store with no positives of some classes in the test fold."""

    def clear(columns):
        opened = ecgjax.open_store(store)
        opened.targets("labels")[opened.rows("test")[:, None], columns] = 0
        monkeypatch.setattr(labelled, "open_store", lambda path: opened)

    return clear


def test_a_fold_without_positives_is_refused_and_named(clear_test_fold):
    clear_test_fold([0, 1, 2])
    message = r"label set 'labels': test \(fold 9\) has no classification target with a positive and a negative record"
    with pytest.raises(UserError, match=message):
        labelled.load(RUNS["folder"], 2.5, "there", "labels")


def test_a_class_without_positives_is_named_and_left_undefined(clear_test_fold, store, tmp_path, caplog, capsys):
    clear_test_fold([1])
    evaluate.run(make_config(store, epochs=1), tmp_path)
    assert (
        "test (fold 9) has 1 of 3 classification targets without a positive and a negative record: AFIB" in caplog.text
    )
    auroc = read_results(tmp_path)["tasks"]["synthetic"]["auroc"]
    assert auroc["labels"]["AFIB"] == {"value": None, "low": None, "high": None, "known": 8, "positives": 0}
    assert auroc["defined"] == 2
    assert auroc["value"] == pytest.approx((auroc["labels"]["SR"]["value"] + auroc["labels"]["OFFSET"]["value"]) / 2)
    printed = capsys.readouterr().out
    assert "2 of 3 labels" in printed
    assert "not defined" in printed


def test_records_shorter_than_the_window_are_refused_by_name_of_the_split(store):
    with pytest.raises(UserError, match=r"no record of at least 7 s for train"):
        labelled.load(RUNS["folder"], 7.0, str(store), "labels")
    with pytest.raises(UserError, match=r"no record of at least 10 s"):  # the benchmark's own minimum
        labelled.load(RUNS["georgia"], 2.5, str(store), "labels")
