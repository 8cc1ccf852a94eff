"""CODE-15% and CODE-test: padding, the join, classes, folds, leads, annotators."""

import argparse
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.sources import code15, code_test, code_tracings
from ecgjax.data.store import open_store, split_of
from ecgjax.errors import UserError
from ecgjax.prepare import main
from tests.data.sources.make_code import ANNOTATORS, FLAGS, SAMPLES, make_code15, make_code_test, padded
from tests.data.sources.run_source import run

CLASSES = ("1AVB", "RBBB", "LBBB", "SBRAD", "AFIB", "STACH")
OPTIONS = argparse.Namespace(protocol="default")


@pytest.fixture(scope="module")
def code15_raw(tmp_path_factory):
    raw = tmp_path_factory.mktemp("code15")
    return raw, make_code15(raw)


@pytest.fixture(scope="module")
def code_test_raw(tmp_path_factory):
    raw = tmp_path_factory.mktemp("code_test")
    return raw, *make_code_test(raw)


def test_exams_are_read_and_joined_by_id(code15_raw) -> None:
    raw, exams = code15_raw
    table, recordings, labels, rejected = run(code15, raw)
    kept = [exam for i, exam in enumerate(exams) if i != 7]
    assert list(table["record_id"]) == [str(exam.exam_id) for exam in kept]
    assert list(rejected) == [str(exams[7].exam_id)]
    assert "exams_part0.hdf5: row 7: every value is zero" in rejected[str(exams[7].exam_id)]
    for exam, recording in zip(kept, recordings, strict=True):
        assert recording.sampling_rate == 400
        np.testing.assert_array_equal(recording.signal, exam.signal)
    classes, targets, _ = labels.sets["all"]
    assert classes == CLASSES
    names = dict(zip(("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST"), CLASSES, strict=True))
    for exam, row in zip(kept, targets, strict=True):
        if exam.listed:
            assert {classes[i] for i in np.flatnonzero(row)} == {names[flag] for flag in exam.flags}
    assert targets[1].tolist() == [0, 0, 0, 0, 1, 0]  # AF, which the file has last
    assert targets[2].tolist() == [0, 0, 0, 0, 0, 1]  # ST
    own = table[[exam.listed for exam in kept]]
    listed = [exam for exam in kept if exam.listed]
    assert own["patient_id"].tolist() == [str(exam.patient_id) for exam in listed]
    assert own["age"].tolist() == [exam.age for exam in listed]
    assert own["sex"].tolist() == ["male" if exam.male else "female" for exam in listed]
    assert own["normal_ecg"].tolist() == [exam.normal for exam in listed]


def test_exams_without_annotations_are_out_of_every_fold(code15_raw) -> None:
    raw, exams = code15_raw
    table, _, labels, _ = run(code15, raw)
    row = list(table["record_id"]).index(str(exams[11].exam_id))
    assert labels.folds[row] == -1
    assert np.isnan(labels.sets["all"][1][row]).all()
    assert (np.delete(labels.folds, row) >= 0).all()
    assert table["patient_id"].nunique() == 13
    assert "exams that exams.csv lacks: 1; targets unknown, fold -1" in labels.notes
    assert any("left out: 1, 2, 3" in note and "16" in note for note in labels.notes)


def test_padding_of_the_paper(code15_raw) -> None:
    raw, exams = code15_raw
    table, recordings, _, _ = run(code15, raw, protocol="paper")
    by_id = dict(zip(table["record_id"], recordings, strict=True))
    lengths = [len(by_id[str(exams[i].exam_id)].signal) for i in (0, 3, 4, 5, 6)]
    # 50 zeros at the start of an exam take 25 samples from each end, 11 inside take 5; one of 95 zeros stays.
    assert lengths == [4000, 2800, 3950, 3990, 4002]
    np.testing.assert_array_equal(by_id[str(exams[4].exam_id)].signal, exams[4].signal[25:-25])


def test_repeated_tracings(code15_raw) -> None:
    raw, exams = code15_raw
    table, _, labels, _ = run(code15, raw)
    assert any("byte for byte: 2 (tracings of several patients: 1)" in note for note in labels.notes)
    rows = [list(table["record_id"]).index(str(exams[i].exam_id)) for i in (8, 9, 10)]
    assert not np.isnan(labels.sets["all"][1][rows]).any()
    without = run(code15, raw, deduplicate=True)[2]
    assert np.isnan(without.sets["all"][1][rows]).all(axis=1).tolist() == [False, True, True]
    np.testing.assert_array_equal(without.folds, labels.folds)


def test_folds_of_patients_in_batches() -> None:
    patients, rng = 25_000, np.random.default_rng(0)
    owner = np.concatenate([np.arange(patients), rng.integers(0, patients, 5000)])
    exams = len(owner)
    table = pd.DataFrame(
        {
            "patient_id": owner.astype(str),
            "age": rng.integers(18, 90, exams).astype(float),
            "sex": np.where(rng.random(exams) < 0.4, "male", "female"),
            "_absent": "",
            "_tracing": [str(i) for i in range(exams)],
            **{f"_{name}": (rng.random(exams) < 0.03).astype(float) for name in CLASSES},
        }
    )
    labels = code15.label(table, argparse.Namespace(deduplicate=False))
    folds = labels.folds
    assert set(folds.tolist()) == set(range(100))
    assert pd.Series(folds).groupby(owner).nunique().max() == 1
    split = split_of(folds)
    assert abs((split == 2).mean() - 0.01) < 0.001
    targets = labels.sets["all"][1]
    for fold in (98, 99):
        assert np.abs(targets[folds == fold].mean(axis=0) - 0.03).max() < 0.008
    assert labels.notes == ()


def test_parts_may_lie_deeper_and_files_may_be_open_elsewhere(tmp_path) -> None:
    exams = make_code15(tmp_path, parts_in="parts/unpacked")
    listing = code15.listing(tmp_path, OPTIONS)
    assert listing["key"][0] == "parts/unpacked/exams_part0.hdf5#0"
    assert listing["key"].iloc[-1] == "parts/unpacked/exams_part17.hdf5#9"
    # Compressed rows in any order.
    for i in (23, 14, 20, 15, 3, 22):
        np.testing.assert_array_equal(code15.read(tmp_path, listing["key"][i]).signal, exams[i].signal)


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from((2800, 4000)), st.integers(0, 5))
def test_an_exam_keeps_its_length_whatever_zeros_it_has(before: int, after: int, length: int, inside: int) -> None:
    values = np.ones((length, 12), np.float32)
    values[:before] = values[length - after :] = 0
    values[1000 : 1000 + inside] = 0
    tracing = padded(values, (SAMPLES - length) // 2)
    np.testing.assert_array_equal(code_tracings.acquired(tracing), values)
    zeros = int((~tracing.any(axis=1)).sum())
    assert len(code_tracings.acquired(tracing, padding="paper")) == SAMPLES - 2 * (zeros // 2)


def test_a_tracing_of_another_length_loses_its_zeros() -> None:
    for start, length in ((0, 4096), (10, 4080), (0, 4000), (96, 4000)):
        values = np.ones((length, 12))
        assert len(code_tracings.acquired(padded(values, start))) == length
    with pytest.raises(UserError, match="every value is zero"):
        code_tracings.acquired(np.zeros((4096, 12)), padding="paper")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("exam_id,", "exam,", r"exams.csv: no column 'exam_id'"),
        ("True", "yes", r"exams.csv: row \d+, column '.*' has 'yes'; expected True or False"),
        ("900000,", "oops,", r"exams.csv: row \d+, column 'exam_id' has 'oops'; expected a number"),
        ("900000,", "899629,", r"exams.csv: row \d+, column 'exam_id' has '899629'; expected every exam once"),
    ],
)
def test_what_is_wrong_with_the_table_is_said(tmp_path, old: str, new: str, message: str) -> None:
    make_code15(tmp_path)
    path = tmp_path / "exams.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        code15.listing(tmp_path, OPTIONS)


def test_what_is_wrong_with_the_parts_is_said(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no exams\.csv"):
        code15.listing(tmp_path, OPTIONS)
    make_code15(tmp_path)
    first, last = tmp_path / "exams_part0.hdf5", tmp_path / "exams_part17.hdf5"
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / first.name).write_bytes(last.read_bytes())
    with pytest.raises(UserError, match="the same part twice"):
        code15.listing(tmp_path, OPTIONS)
    (tmp_path / "copy" / first.name).rename(tmp_path / "exams_part1.hdf5")
    with pytest.raises(UserError, match=r"exam \d+ is twice in the parts"):
        code15.listing(tmp_path, OPTIONS)
    (tmp_path / "exams_part1.hdf5").write_bytes(last.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"exams_part1.hdf5: damaged .*; expected a whole HDF5 file"):
        code15.listing(tmp_path, OPTIONS)
    for written, message in (
        ({"tracings": np.zeros((2, 9, 12), "f4")}, "no data set 'exam_id' of whole numbers; it has tracings"),
        ({"exam_id": np.array([1, 0])}, "'tracings' has shape None"),
        ({"exam_id": np.array([1, 0]), "tracings": np.zeros((2, 12, 9), "f4")}, r"has shape \(2, 12, 9\)"),
        ({"exam_id": np.array([1, 0]), "tracings": np.zeros((3, 9, 12), "f4")}, "3 tracings for 2 exams"),
    ):
        with h5py.File(tmp_path / "exams_part1.hdf5", "w") as file:
            for name, values in written.items():
                file[name] = values
        with pytest.raises(UserError, match=f"exams_part1.hdf5: .*{message}"):
            code15.listing(tmp_path, OPTIONS)
    for part in tmp_path.glob("*.hdf5"):
        part.unlink()
    (tmp_path / "exams_part3.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"no exams_part0.hdf5 .*exams_part3.zip is there: unpack it"):
        code15.listing(tmp_path, OPTIONS)


def test_code_test_reorders_leads_by_name(code_test_raw) -> None:
    raw, signals, flags = code_test_raw
    for folder in (raw, raw / "data"):
        table, recordings, labels, rejected = run(code_test, folder)
        assert not rejected
        assert list(table["record_id"]) == [f"code_test_{i:04d}" for i in range(6)]
        assert [recording.id for recording in recordings] == list(table["record_id"])
        for expected, recording in zip(signals, recordings, strict=True):
            np.testing.assert_allclose(recording.signal, expected, atol=1e-6)
        assert table["age"].tolist() == [40, 41, 42, 43, 44, 45]
        assert table["sex"].tolist() == ["female", "male"] * 3
        assert (split_of(labels.folds) == 2).all()
    order = [FLAGS.index(flag) for flag in ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")]
    assert tuple(labels.sets) == ("all", *ANNOTATORS[1:])
    for name in ANNOTATORS:
        classes, targets, _ = labels.sets["all" if name == "gold_standard" else name]
        assert classes == CLASSES
        np.testing.assert_array_equal(targets, flags[name][:, order])
    assert labels.notes[0].startswith("5 of 6 records")


def test_code_test_says_what_is_missing(tmp_path) -> None:
    make_code_test(tmp_path)
    annotations = tmp_path / "data" / "annotations"
    (annotations / "dnn.csv").unlink()
    assert "dnn" not in run(code_test, tmp_path)[2].sets
    path = annotations / "medical_students.csv"
    text = path.read_text()
    path.write_text(text.rsplit("\n", 2)[0])
    with pytest.raises(UserError, match=r"medical_students.csv: 5 rows for 6 tracings"):
        code_test.listing(tmp_path, OPTIONS)
    path.write_text(text.replace("1", "2", 2))
    with pytest.raises(
        UserError, match=r"medical_students.csv: (no column '1dAVb'|row \d+, column .* expected 0 or 1)"
    ):
        code_test.listing(tmp_path, OPTIONS)
    (annotations / "gold_standard.csv").unlink()
    with pytest.raises(UserError, match=r"gold_standard.csv: no such file"):
        code_test.listing(tmp_path, OPTIONS)


def test_a_damaged_row_is_rejected(tmp_path) -> None:
    exams = make_code15(tmp_path)
    path = tmp_path / "exams_part17.hdf5"
    with h5py.File(path) as file:
        chunk = file["tracings"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    rejected = run(code15, tmp_path)[3]
    # The second of the blocks that are compressed together, and the exam of zeros.
    assert set(rejected) == {str(exams[i].exam_id) for i in (7, 18, 19, 20, 21)}
    assert "exams_part17.hdf5: row 4: damaged" in rejected[str(exams[18].exam_id)]


def test_without_h5py(tmp_path, monkeypatch) -> None:
    make_code_test(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs h5py; install it with: pip install 'ecgjax\[formats\]'"):
        code_test.listing(tmp_path, OPTIONS)


@given(st.text(alphabet='0123456789,TrueFals\n"é', max_size=80))
def test_any_table_is_read_or_refused(tmp_path_factory, text: str) -> None:
    path = tmp_path_factory.mktemp("table") / "exams.csv"
    header = "exam_id,age,is_male,1dAVb,RBBB,LBBB,SB,AF,ST,patient_id\n"
    path.write_text(f"{header}1,50,True,False,False,False,False,False,True,7\n{text}")
    try:
        exams = code15.read_exams(path)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert exams.index.is_unique
    assert exams.loc[1, "_STACH"] == 1


def test_stores_of_both(code15_raw, code_test_raw, tmp_path) -> None:
    raw, exams = code15_raw
    main(["code15", f"--raw={raw}", f"--out={tmp_path / 'code15'}", "--workers=1"])
    store = open_store(tmp_path / "code15")
    assert store.classes("all") == CLASSES
    assert len(store) == len(exams) - 1
    for exam in (exams[0], exams[3], exams[20]):
        np.testing.assert_allclose(store.signal(str(exam.exam_id)), exam.signal, atol=5.1e-4)
    assert store.records["normal_ecg"].notna().sum() == len(exams) - 2
    assert "_tracing" not in store.records
    raw, signals, _ = code_test_raw
    main(["code_test", f"--raw={raw}", f"--out={tmp_path / 'code_test'}", "--workers=1"])
    store = open_store(tmp_path / "code_test")
    assert len(store.rows("test")) == len(store) == 6
    assert len(store.rows("train")) == len(store.rows("validation")) == 0
    np.testing.assert_allclose(store.signal("code_test_0002"), signals[2], atol=5.1e-4)


def test_published_gold_counts() -> None:
    assert code_test.FACTS.published["all"] == dict(zip(CLASSES, (28, 34, 30, 16, 13, 37), strict=True))
