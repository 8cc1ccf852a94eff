"""Chapman-Shaoxing: microvolts with and without a row of names, rhythms and conditions (datasets.md 3.7)."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.preparation.folds import record_folds
from ecgjax.data.sources import chapman
from ecgjax.errors import UserError
from tests.data.sources import make_chapman
from tests.data.sources.run_source import prepared, run

Made = tuple[Path, list[make_chapman.Record]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    raw = tmp_path_factory.mktemp("chapman")
    return raw, make_chapman.make(raw)


@pytest.fixture
def own(made: Made, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made[0], tmp_path / "raw"))


def test_records_are_the_generators(made: Made) -> None:
    raw, records = made
    table, recordings, _, rejected = run(chapman, raw)
    assert not rejected
    assert table["record_id"].tolist() == table["patient_id"].tolist() == [record.name for record in records]
    assert table["age"].tolist() == [record.age for record in records]
    assert table["sex"].tolist() == [record.sex for record in records]
    assert set(table["t_axis"]) == {-27.0}
    assert "qrs_duration" in table
    for record, recording in zip(records, recordings, strict=True):
        assert recording.sampling_rate == 500
        assert recording.microvolt_per_bit == 4.88
        assert not recording.missing
        np.testing.assert_allclose(recording.signal, record.millivolts, atol=1e-6)


def test_the_denoised_files_have_no_row_of_names(made: Made) -> None:
    raw, records = made
    _, recordings, _, rejected = run(chapman, raw, denoised=True)
    assert not rejected
    for record, recording in zip(records, recordings, strict=True):
        np.testing.assert_allclose(recording.signal, record.millivolts / 2, atol=1e-5)


def test_label_sets(made: Made) -> None:
    raw, records = made
    *_, labels, _ = run(chapman, raw, min_count=5)
    lists = {
        "rhythm": [[record.rhythm] for record in records],
        "condition": [list(record.conditions) for record in records],
        "all": [[*record.conditions, record.rhythm] for record in records],
    }
    assert set(labels.sets) == set(lists)
    for name, expected in lists.items():
        counts = Counter(label for each in expected for label in each)
        classes, targets, _ = labels.sets[name]
        assert classes == tuple(sorted(label for label in counts if counts[label] >= 5))
        for each, row in zip(expected, targets, strict=True):
            assert {label for label, value in zip(classes, row, strict=True) if value} == set(each) & set(classes)
    assert labels.sets["condition"][0] == ("PVC", "RBBB", "STDD", "TWC")  # Never NONE.
    assert labels.folds.tolist() == record_folds(lists["all"]).tolist()
    assert set(labels.folds) == set(range(10))
    *_, labels, _ = run(chapman, raw, min_count=10)
    assert labels.sets["all"][0] == ("RBBB", "SB", "TWC")


def test_leads_are_taken_by_name(own: Path) -> None:
    path = next((own / "ECGData").glob("*.csv"))
    expected = chapman.read(own, f"ECGData/{path.name}").signal
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\ufeff" + "\r\n".join(",".join(row[::-1]).upper() for row in rows))
    np.testing.assert_array_equal(chapman.read(own, f"ECGData/{path.name}").signal, expected)


def test_values_are_those_of_numpy(made: Made) -> None:
    raw, records = made
    path = raw / "ECGData" / f"{records[0].name}.csv"
    own = np.loadtxt(path, delimiter=",", skiprows=1)
    recording = chapman.read(raw, f"ECGData/{path.name}")
    np.testing.assert_array_equal(recording.signal, (own * 1e-3).astype(np.float32))


def test_steps() -> None:
    assert chapman._step(np.array([4.88, -29.279999999999998, 0.0, np.nan])) == 4.88
    assert chapman._step(np.array([5.0, -32768.0])) == 1.0
    assert chapman._step(np.array([5.5, 4.88])) is None


def test_damaged_and_missing_signals_are_rejected(own: Path) -> None:
    files = sorted((own / "ECGData").glob("*.csv"))
    names = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6\n"
    files[0].unlink()
    files[1].write_text(names)
    files[2].write_text(names + "1,2,3\n4,5,6\n")
    files[3].write_text(names + ",".join(["1"] * 11 + ["x"]) + "\n")
    files[4].write_text("\n".join(files[4].read_text().splitlines()[1:]))
    files[5].write_text(names + ",".join([""] * 12) + "\n" + ",".join(["nan"] * 12) + "\n")
    files[6].write_bytes(b"")
    files[7].write_bytes(b"\x00\xff\xfe" * 50)
    _, recordings, labels, rejected = run(chapman, own)
    assert list(rejected) == [path.stem for path in files[:8]]
    reasons = list(rejected.values())
    assert "cannot be read" in reasons[0]
    assert "3 columns; expected 12" in reasons[2]
    assert "not a table of numbers" in reasons[3]
    assert "expected a row of lead names" in reasons[4]
    assert "every value is NaN" in reasons[5]
    assert all("\n" not in reason for reason in reasons)
    assert len(recordings) == len(labels.folds) == 32


def test_one_folder_more_of_the_same_name(own: Path) -> None:
    (own / "ECGData").rename(own / "inner")
    (own / "ECGData").mkdir()
    (own / "inner").rename(own / "ECGData/ECGData")
    assert not run(chapman, own)[3]


@pytest.mark.parametrize(
    ("cell", "value", "message"),
    [
        ("A1", "File", "no column 'FileName'"),
        ("C1", "Condition", "no column 'Beat'"),
        ("A3", None, "row 3, column 'FileName' has ''"),
        ("D2", "old", "row 2, column 'PatientAge' has 'old'"),
        ("E2", "M", "row 2, column 'Gender' has 'M'; expected MALE or FEMALE"),
    ],
)
def test_a_garbled_workbook_is_named(own: Path, cell: str, value: str | None, message: str) -> None:
    path = own / "Diagnostics.xlsx"
    workbook = openpyxl.load_workbook(path)
    workbook.active[cell] = value
    workbook.save(path)
    with pytest.raises(UserError, match=message) as caught:
        run(chapman, own)
    assert str(path) in str(caught.value)


def test_missing_files_are_named(own: Path) -> None:
    (own / "ECGDataDenoised").rename(own / "elsewhere")
    with pytest.raises(UserError, match=r"ECGDataDenoised: no such folder; expected the unpacked ECGDataDenoised\.zip"):
        run(chapman, own, denoised=True)
    (own / "Diagnostics.xlsx").write_text("FileName\n")
    with pytest.raises(UserError, match=r"Diagnostics\.xlsx: not an Excel workbook"):
        run(chapman, own)
    (own / "Diagnostics.xlsx").unlink()
    with pytest.raises(UserError, match=r"no Diagnostics\.xlsx"):
        run(chapman, own)


@given(st.binary(max_size=80) | st.text(alphabet="I,V1\n\r -.e9\"'", max_size=60).map(str.encode))
def test_any_bytes_are_a_recording_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(content)
    try:
        recording = chapman.read(path.parent, path.name)
    except UserError:
        return
    assert recording.signal.shape[1] == 12


def test_the_command_makes_a_store(made: Made, tmp_path: Path) -> None:
    raw, records = made
    store = prepared(chapman, raw, tmp_path / "store", records, min_count=10, atol=1e-6)
    assert store.classes("all") == ("RBBB", "SB", "TWC")
