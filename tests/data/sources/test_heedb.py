"""HEEDB: partitions, duplicates, repair, 240 Hz, codes by count, folds by patient; without JAX."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import resampy
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.sources import heedb, heedb_tables
from ecgjax.data.store import open_store
from ecgjax.data.store_union import open_stores
from ecgjax.errors import UserError
from ecgjax.prepare import main
from tests.data.sources.make_heedb import PARTITIONS, make
from tests.data.sources.run_source import run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    raw = tmp_path_factory.mktemp("heedb")
    return raw, make(raw)


@pytest.fixture(scope="module")
def prepared(data):
    return run(heedb, data[0])


def listed(records, *partitions):
    return [record for record in records if not record.duplicate and record.partition in (partitions or PARTITIONS)]


def usable(records, *partitions):
    return [
        record
        for record in listed(records, *partitions)
        if record.rate >= 240 and not np.isnan(record.millivolts).all()
    ]


def labelled(raw, partitions=None, protocol="default"):
    """Listing and labels of all records that are listed, without reading their signals."""
    options = argparse.Namespace(partitions=partitions, protocol=protocol, raw=raw, min_count=10)
    listing = heedb.listing(raw, options)
    return listing, heedb.label(listing, options)


def test_records(data, prepared):
    table, _, _, rejected = prepared
    wanted = usable(data[1])
    assert table["record_id"].tolist() == [record.name for record in wanted]
    for column in ("patient", "partition", "sex", "race"):
        own = table["patient_id" if column == "patient" else column].astype(str).tolist()
        assert own == [getattr(record, column) for record in wanted], column
    np.testing.assert_array_equal(table["age"], [record.age for record in wanted])
    assert table["diagnostic_codes"].tolist() == [",".join(record.codes or ()) for record in wanted]
    assert table["native_sampling_rate"].tolist() == [record.rate for record in wanted]
    repaired = [int(np.isnan(record.millivolts).sum()) for record in wanted]
    assert table["repaired_values"].tolist() == repaired
    assert set(rejected) == {record.name for record in listed(data[1])} - set(table["record_id"])
    slow = next(record.name for record in data[1] if record.rate == 200)
    assert "200 Hz; expected at least 240 Hz" in rejected[slow]
    empty = next(record.name for record in listed(data[1]) if np.isnan(record.millivolts).all())
    assert rejected[empty] == "every value is NaN"


def test_signals(data, prepared):
    for record, recording in zip(usable(data[1]), prepared[1], strict=True):
        repaired = pd.DataFrame(record.millivolts).interpolate().clip(-3, 3).to_numpy()
        assert recording.sampling_rate == 240
        assert recording.signal.shape == (2400, 12)
        gaps = np.isnan(repaired)
        expected = resampy.resample(np.where(gaps, 0, repaired), record.rate, 240, axis=0, filter="kaiser_best")
        whole = ~gaps.any(axis=0)
        np.testing.assert_allclose(recording.signal[:, whole], expected[:, whole], atol=2e-5)
        for lead in np.flatnonzero(~whole):
            # A gap at the start is not filled and costs nothing but itself; the filter reaches 0.4 s further.
            end = int(gaps[:, lead].sum() * 240 / record.rate)
            assert np.isnan(recording.signal[: end - 1, lead]).all()
            assert not np.isnan(recording.signal[end + 1 :, lead]).any()
            np.testing.assert_allclose(recording.signal[end + 97 :, lead], expected[end + 97 :, lead], atol=2e-3)
    assert any(np.isnan(recording.signal).any() for recording in prepared[1])
    clipped = [np.abs(record.millivolts).max() > 3 for record in usable(data[1])]
    assert any(clipped)


def test_vocabulary_counts_all_interpretations(data, prepared):
    classes, targets, kinds = prepared[2].sets["all"]
    # 1699 is only in interpretations of records that are not there.
    assert classes[0] == "1699"
    assert classes[1] == "22"
    counts = pd.Series([code for record in data[1] for code in record.codes or ()]).value_counts()
    assert list(classes[1:]) == sorted(counts.index, key=lambda code: (-counts[code], code))
    wanted = [[code in (record.codes or ()) for code in classes] for record in usable(data[1])]
    np.testing.assert_array_equal(targets, wanted)
    assert set(kinds) == {"classification"}
    assert labelled(data[0], ["S0001-1987"])[1].sets["all"][0] == classes


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_folds_by_patient(data, protocol):
    table, labels = labelled(data[0], protocol=protocol)
    assert (labels.folds >= 0).all()
    assert labels.folds.max() < 20
    of_patient = pd.Series(labels.folds).groupby(table["patient_id"].to_numpy()).nunique()
    of_both = (
        pd.Series(labels.folds).groupby([table["patient_id"].to_numpy(), table["partition"].astype(str)]).nunique()
    )
    assert (of_both == 1).all()
    assert (of_patient == 1).all() == (protocol == "default")
    # A partition for itself, in a store of its own, has the folds of the publication.
    alone, own = labelled(data[0], ["S0001-1987"])
    together = labels.folds[(table["partition"] == "S0001-1987").to_numpy()]
    assert (alone["partition"] == "S0001-1987").all()
    assert (own.folds.tolist() == together.tolist()) == (protocol == "paper")


def test_notes(data, prepared):
    notes = prepared[2].notes
    assert any("3 records are left out as duplicates" in note for note in notes)
    without = sum(record.codes is None for record in usable(data[1]))
    assert f"{without} records have no interpretation" in notes
    assert "folds are stratified over all partitions together" in notes


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["S0002-1993"], ("S0002-1993",)),
        (["S0001-1987,S0002-1993"], ("S0001-1987", "S0002-1993")),
        (["S0001-1987", "S0002-1993, S0001-1987"], ("S0001-1987", "S0002-1993")),
        (None, PARTITIONS),
    ],
)
def test_partitions(data, options, wanted):
    listing = heedb.listing(data[0], argparse.Namespace(partitions=options))
    assert listing["record_id"].tolist() == [record.name for record in listed(data[1], *wanted)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["S0001-1988"], "no such partition, but S0001-1987, S0001-2015, S0002-1993"),
        (["1987"], "--partitions=1987: expected institution and year, such as S0001-1987"),
        ([""], "--partitions=: expected institution and year"),
    ],
)
def test_wrong_partitions(data, options, message):
    with pytest.raises(UserError, match=message):
        heedb.listing(data[0], argparse.Namespace(partitions=options))


def copied(data, tmp_path):
    shutil.copytree(data[0], tmp_path, dirs_exist_ok=True)
    heedb_tables.vocabulary.cache_clear()
    return argparse.Namespace(partitions=None)


def test_partitions_that_are_not_there(data, tmp_path):
    options = copied(data, tmp_path)
    shutil.rmtree(tmp_path / "ECG" / "WFDB" / "S0002")
    listing = heedb.listing(tmp_path, options)
    assert set(listing["partition"]) == {"S0001-1987", "S0001-2015"}
    assert "12 records are left out because their folder is not there" in listing["_notes"][0]
    with pytest.raises(UserError, match=r"S0002/1993: no such folder; expected the records of --partitions=S0002-1993"):
        heedb.listing(tmp_path, argparse.Namespace(partitions=["S0002-1993"]))


def test_files_named_with_another_folder_before(data, tmp_path):
    options = copied(data, tmp_path)
    path = tmp_path / "Metadata" / "demographics_ECG.csv"
    table = pd.read_csv(path)
    table.assign(FileName="WFDB/" + table["FileName"]).to_csv(path, index=False)
    listing = heedb.listing(tmp_path, options)
    pd.testing.assert_frame_equal(listing, heedb.listing(data[0], options))


def test_interpretations_with_oddities(data, tmp_path):
    options = copied(data, tmp_path)
    path = tmp_path / "Metadata" / "ECG_Interpretations.psv"
    name = data[1][0].name
    path.write_text(
        "file_source|diagnostic_codes|statements\n"
        f'{name}|"[22, 1023.0]"|"sinus"\n'
        f"{name}|99|again\n"
        f"{data[1][1].name}||\n"
        f"{data[1][2].name}|none,5|\n"
    )
    listing = heedb.listing(tmp_path, options)
    assert listing["diagnostic_codes"].tolist()[:3] == ["22,1023", "", "5"]
    assert heedb_tables.vocabulary(path) == ("1023", "22", "5", "99")


def test_wrong_tables(data, tmp_path):
    options = copied(data, tmp_path)
    metadata = tmp_path / "Metadata"
    (metadata / "duplicated.csv").write_text("file\nx\n")
    with pytest.raises(UserError, match=r"duplicated.csv: no column 'file_name'; the columns are 'file'"):
        heedb.listing(tmp_path, options)
    (metadata / "duplicated.csv").unlink()
    with pytest.raises(UserError, match=r"no duplicated.csv"):
        heedb.listing(tmp_path, options)
    names = [record.name for record in data[1]]
    (metadata / "duplicated.csv").write_text("\n".join(["file_name", *names]))
    with pytest.raises(UserError, match=r"every record of the partitions is in duplicated.csv"):
        heedb.listing(tmp_path, options)
    (metadata / "duplicated.csv").write_text("file_name\n")
    assert len(heedb.listing(tmp_path, options)) == len(names)
    (metadata / "demographics_ECG.csv").write_text(
        "FileName,Age,SexDSC,PatientRace,BDSPPatientID\nS0001/1987/a.hea,1,Male,White,2\nb.hea,1,Male,White,2\n"
    )
    with pytest.raises(UserError, match=r"row 3, column 'FileName' has 'b.hea'; expected a path with institution"):
        heedb.listing(tmp_path, options)
    (metadata / "demographics_ECG.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"demographics_ECG.csv: not a table"):
        heedb.listing(tmp_path, options)
    shutil.rmtree(tmp_path / "ECG")
    with pytest.raises(UserError, match=r"no folder ECG/WFDB"):
        heedb.listing(tmp_path, options)


def test_tables_are_read_in_pieces(data, monkeypatch):
    options = argparse.Namespace(partitions=["S0001-2015"])
    whole = heedb.listing(data[0], options)
    monkeypatch.setattr(heedb_tables, "ROWS", 5)
    pd.testing.assert_frame_equal(heedb.listing(data[0], options), whole)


def test_targets_too_large_are_left_out(data, monkeypatch):
    monkeypatch.setattr(heedb, "LARGEST_TARGETS", 100)
    labels = labelled(data[0])[1]
    assert labels.sets == {}
    assert any("label set 'all' is left out" in note for note in labels.notes)


@pytest.mark.parametrize(
    ("age", "group"),
    [(np.nan, "unknown"), (0, "18"), (17.9, "18"), (18, "30"), (89.9, "90"), (90, "100"), (101, "100")],
)
def test_age_groups(age, group):
    assert heedb.age_group(age) == f"age_{group}"


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789,. []\"'-e|x\n", max_size=30))
def test_any_cell_has_codes(cell):
    assert all(code.isdigit() for code in heedb_tables.codes(cell))


def test_reading_does_not_load_jax(data):
    key = heedb.listing(data[0], argparse.Namespace(partitions=None))["key"][0]
    code = (
        "import sys; from pathlib import Path; from ecgjax.data.sources import heedb; "
        f"heedb.read(Path({str(data[0])!r}), {key!r}); sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_end_to_end_one_store_per_partition(data, tmp_path):
    paths = []
    for name in PARTITIONS[:2]:
        paths.append(tmp_path / f"heedb-{name}")
        common = ["--workers=1", "--max-rejected=0.5", f"--raw={data[0]}"]
        main(["heedb", *common, f"--out={paths[-1]}", f"--partitions={name}"])
    wanted = usable(data[1], *PARTITIONS[:2])
    store = open_stores(paths)
    assert len(store) == len(wanted)
    assert store.sampling_rate == 240
    one = open_store(paths[0])
    assert one.classes("all") == open_store(paths[1]).classes("all")
    for record in usable(data[1], PARTITIONS[0])[:2]:
        own = heedb.read(data[0], f"ECG/WFDB/S0001/1987/{record.name}").signal
        np.testing.assert_allclose(one.signal(record.name), own, atol=0.00051)
    assert json.loads((paths[0] / "checks.json").read_text())["checks"][0]["passed"]  # Einthoven's laws
