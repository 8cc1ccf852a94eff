"""Trained here, tested there: three small hospitals that name things differently and share recordings."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.transfer import get_config
from ecgjax.data.recording import Recording
from ecgjax.data.resampling_host import resample_signal
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError
from ecgjax.evaluation import metrics
from ecgjax.evaluation.collect import collect
from ecgjax.jobs import transfer, transfer_scores
from ecgjax.jobs import transfer_setting as setting
from ecgjax.jobs.evaluate import run as evaluate

RECORDS, FOLDS = 80, 10
FOUND = ("slow", "fast", "offset")


def findings(seed):
    rng = np.random.default_rng(seed)
    values = rng.random((RECORDS, 3)) < 0.5
    values[-16:] = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 1, 0]] * 4, bool)  # folds 8 and 9
    return values


def signals(seed, rate, seconds=10.0):
    """Waves of 2 and 8 Hz and an offset in noise that has a correlation over time, so that resampling keeps it."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate))[:, None] / rate
    for slow, fast, offset in findings(seed):
        wave = np.sin(2 * np.pi * 2 * time) * slow + np.sin(2 * np.pi * 8 * time) * fast + offset
        noise = rng.standard_normal((len(time), 12))
        noise = sum(np.roll(noise, k, axis=0) for k in range(-3, 4)) / np.sqrt(7)
        yield (0.5 * wave + 0.4 * noise).astype(np.float32)


def write(path, source, rate, own, labels, targets, name="r"):
    with StoreWriter(path, source=source, sampling_rate=rate) as writer:
        for k, signal in enumerate(own):
            writer.add(Recording(f"{name}{k:04d}", signal, rate), patient_id=f"p{k // 2}", fold=k // (RECORDS // FOLDS))
        writer.finish({"all": (labels, targets.astype(np.float32), ("classification",) * len(labels))})
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """PTB-XL, Georgia and an own folder: 100, 200 and 100 Hz.

    Two training records of Georgia are test records of PTB-XL, one resampled with another gain; a validation record of
    the folder is a test record of Georgia, to the bit.
    """
    folder = tmp_path_factory.mktemp("hospitals")
    one, two, three = findings(1), findings(2), findings(3)
    xl = list(signals(1, 100.0))
    georgia = list(signals(2, 200.0))
    georgia[4] = 1.7 * resample_signal(xl[75], 100.0, 200.0)[:2000]
    georgia[11] = resample_signal(xl[73], 100.0, 200.0)[:2000]
    own = list(signals(3, 100.0))
    georgia[79] = resample_signal(own[0], 100.0, 200.0)[:2000]
    own[66] = own[0]
    extra = np.zeros((RECORDS, 1))
    return {
        # A label without a term, and two labels that are narrower than one term.
        "xl": write(
            folder / "xl", "ptbxl", 100.0, xl, ("SBRAD", "NDT", "NT_", "STE_", "NOTHING"),
            np.column_stack([one[:, 0], one[:, 1] & (np.arange(RECORDS) % 2 == 0),
                             one[:, 1] & (np.arange(RECORDS) % 2 == 1), one[:, 2], extra]),
        ),
        "georgia": write(
            folder / "georgia", "georgia", 200.0, georgia,
            ("sinus bradycardia", "t wave abnormal", "st elevation"), two, name="E",
        ),
        "ours": write(folder / "ours", "folder", 100.0, own, ("langsam", "schnell"), three[:, :2]),
    }  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("terms") / "ours.csv"
    path.write_text(
        "source,label_set,label,term,snomed,name,exactness,provenance\n"
        "ours,all,langsam,SB,426177001,sinus bradycardia,exact,us\n"
        "ours,all,schnell,TAb,164934002,t wave abnormal,exact,us\n"
    )
    return path


def make_config(stores, vocabulary, /, **changes):
    config = get_config("model=tiny,mode=finetune")
    named = ",".join(f"{name}={path}" for name, path in stores.items())
    small = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "interval.replicates": 50, "least": 2}
    config.update_from_flattened_dict({"stores": named, "vocabulary": str(vocabulary), **small, **changes})
    return config


@pytest.fixture(scope="module")
def study(tiny, stores, vocabulary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "transfer"
    transfer.run(make_config(stores, vocabulary), folder)
    return folder


def read(folder):
    return json.loads((folder / "transfer.json").read_text())


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_model_is_tested_everywhere_on_the_terms_that_both_have(study):
    found = read(study)
    cells = {(cell["train"], cell["test"]): cell for cell in found["matrices"]["pair"]}
    assert len(cells) == 9
    assert cells["xl", "georgia"]["terms"] == ["SB", "STE", "TAb"]
    assert cells["xl", "ours"]["terms"] == cells["ours", "georgia"]["terms"] == ["SB", "TAb"] == found["common"]
    assert all(cell["terms"] == ["SB", "TAb"] for cell in found["matrices"]["common"])
    for (train, test), cell in cells.items():
        assert cell["low"] <= cell["value"] <= cell["high"]
        assert cell["records"] == 8
        assert (cell["drop"] is None) == (train == test)
    assert found["stores"]["xl"]["unmapped"] == ["NOTHING"]
    assert found["stores"]["xl"]["terms"]["TAb"] == ["NDT", "NT_"]


def test_values_are_those_of_the_predictions_and_the_drop_is_paired(study):
    found = read(study)
    with np.load(study / "tests" / "xl_on_georgia.npz") as file:
        there = dict(file)
    with np.load(study / "trainings" / "georgia" / "predictions.npz") as file:
        home = dict(file)
    assert there["record_id"].tolist() == home["record_id"].tolist()
    assert there["labels"].tolist() == home["labels"].tolist() == ["SB", "STE", "TAb"]
    np.testing.assert_array_equal(there["targets"], home["targets"])
    np.testing.assert_array_equal(there["targets"], findings(2)[72:][:, [0, 2, 1]])
    cell = next(c for c in found["matrices"]["pair"] if (c["train"], c["test"]) == ("xl", "georgia"))
    away, at_home = (metrics.macro_auroc(p["targets"], p["scores"]) for p in (there, home))
    assert cell["value"] == pytest.approx(away)
    assert cell["reference"]["value"] == pytest.approx(at_home)
    assert cell["drop"]["value"] == pytest.approx(at_home - away)
    assert cell["labels"]["SB"]["value"] == pytest.approx(metrics.auroc(there["targets"], there["scores"])[0])
    assert cell["labels"]["SB"]["positives"] == int(there["targets"][:, 0].sum())


def test_copies_of_test_records_leave_the_training_side_with_their_patients(study, stores):
    found = read(study)["stores"]
    # E0004 and E0011 are two of the patients p2 and p5, who have one more record each.
    assert found["georgia"]["removed"] == {
        "train": 4, "validation": 0, "of_the_same_patients": 2,
        "pairs": {"exact": 0, "signal": 2, "table": 0}, "named_alike_only": 0,
    }  # fmt: skip
    # r0000 is a test record of Georgia, and so is r0066, its copy in the validation fold.
    assert found["ours"]["removed"]["train"] == found["ours"]["removed"]["validation"] == 2
    assert found["xl"]["removed"]["train"] == 0
    assert all(place["records"]["test"] == 8 for place in found.values())
    kept = set(open_store(study / "stores" / "georgia").records["record_id"])
    assert {f"E{k:04d}" for k in range(RECORDS)} - kept == {"E0004", "E0005", "E0010", "E0011"}
    rows = read_csv(study / "overlap.csv")
    assert {(r["record_id"], r["test_record_id"]) for r in rows if r["train"] == "georgia" and r["test"]} == {
        ("E0004", "r0075"), ("E0011", "r0073"),
    }  # fmt: skip
    assert sum(r["found_by"] == "patient" for r in rows) == 4


def test_the_stores_of_a_study_link_to_the_signals(study, stores):
    relabelled, whole = open_store(study / "stores" / "georgia"), open_store(stores["georgia"])
    relabelled.verify()
    assert (study / "stores" / "georgia" / "signals-00000.npy").is_symlink()
    assert relabelled.fingerprint != whole.fingerprint
    np.testing.assert_array_equal(relabelled.signal("E0020"), whole.signal("E0020"))


def test_a_training_is_an_ordinary_run_and_a_study_is_resumed(study, stores, vocabulary, monkeypatch, capsys):
    before = read(study)
    (study / "DONE").unlink()
    (study / "tests" / "xl_on_ours.npz").unlink()
    (study / "transfer.json").unlink()
    monkeypatch.setattr("ecgjax.jobs.evaluate._train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr("ecgjax.data.overlap.fingerprint", lambda *_: pytest.fail("read all signals again"))
    transfer.run(make_config(stores, vocabulary), study)
    after = read(study)
    assert after == before
    said = capsys.readouterr().out
    assert said.count("testing ") == 1
    assert "georgia: 4 of its training and validation records left out" in said
    config = json.loads((study / "trainings" / "xl" / "config.json").read_text())
    assert (config["job"], config["data"]["labels"]) == ("evaluate", "common")
    evaluate(ConfigDict(config), study / "trainings" / "xl")
    assert "done already" in capsys.readouterr().out


def test_other_terms_or_stores_are_another_study(study, stores, vocabulary, tmp_path):
    (study / "DONE").unlink()
    try:
        text = vocabulary.read_text()
        vocabulary.write_text(
            text.replace("langsam,SB,426177001,sinus bradycardia", "langsam,NSR,426783006,sinus rhythm")
        )
        with pytest.raises(UserError, match="table of terms has changed since"):
            transfer.run(make_config(stores, vocabulary), study)
    finally:
        vocabulary.write_text(text)
        (study / "DONE").touch()


def check_twin(folder, config):
    """The best checkpoint, tested as on another place, says of its own test fold what its evaluation said."""
    (place, *_), _ = setting.read_places(config)
    twin = replace(place, name="twin")
    cell = ConfigDict(json.loads((folder / "trainings" / place.name / "config.json").read_text()))
    transfer_scores.predict(cell, folder, place, [twin], {"twin": folder / "stores" / place.name})
    with np.load(folder / "tests" / f"{place.name}_on_twin.npz") as file:
        again = dict(file)
    with np.load(folder / "trainings" / place.name / "predictions.npz") as file:
        assert all((again[name] == file[name]).all() for name in ("record_id", "labels", "targets", "scores"))


def test_a_model_tested_elsewhere_is_the_one_that_was_evaluated(study, stores, vocabulary):
    check_twin(study, make_config(stores, vocabulary))


def test_files_for_people(study):
    cells, labels = read_csv(study / "transfer.csv"), read_csv(study / "labels.csv")
    assert len(cells) == 18
    assert {row["term"] for row in labels if row["train"] == "xl" and row["test"] == "georgia"} == {"SB", "STE", "TAb"}
    assert next(row for row in labels if row["term"] == "STE")["snomed"] == "164931005"
    text = (study / "transfer.md").read_text()
    assert "| **georgia** |" in text
    assert "without a term: NOTHING" in text
    assert {path.name for path in (study / "figures").iterdir()} == {"transfer.png", "transfer.svg"}
    assert "<text" in (study / "figures" / "transfer.svg").read_text()


def test_a_report_leaves_the_trainings_of_a_study_alone(study):
    found = collect(study.parent)
    assert not found.cells
    assert [reason for _, reason in found.excluded] == ["not an evaluation: config.job is 'transfer'"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stores": ""}, r"config.stores is ''; expected two or more, as NAME=STORE,NAME=STORE"),
        ({"stores": "xl"}, r"config.stores: 'xl'; expected NAME=VALUE"),
        ({"stores": "a=x,a=y"}, r"config.stores: 'a=y'; expected NAME=VALUE, .* each once"),
        ({"train": "xl,nowhere"}, r"config.train: 'nowhere'; expected some of xl, georgia, ours"),
        ({"labels": "nowhere=all"}, r"config.labels: 'nowhere'; expected some of xl, georgia, ours"),
        ({"labels": "xl=sub"}, r"xl \(xl\): label set 'sub' has rows .* source 'ptbxl'; expected one of all;"),
        ({"exactness": "sure"}, r"config.exactness: 'sure'; expected some of exact, narrower, broader, judgement"),
        ({"exactness": ""}, r"config.exactness is empty; expected some of exact"),
        ({"overlap": "smell"}, r"config.overlap: 'smell'; expected some of signal, table"),
        ({"least": 0}, r"config.least is 0; expected 1 or more"),
        ({"mode": "linear_exact"}, r"config.mode is 'linear_exact'; expected a mode with checkpoints, such as linear"),
        ({"least": 40}, r"no term has 40 records with it and 40 without it in the training folds and the test fold"),
        ({"vocabulary": None}, r"ours \(ours\): no label set has rows in the table of terms for source 'folder'"),
        ({"vocabulary": "none.csv"}, r"none.csv: cannot be read"),
        ({"vocabulary": None, "vocabulary_alone": True}, r"config.vocabulary_alone=True without config.vocabulary"),
        ({"epochs": 0}, r"config.epochs is 0; expected 1 or more"),
    ],
)
def test_wrong_configs_are_refused_before_anything_is_made(tiny, stores, vocabulary, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        transfer.run(make_config(stores, vocabulary, **changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_stores_that_do_not_go_together(tiny, stores, vocabulary, tmp_path):
    with StoreWriter(tmp_path / "scores", source="folder", sampling_rate=100.0, dtype="float32") as writer:
        writer.add(Recording("a", np.zeros((10, 12), np.float32), 100.0), patient_id="a", fold=0)
        writer.finish({})
    with pytest.raises(UserError, match="names one store twice"):
        transfer.run(make_config({**stores, "again": stores["xl"]}, vocabulary), tmp_path / "run")
    with pytest.raises(UserError, match=r"scores \(scores\): no label set has rows"):
        transfer.run(make_config({**stores, "scores": tmp_path / "scores"}, vocabulary), tmp_path / "run")


def test_a_store_with_nothing_but_a_test_fold_is_tested_on(tiny, stores, vocabulary, tmp_path, capsys):
    """As CODE-test is: no model of its own, so no drop; nothing is looked for if that is wanted."""
    tested = tmp_path / "tested"
    with StoreWriter(tested, source="code_test", sampling_rate=100.0) as writer:
        for k, signal in enumerate(list(signals(5, 100.0))[-16:]):
            writer.add(Recording(f"t{k}", signal, 100.0), patient_id=f"{k}", fold=0)
        labels = ("SBRAD", "AFIB")
        writer.finish({"all": (labels, findings(5)[-16:, :2].astype(np.float32), ("classification",) * 2)})
    both = {"xl": stores["xl"], "tested": tested}
    config = make_config(both, vocabulary, overlap="", epochs=1, test="tested", mode="linear")
    transfer.run(config, tmp_path / "run")
    check_twin(tmp_path / "run", config)
    found = read(tmp_path / "run")
    (cell,) = found["matrices"]["pair"]
    assert (cell["train"], cell["test"], cell["terms"], cell["records"]) == ("xl", "tested", ["SB"], 16)
    assert cell["drop"] is cell["reference"] is None
    assert "Recordings in two places were not looked for." in capsys.readouterr().out
