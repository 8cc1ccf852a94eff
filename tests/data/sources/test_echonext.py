"""EchoNext: rows by split, findings in the benchmark's order, folds of the publisher, z-scores as they are."""

import csv
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.sources import echonext
from ecgjax.data.store import open_store
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError
from ecgjax.prepare import main
from tests.data.sources.make_echonext import FLAGS, make
from tests.data.sources.run_source import run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    raw = tmp_path_factory.mktemp("echonext")
    return raw, make(raw)


@pytest.fixture(scope="module")
def prepared(data):
    return run(echonext, data[0])


def kept(records):
    return sorted((record for record in records if record.split != "no_split"), key=lambda record: record.key)


def test_records_and_signals(data, prepared):
    table, recordings, _, rejected = prepared
    wanted = kept(data[1])
    assert table["record_id"].tolist() == [record.key for record in wanted]
    assert table["patient_id"].tolist() == [record.patient for record in wanted]
    assert table["sex"].tolist() == [record.sex for record in wanted]
    assert table["age"].tolist() == [record.age for record in wanted]
    assert rejected == {}
    for record, recording in zip(wanted, recordings, strict=True):
        np.testing.assert_array_equal(recording.signal, record.waveform.astype(np.float32))
        assert recording.sampling_rate == 250
        assert recording.missing == recording.derived == ()


def test_facts():
    assert (echonext.FACTS.unit, echonext.FACTS.dtype) == ("z-score", "float32")
    assert echonext.FACTS.einthoven is not True
    assert echonext.FACTS.records == 82_543


def test_label_sets(data, prepared):
    labels, wanted = prepared[2], kept(data[1])
    classes, targets, kinds = labels.sets["all"]
    assert classes == FLAGS
    np.testing.assert_array_equal(targets, [record.flags for record in wanted])
    assert targets.dtype == np.float32
    assert set(kinds) == {"classification"}
    classes, targets, _ = labels.sets["composite"]
    assert classes == ("shd_moderate_or_greater_flag",)
    np.testing.assert_array_equal(targets[:, 0], [record.flags.any() for record in wanted])
    _, measured, _ = labels.sets["measured"]
    for row, record in enumerate(wanted):
        if record.cells["lvef_value"] == "":  # nothing was measured: an absent finding is not known
            np.testing.assert_array_equal(measured[row], np.where(record.flags == 1, 1, np.nan))
        else:
            np.testing.assert_array_equal(measured[row], record.flags)
    classes, values, kinds = labels.sets["measurements"]
    assert set(kinds) == {"regression"}
    for column, name in enumerate(classes):
        expected = [record.cells[name] if record.cells[name] != "" else np.nan for record in wanted]
        np.testing.assert_allclose(values[:, column], expected, rtol=1e-6)


def test_folds(data, prepared):
    wanted = kept(data[1])
    folds = dict(zip((record.key for record in wanted), prepared[2].folds.tolist(), strict=True))
    train = [record for record in wanted if record.split == "train"]
    patients = sorted({record.patient for record in train})
    pooled = [
        [i for record in train if record.patient == patient for i in np.flatnonzero(record.flags)]
        for patient in patients
    ]
    sizes = [sum(record.patient == patient for record in train) for patient in patients]
    subsets = stratify(pooled, range(11), [1 / 8] * 8, sizes, seed=42)
    fold_of = {patients[member]: number for number, subset in enumerate(subsets) for member in subset}
    for record in wanted:
        assert folds[record.key] == {"val": 8, "test": 9}.get(record.split, fold_of.get(record.patient, -1))
    # Patients without a positive finding are training data nevertheless.
    assert {folds[record.key] for record in train if record.patient in ("103", "105")} == {-1}
    assert set(folds.values()) >= {-1, 0, 7, 8, 9}


def test_index_has_measurements_and_the_true_order_of_the_tabular_features(data, prepared):
    table, wanted = prepared[0], kept(data[1])
    features = table[[f"tabular_{name}" for name in ("sex", "age", "ventricular_rate")]].to_numpy()
    np.testing.assert_array_equal(features, [record.tabular[:3] for record in wanted])
    np.testing.assert_array_equal(table["tabular_qt_corrected"], [record.tabular[6] for record in wanted])
    rates = [record.cells["atrial_rate"] for record in wanted]
    np.testing.assert_array_equal(table["atrial_rate"], [np.nan if rate == "" else rate for rate in rates])
    settings = [record.cells["aortic_stenosis_value"] or None for record in wanted]
    assert [None if value != value else value for value in table["aortic_stenosis_value"]] == settings
    assert "lvef_value" in table
    assert not set(FLAGS) & set(table)


def test_notes(prepared):
    text = " ".join(prepared[2].notes)
    assert "6 ECGs with the split no_split" in text
    assert "not measured counts as absent" in text


@pytest.mark.parametrize("name", ["EchoNext_metadata_100k.csv", "echonext-1.1.0/EchoNext_metadata_100k.csv"])
def test_name_of_the_metadata_in_the_readme_and_a_folder_in_between(data, tmp_path, name):
    target = (tmp_path / name).parent
    shutil.copytree(data[0], target, dirs_exist_ok=True)
    (target / "echonext_metadata_100k.csv").rename(tmp_path / name)
    listing = echonext.listing(tmp_path, None)
    assert len(listing) == len(kept(data[1]))
    recording = echonext.read(tmp_path, listing["key"][0])
    np.testing.assert_array_equal(recording.signal, kept(data[1])[0].waveform.astype(np.float32))


def test_without_tabular_features_and_measurements(data, tmp_path):
    shutil.copytree(data[0], tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*tabular*"):
        path.unlink()
    path = tmp_path / "echonext_metadata_100k.csv"
    rows = list(csv.reader(path.open()))
    gone = rows[0].index("lvef_value")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(row[:gone] + row[gone + 1 :] for row in rows)
    table, _, labels, _ = run(echonext, tmp_path)
    assert table["tabular_sex"].isna().all()
    assert set(labels.sets) == {"all", "composite"}
    assert any("lack measurements" in note for note in labels.notes)


def change(tmp_path, column, value):
    path = tmp_path / "echonext_metadata_100k.csv"
    rows = list(csv.DictReader(path.open()))
    if value is None:
        for row in rows:
            del row[column]
    else:
        rows[3][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("split", "training", r"row 5, column 'split' has 'training'; expected one of train, val, test, no_split"),
        ("lvef_lte_45_flag", "2", r"row 5, column 'lvef_lte_45_flag' has '2'; expected 0, 1 or nothing"),
        ("lvef_lte_45_flag", None, r"no column 'lvef_lte_45_flag'"),
        ("age_at_ecg", "old", r"row 5, column 'age_at_ecg' has 'old'"),
        ("ecg_key", "", r"row 5, column 'ecg_key' has ''; expected a unique name"),
        ("split", "val", r"EchoNext_.*_waveforms.npy: \d+ ECGs, but .* has \d+ rows with the split"),
    ],
)
def test_wrong_metadata(data, tmp_path, column, value, message):
    shutil.copytree(data[0], tmp_path, dirs_exist_ok=True)
    change(tmp_path, column, value)
    with pytest.raises(UserError, match=message) as caught:
        echonext.listing(tmp_path, None)
    assert "\n" not in str(caught.value)


def test_wrong_arrays(data, tmp_path):
    shutil.copytree(data[0], tmp_path, dirs_exist_ok=True)
    name = tmp_path / "EchoNext_val_waveforms.npy"
    whole = name.read_bytes()
    name.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"EchoNext_val_waveforms.npy: not a whole .npy file"):
        echonext.listing(tmp_path, None)
    echonext._open.cache_clear()
    np.save(name, np.zeros((6, 1, 12, 2500)))
    with pytest.raises(UserError, match=r"shape \(6, 1, 12, 2500\); expected floats of shape \(n, 1, 2500, 12\)"):
        echonext.listing(tmp_path, None)
    name.unlink()
    with pytest.raises(UserError, match=r"EchoNext_val_waveforms.npy: no such file"):
        echonext.listing(tmp_path, None)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError, match=r"no echonext_metadata_100k.csv"):
        echonext.listing(tmp_path / "elsewhere", None)
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        echonext.listing(tmp_path / "nowhere", None)


def test_files_are_mapped_not_read(data):
    listing = echonext.listing(data[0], None)
    path, _, _ = listing["key"][0].partition("#")
    assert isinstance(echonext._open(data[0] / path, (1, 2500, 12)), np.memmap)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=8))
def test_any_text_in_a_flag_is_read_or_refused(text):
    import pandas as pd

    cells = pd.DataFrame({"flag": [text.strip()]})
    try:
        value = echonext._flags("table", cells, "flag")[0]
    except UserError:
        return
    assert value != value or value in (0.0, 1.0)


def test_end_to_end(data, tmp_path):
    main(["echonext", f"--raw={data[0]}", f"--out={tmp_path / 'store'}", "--workers=1"])
    store = open_store(tmp_path / "store")
    wanted = kept(data[1])
    assert store.records["record_id"].tolist() == [record.key for record in wanted]
    assert store.dtype == "float32"
    assert store.classes("all") == FLAGS
    for record in wanted[::9]:
        np.testing.assert_array_equal(store.signal(record.key), record.waveform.astype(np.float32))
    assert len(store.rows("test")) == sum(record.split == "test" for record in wanted)
    assert len(store.rows("validation")) == sum(record.split == "val" for record in wanted)
