"""PTB-XL: statements of any likelihood, official folds, the oddities of its tables (datasets.md 3.1)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.sources import ptbxl
from ecgjax.errors import UserError
from tests.data.sources import make_ptbxl
from tests.data.sources.run_source import prepared, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[make_ptbxl.Record]]:
    # As the zip of the release unpacks: one folder further down.
    raw = tmp_path_factory.mktemp("ptbxl")
    (raw / "ptb-xl-1.0.3").mkdir()
    return raw, make_ptbxl.make(raw / "ptb-xl-1.0.3")


@pytest.fixture
def own(made: tuple[Path, list[make_ptbxl.Record]], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made[0] / "ptb-xl-1.0.3", tmp_path / "raw"))


def test_records_are_the_generators(made: tuple[Path, list[make_ptbxl.Record]]) -> None:
    raw, records = made
    table, recordings, labels, rejected = run(ptbxl, raw, min_count=1)
    assert not rejected
    assert table["record_id"].tolist() == [record.name for record in records]
    assert table["patient_id"].tolist() == [record.patient for record in records]  # Not "15000.0".
    assert labels.folds.tolist() == [record.fold for record in records]
    assert set(labels.folds) == set(range(1, 11))
    assert table["sex"].tolist() == [record.sex for record in records]  # 0 is male.
    assert table["age"].fillna(-1).tolist() == [-1 if record.age is None else record.age for record in records]
    assert 300 not in table["age"].tolist()
    assert table["height"].fillna(0).tolist() == [170.0] + [0.0] * (len(records) - 1)
    for record, recording in zip(records, recordings, strict=True):
        assert recording.sampling_rate == 500
        assert recording.microvolt_per_bit == 1
        assert not recording.missing
        np.testing.assert_allclose(recording.signal, record.millivolts, atol=1e-6)


def test_all_is_every_key_whatever_its_likelihood(made: tuple[Path, list[make_ptbxl.Record]]) -> None:
    raw, records = made
    *_, labels, _ = run(ptbxl, raw, min_count=1)
    classes, targets, _ = labels.sets["all"]
    assert classes == tuple(sorted({code for record in records for code in record.codes}))
    for record, row in zip(records, targets, strict=True):
        assert {name for name, value in zip(classes, row, strict=True) if value} == set(record.codes)
    assert any("LVOLT" in note for note in labels.notes)
    assert any("4 records have no statement" in note for note in labels.notes)


def test_other_sets_go_through_the_statements(made: tuple[Path, list[make_ptbxl.Record]]) -> None:
    raw, records = made
    *_, labels, _ = run(ptbxl, raw, min_count=1)
    column = {"diag": 0, "form": 1, "rhythm": 2, "super": 3, "sub": 4}
    assert labels.sets["super"][0] == ("CD", "HYP", "MI", "NORM", "STTC")
    assert labels.sets["sub"][0] == ("AMI", "CLBBB", "IMI", "LVH", "NORM", "STTC", "_AVB")  # "_" after upper case.
    assert labels.sets["rhythm"][0] == ("AFIB", "SR")
    assert {"NDT"} == set(labels.sets["diag"][0]) & set(labels.sets["form"][0])
    for name, index in column.items():
        classes, targets, kinds = labels.sets[name]
        assert set(kinds) == {"classification"}
        for record, row in zip(records, targets, strict=True):
            facts = [(code, make_ptbxl.STATEMENTS[code]) for code in record.codes if code in make_ptbxl.STATEMENTS]
            if name in ("super", "sub"):
                expected = {fact[index] for _, fact in facts if fact[0]}
            else:
                expected = {code for code, fact in facts if fact[index]}
            assert {label for label, value in zip(classes, row, strict=True) if value} == expected


def test_rare_statements_are_no_class(made: tuple[Path, list[make_ptbxl.Record]]) -> None:
    raw, _ = made
    *_, labels, _ = run(ptbxl, raw, min_count=8)
    assert labels.sets["all"][0] == ("SR",)
    # CD is in four records, twice in each: repeats count.
    assert labels.sets["super"][0] == ("CD", "MI")
    assert labels.sets["super"][1].sum(axis=0).tolist() == [4, 8]
    assert labels.sets["sub"][0] == ("IMI",)
    assert labels.sets["form"][0] == ()
    assert len(labels.sets["form"][1]) == 24  # Nobody is dropped.


def test_wfdb_reads_the_same(made: tuple[Path, list[make_ptbxl.Record]]) -> None:
    raw, records = made
    signal, fields = wfdb.rdsamp(str(raw / "ptb-xl-1.0.3/records500/21000/21837_hr"))
    assert fields["sig_name"][3] == "AVR"
    assert records[-1].name == "21837_hr"
    np.testing.assert_allclose(ptbxl.read(raw, "ptb-xl-1.0.3/records500/21000/21837_hr").signal, signal, atol=1e-6)


def test_damaged_and_missing_signals_are_rejected(own: Path) -> None:
    signal = own / "records500/00000/00002_hr.dat"
    signal.write_bytes(signal.read_bytes()[:-10])
    (own / "records500/00000/00003_hr.hea").unlink()
    table, recordings, labels, rejected = run(ptbxl, own, min_count=1)
    assert set(rejected) == {"00002_hr", "00003_hr"}
    assert "truncated" in rejected["00002_hr"]
    assert "no such file" in rejected["00003_hr"]
    assert len(table) == len(recordings) == len(labels.folds) == 22


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("ptbxl_database.csv", "scp_codes", "codes", "no column 'scp_codes'"),
        ("ptbxl_database.csv", "strat_fold", "fold", "no column 'strat_fold'"),
        ("ptbxl_database.csv", "{'NORM': 100.0", "['NORM': 100.0", "record 00001_hr: scp_codes is"),
        ("ptbxl_database.csv", ",1,records100", ",11,records100", "row 2, column 'strat_fold' has '11'"),
        ("ptbxl_database.csv", ",1,records100", ",,records100", "row 2, column 'strat_fold' has ''"),
        ("ptbxl_database.csv", "15000.0", "fifteen", "column 'patient_id' has 'fifteen'"),
        ("scp_statements.csv", "diagnostic_class", "class", "no column 'diagnostic_class'"),
        ("scp_statements.csv", "PVC,", "NDT,", "'NDT'; expected a unique name"),
    ],
)
def test_garbled_tables_are_named(own: Path, file: str, old: str, new: str, message: str) -> None:
    text = (own / file).read_text()
    assert old in text
    (own / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
        run(ptbxl, own)
    assert str(own / file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ptbxl_database.csv", "scp_statements.csv", "records500"])
def test_missing_files_are_named(own: Path, name: str) -> None:
    (own / name).rename(own / "elsewhere")
    with pytest.raises(UserError, match=name):
        run(ptbxl, own)


def test_cells_of_statements() -> None:
    assert ptbxl.parse_codes("{'NORM': 100.0, 'SR': 0.0}", source="x") == ("NORM", "SR")
    assert ptbxl.parse_codes("{'NORM': nan, 'nan': NaN }", source="x") == ("NORM", "nan")
    assert ptbxl.parse_codes("nan", source="x") == ptbxl.parse_codes("", source="x") == ()
    for wrong in ("NORM", "{'NORM'}", "{1: 2}", "{'a b': 1}", "{'a': 'b'}", "{'a': 1e999}", "(" * 500, "{}[0]"):
        with pytest.raises(UserError, match="expected likelihoods by statement"):
            ptbxl.parse_codes(wrong, source="x")


@given(st.text(alphabet="{}'\":,.nab019 ()[]_\x00", max_size=40) | st.text(max_size=20))
def test_any_cell_is_parsed_or_refused(cell: str) -> None:
    try:
        codes = ptbxl.parse_codes(cell, source="row 1")
    except UserError:
        return
    assert all(isinstance(code, str) and code for code in codes)


def test_the_command_makes_a_store(made: tuple[Path, list[make_ptbxl.Record]], tmp_path: Path) -> None:
    raw, records = made
    store = prepared(ptbxl, raw, tmp_path / "store", records, min_count=1, atol=1e-6)
    assert store.meta["source_version"] == "1.0.3"
    assert set(store.label_sets()) == {"all", "diag", "form", "rhythm", "super", "sub"}
    assert store.classes("super") == ("CD", "HYP", "MI", "NORM", "STTC")
