"""The embedded data: made once, whole or not at all, split by patient, and called synthetic."""

import numpy as np
import pytest

import ecgjax
from ecgjax.data import embedded
from ecgjax.data.embedded import dicom_recording_path, synthetic_store
from ecgjax.data.sources.synthetic import CLASSES, LABEL_SETS
from ecgjax.data.sources.synthetic_store import MEASUREMENTS
from ecgjax.errors import UserError
from ecgjax.prepare import prepare


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ecgjax.open_store(synthetic_store(tmp_path_factory.mktemp("cache"), records=300))


def test_store_is_called_synthetic_and_holds_what_was_asked_for(store):
    assert store.meta["source"] == "synthetic"
    assert len(store.records) == 300
    assert store.records.patient_id.nunique() == 200
    assert store.sampling_rate == 500
    assert store.signal("synthetic-00017").shape == (5000, 12)
    assert sorted(store.records.fold.unique()) == list(range(10))


def test_no_patient_is_in_two_folds_and_every_fold_has_its_share(store):
    assert (store.records.groupby("patient_id").fold.nunique() == 1).all()
    assert store.records.fold.value_counts().between(20, 40).all()


def test_every_class_occurs_in_validation_and_test(store):
    targets = store.targets("all")
    for fold in (8, 9):
        assert (targets[store.records.fold == fold].sum(axis=0) > 0).all()


def test_label_sets_agree_with_the_index(store):
    assert set(store.label_sets()) == {*LABEL_SETS, "measurements", "joint"}
    assert tuple(store.classes("all")) == CLASSES
    for name, classes in LABEL_SETS.items():
        said = [[c in labels.split() for c in classes] for labels in store.records.labels]
        np.testing.assert_array_equal(store.targets(name), np.array(said, np.float32))
    assert (store.targets("rhythm").sum(axis=1) == 1).all()


def test_measurements_are_standardised_on_the_training_folds(store):
    train = (store.records.fold < 8).to_numpy()
    targets = store.targets("measurements")
    np.testing.assert_allclose(np.nanmean(targets[train], axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(targets[train], axis=0), 1, atol=1e-5)
    unknown = np.isnan(targets[:, MEASUREMENTS.index("pr")])
    np.testing.assert_array_equal(unknown, store.targets("all")[:, CLASSES.index("AFIB")] == 1)
    assert store.kinds("joint") == ("classification",) * len(CLASSES) + ("regression",) * len(MEASUREMENTS)


def test_made_once_and_the_same_again(store, tmp_path, monkeypatch):
    again = synthetic_store(tmp_path, records=300)
    assert ecgjax.open_store(again).fingerprint == store.fingerprint
    monkeypatch.setattr(embedded.engine, "prepare_store", lambda *_, **__: pytest.fail("made a second time"))
    assert synthetic_store(tmp_path, records=300) == again


def test_cache_folder_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ECGJAX_CACHE", str(tmp_path / "cache"))
    assert synthetic_store(records=20).parent == tmp_path / "cache"


def test_nothing_is_left_when_making_it_fails(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(embedded.source.synthetic, "synthesize", fail)
    with pytest.raises(UserError, match="RuntimeError: in the middle"):
        synthetic_store(tmp_path, records=20)
    assert not list(tmp_path.iterdir())


def test_another_process_that_was_faster_is_no_error(tmp_path, monkeypatch):
    write = embedded.engine.prepare_store

    def lose(name, path, **options):
        write(name, path, **options)
        return write(name, path, **options)  # which finds a store there

    monkeypatch.setattr(embedded.engine, "prepare_store", lose)
    assert ecgjax.open_store(synthetic_store(tmp_path, records=20)).meta["records"] == 20


def test_too_few_records_are_refused(tmp_path):
    with pytest.raises(UserError, match="19"):
        synthetic_store(tmp_path, records=19)


def test_prepare_makes_the_same_store_by_command(store, tmp_path, capsys):
    prepare(["synthetic", f"--out={tmp_path / 'mine'}", "--records=300"])
    assert ecgjax.open_store(tmp_path / "mine").fingerprint == store.fingerprint
    assert "synthetic" in capsys.readouterr().out


def test_dicom_recording_is_the_genuine_one():
    recording = ecgjax.read_recording(dicom_recording_path())
    assert recording.sampling_rate == 1000
    assert recording.signal.shape == (10000, 12)
    assert any("RITMO SINUSALE" in statement for statement in recording.metadata["statements"])
