"""ZZU pECG: twelve-lead records only, quotes and modifiers in cells, ages in days, gains of every lead."""

import contextlib
import csv
import json
import shutil

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.sources import zzu_pecg
from ecgjax.data.store import open_store
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError
from ecgjax.prepare import main
from tests.data.sources.make_zzu_pecg import LEADS, TYPE_OF, make
from tests.data.sources.run_source import run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    raw = tmp_path_factory.mktemp("zzu_pecg")
    return raw, make(raw)


@pytest.fixture(scope="module")
def prepared(data):
    return run(zzu_pecg, data[0], min_count=3)


def twelve(records):
    return [record for record in records if record.leads == 12]


def test_records_and_signals(data, prepared):
    table, recordings, _, rejected = prepared
    wanted = twelve(data[1])
    assert table["record_id"].tolist() == [record.name for record in wanted]
    assert table["patient_id"].tolist() == [record.patient for record in wanted]
    assert table["age_days"].tolist() == [record.days for record in wanted]
    np.testing.assert_allclose(table["age"], [record.days / 365.25 for record in wanted])
    assert [None if sex != sex else sex for sex in table["sex"]] == [record.sex for record in wanted]
    assert rejected == {}
    for record, recording in zip(wanted, recordings, strict=True):
        np.testing.assert_allclose(recording.signal, record.millivolts, rtol=1e-6, atol=1e-6)
        assert recording.microvolt_per_bit is None
        assert recording.sampling_rate == 500
    # The same millivolts as the wfdb package itself reads, whose leads are upper-case here.
    signal, fields = wfdb.rdsamp(str(data[0] / table["key"][0]))
    assert fields["sig_name"] == list(LEADS)
    np.testing.assert_allclose(recordings[0].signal, signal, rtol=1e-6, atol=1e-6)


def test_saturated_records_are_marked(data, prepared):
    table, recordings = prepared[:2]
    railed = [np.abs(recording.signal).max() > 26.5 for recording in recordings]
    assert table["at_limit"].tolist() == railed
    assert sum(railed) == 1
    np.testing.assert_allclose(max(np.abs(recording.signal).max() for recording in recordings), 26.6, atol=0.01)


def test_label_sets(data, prepared):
    sets, wanted = prepared[2].sets, twelve(data[1])
    for name, lists in {
        "all": [record.labels for record in wanted],
        "findings": [record.findings for record in wanted],
        "disease_category": [record.categories for record in wanted],
        "disease_type": [tuple(TYPE_OF[category] for category in record.categories) for record in wanted],
    }.items():
        classes, targets, kinds = sets[name]
        counts = {label: sum(own.count(label) for own in lists) for own in lists for label in own}
        assert classes == tuple(sorted(label for label, count in counts.items() if count >= 3)), name
        np.testing.assert_array_equal(targets, [[label in own for label in classes] for own in lists])
        assert set(kinds) == {"classification"}
    assert "Left ventricular high voltage" in sets["findings"][0]
    assert "Left ventricular high voltage" not in sets["all"][0]
    assert "ST deviation" in sets["findings"][0]  # only ever there with a modifier
    assert "ST deviation" not in sets["all"][0]
    assert "Congenital heart disease" in sets["disease_type"][0]


def test_classes_need_ten_occurrences_by_default(data):
    _, _, labels, _ = run(zzu_pecg, data[0])
    counts = {c: sum(c in record.labels for record in twelve(data[1])) for c in ("Normal ECG", "Sinus tachycardia")}
    assert labels.sets["all"][0] == tuple(c for c, count in counts.items() if count >= 10)
    assert counts["Normal ECG"] < 10 <= counts["Sinus tachycardia"]


def test_folds(data, prepared):
    wanted = twelve(data[1])
    classes = list(prepared[2].sets["disease_category"][0])
    n = len(classes)
    patients = sorted({record.patient for record in wanted})
    pooled, sizes = [], []
    for patient in patients:
        own = [record for record in wanted if record.patient == patient]
        labels = []
        for record in own:
            labels += [classes.index(c) for c in record.categories if c in classes]
            labels += [n, n + 1 if record.sex == "male" else n + 2]
            labels += [n + 3 + sum(record.days >= bound for bound in (365, 5 * 365, 12 * 365, 18 * 365))]
        pooled.append(labels)
        sizes.append(len(own))
    subsets = stratify(pooled, range(n + 8), [0.1] * 10, sizes, seed=0)
    fold_of = {patients[member]: number for number, subset in enumerate(subsets) for member in subset}
    assert prepared[2].folds.tolist() == [fold_of[record.patient] for record in wanted]


def test_notes(data, prepared):
    nine = sum(record.leads == 9 for record in data[1])
    assert f"{nine} records with nine leads are left out" in prepared[2].notes
    assert any("are text or have a modifier" in note for note in prepared[2].notes)
    assert "1 records reach the amplifier's limit (26.5 mV or more)" in prepared[2].notes


def test_a_broken_file_is_rejected(data, tmp_path):
    shutil.copytree(data[0], tmp_path, dirs_exist_ok=True)
    names = [record.name for record in twelve(data[1])]
    files = [next(tmp_path.rglob(f"{name}.dat")) for name in names[:2]]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-100])
    table, _, _, rejected = run(zzu_pecg, tmp_path)
    assert list(rejected) == names[:2]
    assert "no such file" in rejected[names[0]]
    assert "truncated" in rejected[names[1]]
    assert len(table) == len(names) - 2


def test_a_record_of_nine_leads_said_to_have_twelve_is_rejected(data):
    nine = next(record for record in data[1] if record.leads == 9)
    with pytest.raises(UserError, match=r"no lead V2, V4, V6; expected all twelve"):
        zzu_pecg.read(data[0], f"Child_ecg/{nine.patient[:3]}/{nine.patient}/{nine.name}")


@pytest.mark.parametrize("layout", ["release/Child_ecg", "."])
def test_other_layouts(data, tmp_path, layout):
    for path in data[0].iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    shutil.copytree(data[0] / "Child_ecg", tmp_path / layout, dirs_exist_ok=True)
    key = zzu_pecg.listing(tmp_path, None)["key"][0]
    assert len(zzu_pecg.read(tmp_path, key).signal)


def change(path, row, column, value):
    rows = list(csv.reader(path.open(encoding="utf-8-sig")))
    rows[row][rows[0].index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize(
    ("file", "row", "column", "value", "message"),
    [
        ("AttributesDictionary.csv", 2, "Age", "2 years", r"Age is '2 years'; expected days, like 572d"),
        ("AttributesDictionary.csv", 2, "Lead", "15", r"row 3, column 'lead' has '15'; expected 12 or 9"),
        ("AttributesDictionary.csv", 2, "ECG_ID", "", r"row 3, column 'ecg_id' has ''; expected a unique name"),
        ("AttributesDictionary.csv", 0, "AHA_code", "codes", r"no column 'aha_code'"),
        ("ECGCode.csv", 0, "AHA(Category&Code)", "AHA", r"ECGCode.csv: no column 'aha\(category&code\)'"),
        ("DiseaseCode.csv", 0, "Disease Category", "?", r"DiseaseCode.csv: no column 'disease category'"),
    ],
)
def test_wrong_tables(data, tmp_path, file, row, column, value, message):
    shutil.copytree(data[0], tmp_path, dirs_exist_ok=True)
    change(tmp_path / file, row, column, value)
    with pytest.raises(UserError, match=message) as caught:
        zzu_pecg.listing(tmp_path, None)
    assert "\n" not in str(caught.value)


def test_missing_files(data, tmp_path):
    for path in data[0].iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    with pytest.raises(UserError, match=r"no folder Child_ecg"):
        zzu_pecg.listing(tmp_path, None)
    (tmp_path / "Child_ecg.zip").touch()
    with pytest.raises(UserError, match=r"begins in Child_ecg.z01: join and unpack them"):
        zzu_pecg.listing(tmp_path, None)
    (tmp_path / "ECGCode.csv").unlink()
    with pytest.raises(UserError, match=r"no ECGCode.csv"):
        zzu_pecg.listing(tmp_path, None)


@pytest.mark.parametrize(
    ("cell", "entries"),
    [
        ("'C21';'Left ventricular high voltage'", ["C21", "Left ventricular high voltage"]),
        (" 'C21' ; ;'N/A';Null", ["C21"]),
        ("", []),
        ("A1", ["A1"]),
    ],
)
def test_cells(cell, entries):
    assert zzu_pecg.split_cell(cell) == entries


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="'; +C21LdQ.()é\n", max_size=30))
def test_any_cell_can_be_split(cell):
    for entry in zzu_pecg.split_cell(cell):
        assert ";" not in entry
        assert entry == entry.strip()
        found = zzu_pecg.finding(entry, {"C21": "Sinus tachycardia"}, frozenset(["Sinus tachycardia"]))
        assert found in (None, "Sinus tachycardia")
    with contextlib.suppress(UserError):
        assert not zzu_pecg.parse_days(cell, source="cell") < 0


def test_end_to_end(data, tmp_path):
    main(["zzu_pecg", f"--raw={data[0]}", f"--out={tmp_path / 'store'}", "--workers=1", "--min-count=3"])
    store, wanted = open_store(tmp_path / "store"), twelve(data[1])
    assert store.records["record_id"].tolist() == [record.name for record in wanted]
    assert set(store.label_sets()) == {"all", "findings", "disease_category", "disease_type"}
    for record in wanted[::5]:
        np.testing.assert_allclose(store.signal(record.name), record.millivolts, atol=0.0021)
    assert json.loads((tmp_path / "store" / "checks.json").read_text())["checks"][0]["passed"]  # Einthoven's laws
