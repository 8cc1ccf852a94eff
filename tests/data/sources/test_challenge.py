"""The Challenge's cohorts: layouts, headers, the workbook's quirks, classes, folds, rejected records."""

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.sources import challenge_mapping, cpsc2018, cpsc_extra, georgia, ningbo
from ecgjax.data.store import open_store
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError
from ecgjax.prepare import main
from tests.data.sources.make_challenge import (
    SHEETS,
    Record,
    make_ningbo,
    signal,
    write_record,
    write_workbook,
)
from tests.data.sources.run_source import run

REAL = os.environ.get("ECGJAX_REAL")
OPTIONS = argparse.Namespace(mapping=None)
SHEET_SIZES = {"CPSC": (9, 9, 9), "CPSC-Extra": (72, 72, 72), "G12EC": (123, 123, 123), "Ningbo": (84, 81, 82)}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    raw = tmp_path_factory.mktemp("challenge-2021-1.0.3")
    return raw, *make_ningbo(raw)


def test_signals_are_millivolts_in_canonical_order(release) -> None:
    raw, records, lost = release
    table, recordings, _, rejected = run(ningbo, raw, min_count=3)
    assert list(table["record_id"]) == [record.name for record in records] == sorted(table["record_id"])
    assert list(table["patient_id"]) == list(table["record_id"])
    for record, recording in zip(records, recordings, strict=True):
        assert recording.sampling_rate == 500
        assert recording.microvolt_per_bit == 1.0
        np.testing.assert_allclose(recording.signal, record.millivolts, atol=1e-6)
    assert list(rejected) == lost
    assert rejected["JS20000"] == "holds NaN"
    assert "truncated" in rejected["JS20001"]
    assert "no such file" in rejected["JS20002"]


def test_ages_and_sexes_of_headers(release) -> None:
    raw, _, _ = release
    table = run(ningbo, raw, min_count=3)[0]
    assert table["age"][:5].isna().tolist() == [True, True, True, False, False]
    assert table["age"][3] == 60
    assert table["sex"][0] == table["sex"][2] == table["sex"][4] == "female"
    assert not isinstance(table["sex"][1], str)
    assert table["sex"][3] == "male"


def test_classes_are_the_names_of_the_workbook(release) -> None:
    raw, records, _ = release
    _, _, labels, _ = run(ningbo, raw, min_count=2)
    classes, targets, kinds = labels.sets["all"]
    # CLBBB twice in one record counts as two occurrences; LQRSV, ARH and LAE occur once.
    assert classes == ("CLBBB", "SB", "SR", "TTW")
    assert set(kinds) == {"classification"}
    expected = [[float(name in record.labels) for name in classes] for record in records]
    assert targets.tolist() == expected
    assert run(ningbo, raw, min_count=1)[2].sets["all"][0] == ("ARH", "CLBBB", "LAE", "LQRSV", "SB", "SR", "TTW")


def test_folds_are_stratified_over_all_names(release) -> None:
    raw, records, _ = release
    for min_count in (1, 3):
        folds = run(ningbo, raw, min_count=min_count)[2].folds
        lists = [record.labels for record in records]
        subsets = stratify(lists, sorted({name for own in lists for name in own}), [0.1] * 10)
        expected = [next((k for k, own in enumerate(subsets) if i in own), -1) for i in range(len(records))]
        assert folds.tolist() == expected
        assert [records[i].name for i in np.flatnonzero(folds == -1)] == [r.name for r in records if not r.labels]


def test_an_unknown_code_is_left_out_and_an_error_for_the_paper(release) -> None:
    raw, records, _ = release
    notes = run(ningbo, raw, min_count=3)[2].notes
    assert any("999999999 (1)" in note and "'Ningbo'" in note for note in notes)
    assert any(note.startswith("2 records have no diagnosis") for note in notes)
    with pytest.raises(UserError, match=r"'999999999'.*sheet 'Ningbo'") as error:
        run(ningbo, raw, min_count=3, protocol="paper")
    assert repr(records[21].name) in str(error.value)


@pytest.mark.parametrize("inner", ["", "training", "training/ningbo"])
def test_any_folder_of_the_release_does(release, inner: str) -> None:
    raw, records, _ = release
    listing = ningbo.listing(raw / inner, OPTIONS)
    assert len(listing) == len(records) + 3
    assert listing["key"][0] == str((Path("training/ningbo/g1") / records[0].name).relative_to(inner or "."))


def test_a_flat_folder_does(release, tmp_path) -> None:
    raw, records, _ = release
    flat = tmp_path / "mine"
    flat.mkdir()
    for path in (raw / "training/ningbo").rglob("*.[hm]*"):
        shutil.copy(path, flat)
    with pytest.raises(UserError, match=r"mine/Label mappings 2021.xlsx: no such file.*--mapping"):
        ningbo.listing(flat, OPTIONS)
    table, _, labels, _ = run(ningbo, flat, min_count=2, mapping=write_workbook(tmp_path / "else" / "where"))
    assert list(table["key"]) == [record.name for record in records]
    assert labels.sets["all"][0] == ("CLBBB", "SB", "SR", "TTW")


def test_cohorts_in_one_place_are_told_apart(tmp_path) -> None:
    for name, codes in (("E00001", "426177001"), ("E00002", "251170000"), ("JS10646", "1"), ("HR00001", "1")):
        write_record(tmp_path, Record(name, signal(1, 50), codes))
    write_record(tmp_path, Record("S23074", signal(1, 50), "426177001"))
    write_workbook(tmp_path)
    table, _, labels, _ = run(georgia, tmp_path, min_count=1)
    assert list(table["record_id"]) == ["E00001", "E00002"]
    assert labels.sets["all"][0] == ("blocked premature atrial contraction", "sinus bradycardia")
    assert "1 of chapman_shaoxing, 1 of ningbo, 1 of ptb-xl" in labels.notes[-1]
    with pytest.raises(UserError, match="has records of chapman_shaoxing and georgia and ningbo and ptb-xl"):
        cpsc2018.listing(tmp_path, OPTIONS)
    # Folders that are named after cohorts settle it, whatever the records are called.
    write_record(tmp_path / "training" / "cpsc_2018_extra" / "g1", Record("A0001", signal(1, 50), "426177001"))
    write_record(tmp_path / "training" / "cpsc_2018" / "g1", Record("E00003", signal(1, 50), "426783006"))
    assert list(run(cpsc_extra, tmp_path, min_count=1)[0]["record_id"]) == ["A0001"]
    assert list(run(cpsc2018, tmp_path, min_count=1)[0]["record_id"]) == ["E00003"]
    with pytest.raises(UserError, match="named after another cohort"):
        georgia.listing(tmp_path / "training" / "cpsc_2018", OPTIONS)


def test_unusual_names_of_one_kind_are_taken(tmp_path) -> None:
    for name in ("patient one", "JS00001", "JS00002"):
        write_record(tmp_path, Record(name.replace(" ", "_"), signal(1, 50), "426177001"))
    write_workbook(tmp_path)
    assert list(ningbo.listing(tmp_path, OPTIONS)["record_id"]) == ["JS00001", "JS00002", "patient_one"]


def test_atrial_rhythm_is_added_where_the_benchmark_adds_it(tmp_path) -> None:
    write_workbook(tmp_path)
    for source, name, known in (
        (cpsc2018, "A0001", True),
        (ningbo, "JS10647", True),
        (cpsc_extra, "Q0001", False),
        (georgia, "E00001", False),
    ):
        folder = tmp_path / source.FACTS.name
        write_record(folder, Record(name, signal(1, 50), "106068003,426177001,164889003"))
        labels = run(source, folder, min_count=1)[2]
        assert ("ARH" in labels.sets["all"][0]) == known
        assert any("106068003" in note for note in labels.notes) != known


def test_what_is_wrong_with_a_folder_is_said(tmp_path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        ningbo.listing(tmp_path / "nothing", OPTIONS)
    with pytest.raises(UserError, match=r"no .hea or .mat file"):
        ningbo.listing(tmp_path, OPTIONS)
    write_workbook(tmp_path)
    write_record(tmp_path / "original", Record("A0001", signal(1, 50)))
    (tmp_path / "original" / "A0001.hea").unlink()
    with pytest.raises(UserError, match=r"1 .mat files and no .hea file; .*prepare it with the source folder"):
        cpsc2018.listing(tmp_path / "original", OPTIONS)
    for group in ("a", "b"):
        write_record(tmp_path / group, Record("JS10647", signal(1, 50)))
    with pytest.raises(UserError, match=r"a/JS10647 and .*b/JS10647: record 'JS10647' is there twice"):
        ningbo.listing(tmp_path, OPTIONS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 not a workbook", "not a workbook"),
        (b"", "not a workbook"),
        ({"CPSC": SHEETS["CPSC"]}, "no sheet 'Ningbo'"),
        ({"Ningbo": (("SB", "12a"),)}, "row 2 has code '12a'"),
        ({"Ningbo": ((None, 426177001.0),)}, "code 426177001 without a name"),
        ({"Ningbo": (("ARH", None),)}, "has no codes"),
    ],
)
def test_what_is_wrong_with_a_workbook_is_said(tmp_path, content, message: str) -> None:
    path = tmp_path / challenge_mapping.NAME
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_workbook(tmp_path, content)
    with pytest.raises(UserError, match=message) as error:
        challenge_mapping.read(path, "Ningbo")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_workbook_without_its_columns(tmp_path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active.title = "Ningbo"
    workbook.active.append(["Diagnosis in the dataset", "Code"])
    workbook.save(tmp_path / challenge_mapping.NAME)
    with pytest.raises(UserError, match="no column 'SNOMED code'; it has 'Diagnosis in the dataset', 'Code'"):
        challenge_mapping.read(tmp_path / challenge_mapping.NAME, "Ningbo")


@given(st.integers(0, 2**53 - 1))
def test_codes_are_text_however_they_are_stored(number: int) -> None:
    for stored in (number, float(number), str(number), f" {number}.0 ", f"00{number}"):
        assert challenge_mapping.code(stored) == str(number)


@given(st.text())
def test_codes_of_any_text(text: str) -> None:
    once = challenge_mapping.code(text)
    assert challenge_mapping.code(once) == once


@pytest.mark.parametrize("name", SHEETS)
def test_mapping_of_the_miniature(tmp_path, name: str) -> None:
    names = challenge_mapping.read(write_workbook(tmp_path), name)
    first: dict[str, str] = {}
    for label, code in SHEETS[name]:
        if code:
            first.setdefault(str(int(code)), label.strip())
    assert names == first


def test_without_openpyxl(tmp_path, monkeypatch) -> None:
    path = write_workbook(tmp_path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"needs openpyxl; install it with: pip install 'ecgjax\[formats\]'"):
        challenge_mapping.read(path, "Ningbo")


SB = "426177001"
PARTS = st.sampled_from([SB, f" {SB}\t", f"0{SB}.0", "Unknown", "nan", "12"]) | st.text("0123456789. :#é", max_size=12)


@settings(max_examples=40)
@given(st.lists(PARTS, max_size=4))
def test_any_codes_are_read(release, tmp_path_factory, parts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("header")
    write_record(folder, Record("JS10647", signal(1, 20), ",".join(parts)))
    said = ningbo.read(folder, "JS10647").metadata["dx"]
    options = argparse.Namespace(
        mapping=release[0] / challenge_mapping.NAME, raw=folder, protocol="default", min_count=1
    )
    labels = ningbo.label(pd.DataFrame({"record_id": ["JS10647"], "dx": [said]}), options)
    assert labels.sets["all"][0] == (("SB",) if any(SB in part for part in parts) else ())


def test_a_store(release, tmp_path) -> None:
    raw, records, lost = release
    out = tmp_path / "store"
    main(["ningbo", f"--raw={raw}", f"--out={out}", "--min-count=2", "--max-rejected=0.2", "--workers=1"])
    store = open_store(out)
    assert store.records["record_id"].tolist() == [record.name for record in records]
    assert store.classes("all") == ("CLBBB", "SB", "SR", "TTW")
    assert store.dtype == "int16"
    for record in records:
        np.testing.assert_allclose(store.signal(record.name), record.millivolts, atol=1e-6)
    rejected = pd.read_csv(out / "rejected.csv")
    assert rejected["record_id"].tolist() == lost
    assert store.records["dx"][0] == "426177001"


@pytest.mark.skipif(not REAL, reason="set ECGJAX_REAL to the folder of genuine recordings")
def test_genuine_workbook() -> None:
    path = Path(REAL) / "challenge2021" / challenge_mapping.NAME
    workbook = openpyxl.load_workbook(path, read_only=True)
    for sheet, sizes in SHEET_SIZES.items():
        rows = [row[:2] for row in workbook[sheet].iter_rows(min_row=2, values_only=True) if row and row[0]]
        coded = [row for row in rows if len(row) > 1 and row[1] is not None]
        assert (len(rows), len({code for _, code in coded}), len({name for name, _ in coded})) == sizes
        names = challenge_mapping.read(path, sheet)
        assert len(names) == sizes[1]
        assert all(code.isdecimal() and name == name.strip() for code, name in names.items())
    names = challenge_mapping.read(path, "Ningbo")
    assert names["251146004"] == "LQRSV"
    assert names["164909002"] == names["733534002"] == "CLBBB"
    assert challenge_mapping.read(path, "G12EC")["251170000"] == "blocked premature atrial contraction"
    for source in (cpsc2018, cpsc_extra, georgia, ningbo):
        known = set(challenge_mapping.read(path, source._COHORT.sheet).values()) | {"ARH"}
        published = source.FACTS.published["all"]
        assert set(published) <= known
        assert len(published) == source._COHORT.classes
        assert min(published.values()) >= 10


@pytest.mark.skipif(not REAL, reason="set ECGJAX_REAL to the folder of genuine recordings")
@pytest.mark.parametrize(("source", "prefix", "count"), [(georgia, "E", 16), (ningbo, "JS", 16)])
def test_genuine_records(source, prefix: str, count: int) -> None:
    raw = Path(REAL) / "challenge2021"
    table, recordings, labels, rejected = run(source, raw, min_count=1, protocol="paper")
    assert not rejected
    assert len(table) == count
    assert table["record_id"].str.startswith(prefix).all()
    for name, recording in zip(table["record_id"], recordings, strict=True):
        signal, fields = wfdb.rdsamp(str(raw / name))
        assert recording.sampling_rate == fields["fs"] == 500
        np.testing.assert_allclose(recording.signal, signal, atol=1e-6)
    classes, targets, _ = labels.sets["all"]
    assert targets.any(axis=1).all()
    if source is georgia:
        assert {classes[i] for i in np.flatnonzero(targets[0])} == {"left atrial enlargement", "sinus bradycardia"}
        assert (table["age"][0], table["sex"][0]) == (78, "male")
