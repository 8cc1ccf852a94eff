"""PTB: diagnoses in comments, infarctions by their dates, folds of patients, two signal files (datasets.md 3.2)."""

import datetime
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.sources import ptb
from ecgjax.errors import UserError
from tests.data.sources import make_ptb
from tests.data.sources.run_source import prepared, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[make_ptb.Record]]:
    raw = tmp_path_factory.mktemp("ptb")
    return raw, make_ptb.make(raw)


@pytest.fixture
def own(made: tuple[Path, list[make_ptb.Record]], tmp_path: Path) -> Path:
    """A copy to damage, one folder further down, as the zip of the release unpacks."""
    shutil.copytree(made[0], tmp_path / "raw" / "ptb-diagnostic-ecg-database-1.0.0")
    return tmp_path / "raw"


def test_records_are_the_generators(made: tuple[Path, list[make_ptb.Record]]) -> None:
    raw, records = made
    table, recordings, _, rejected = run(ptb, raw, min_count=1)
    assert not rejected
    assert table["record_id"].tolist() == [record.name for record in records]
    assert table["patient_id"].tolist() == [record.patient for record in records]
    assert table["age"].fillna(-1).tolist() == [-1 if record.age is None else record.age for record in records]
    assert [None if sex != sex else sex for sex in table["sex"]] == [record.sex for record in records]
    assert table["ecg_date"][0] == "01/10/1990"
    for record, recording in zip(records, recordings, strict=True):
        assert recording.sampling_rate == 1000
        assert recording.microvolt_per_bit == 0.5
        assert recording.metadata["other_leads"] == ["vx", "vy", "vz"]
        assert "checksum_mismatches" not in recording.metadata
        np.testing.assert_allclose(recording.signal, record.millivolts, atol=1e-6)


def test_wfdb_reads_the_same(made: tuple[Path, list[make_ptb.Record]]) -> None:
    raw, _ = made
    signal, fields = wfdb.rdsamp(str(raw / "patient001/s0010_re"))
    assert fields["sig_name"] == list(make_ptb.LEADS + make_ptb.FRANK)
    assert len(fields["comments"]) == 48  # 47 keys, one of them twice
    np.testing.assert_allclose(ptb.read(raw, "patient001/s0010_re.hea").signal, signal[:, :12], atol=1e-6)


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_labels_and_their_order(made: tuple[Path, list[make_ptb.Record]], protocol: str) -> None:
    raw, records = made
    expected = [r.paper if protocol == "paper" and r.paper is not None else r.labels for r in records]
    *_, labels, _ = run(ptb, raw, min_count=1, protocol=protocol)
    classes, targets, kinds = labels.sets["all"]
    counts = Counter(label for each in expected for label in each)
    assert classes == tuple(sorted(counts, key=lambda label: (-counts[label], label)))
    assert set(kinds) == {"classification"}
    for each, row in zip(expected, targets, strict=True):
        assert {name for name, value in zip(classes, row, strict=True) if value} == set(each)
    assert "2 records have no diagnosis" in labels.notes
    assert any("2 records have other labels" in note for note in labels.notes) == (protocol == "default")


def test_the_most_frequent_come_first(made: tuple[Path, list[make_ptb.Record]]) -> None:
    raw, _ = made
    *_, labels, _ = run(ptb, raw, min_count=3)
    # Hyperlipoproteinaemia: twice in one record and once in another.
    assert labels.sets["all"][0] == ("Myocardial infarction old", "Hyperlipoproteinemia", "Obesity")
    assert labels.sets["all"][1].sum(axis=0).tolist() == [4, 2, 3]


def test_folds_of_patients_are_the_spec_s(made: tuple[Path, list[make_ptb.Record]]) -> None:
    raw, records = made
    expected = [[2, 5, 6], [4, 8, 10], [9, 11], [1, 3], [0, 7]]  # datasets.md 1.4, of twelve patients.
    patients = [f"patient{i + 1:03d}" for i in range(12)]
    folds = ptb.patient_folds(patients)
    assert [np.flatnonzero(folds == fold).tolist() for fold in range(5)] == expected
    *_, labels, _ = run(ptb, raw, min_count=1)
    assert sorted({record.patient for record in records}) == patients
    assert labels.folds.tolist() == [folds[patients.index(record.patient)] for record in records]


def test_four_patients_are_too_few(own: Path) -> None:
    top = own / "ptb-diagnostic-ecg-database-1.0.0"
    (top / "RECORDS").unlink()
    for folder in sorted(top.glob("patient*"))[4:]:
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="4 patients could be read; the 5 folds of PTB need at least 5"):
        run(ptb, own)


def test_damaged_and_missing_records_are_rejected(own: Path) -> None:
    top = own / "ptb-diagnostic-ecg-database-1.0.0"
    signal = top / "patient001/s0010_re.dat"
    signal.write_bytes(signal.read_bytes()[:-100])
    (top / "patient002/s0017lre.hea").unlink()  # RECORDS still names it.
    (top / "patient004/s0021are.hea").write_bytes(b"not a header\r\n")
    (top / "patient003/s0020are.xyz").unlink()  # Not needed.
    table, *_, rejected = run(ptb, own, min_count=1)
    assert set(rejected) == {"s0010_re", "s0017lre", "s0021are"}
    assert "truncated" in rejected["s0010_re"]
    assert "no such file" in rejected["s0017lre"]
    assert "s0020are" in table["record_id"].tolist()


def test_no_patients_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no patient001/\*\.hea there"):
        run(ptb, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        run(ptb, tmp_path / "none")
    for top in "ab":
        make_ptb.write(tmp_path / top / "patient001", "s1", np.ones((5, 15), np.int16), {}, ["", ""])
    with pytest.raises(UserError, match="record s1 is there twice"):
        run(ptb, tmp_path)


def test_dates() -> None:
    assert ptb.parse_date("01/10/1990") == datetime.date(1990, 10, 1)
    assert ptb.parse_date(" 29-Sep-90 ") == datetime.date(1990, 9, 29)
    assert ptb.parse_date("1-jan-69") == datetime.date(1969, 1, 1)
    assert ptb.parse_date("1-Jan-68") == datetime.date(2068, 1, 1)
    for none in ("n/a", "-", "", "31/02/1990", "1-Mai-90", "00/01/1990", "01/10/90", "29-Sep-0000", "²/1/1990"):
        assert ptb.parse_date(none) is None


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,2}[-/][0-9A-Za-z]{1,3}[-/][0-9]{2,4}", fullmatch=True))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert ptb.parse_date(text) is None or isinstance(ptb.parse_date(text), datetime.date)


@given(st.lists(st.sampled_from(["age: ", "Reason for admission: ", "ECG date:", "", "x:"]).flatmap(
    lambda key: st.text(max_size=12).map(lambda value: key + value)), max_size=6))  # fmt: skip
def test_any_comments_have_labels(comments: list[str]) -> None:
    row = ptb.parse_header(comments)
    assert all(isinstance(value, str | float) for value in row.values())
    assert all(isinstance(label, str) and label for label in ptb.diagnoses(row))


@pytest.mark.skipif("ECGJAX_REAL" not in os.environ, reason="ECGJAX_REAL names no folder of genuine recordings")
def test_the_genuine_record() -> None:
    folder = Path(os.environ["ECGJAX_REAL"]) / "ptbdb"
    listed = ptb.listing(folder, None)
    assert listed.iloc[0].to_dict() == {
        "record_id": "s0010_re", "patient_id": "patient001", "key": "patient001/s0010_re.hea"
    }  # fmt: skip
    recording = ptb.read(folder, listed["key"][0])
    signal, fields = wfdb.rdsamp(str(folder / "patient001/s0010_re"))
    assert fields["sig_name"][:12] == [lead.lower() for lead in recording.present]
    assert recording.signal.shape == (38400, 12)
    np.testing.assert_allclose(recording.signal, signal[:, :12], atol=1e-6)
    assert recording.metadata["age"] == 81
    assert recording.metadata["sex"] == "female"
    assert ptb.diagnoses(recording.metadata) == ["Myocardial infarction acute catheterized", "Diabetes mellitus"]
    residual = recording.signal[:, 0] + recording.signal[:, 2] - recording.signal[:, 1]
    assert np.abs(residual).max() < 0.0011  # Two steps.


def test_the_command_makes_a_store(made: tuple[Path, list[make_ptb.Record]], tmp_path: Path) -> None:
    raw, records = made
    store = prepared(ptb, raw, tmp_path / "store", records, min_count=1, atol=1e-6)
    assert store.classes("all")[0] == "Myocardial infarction old"
    assert store.sampling_rate == 1000
