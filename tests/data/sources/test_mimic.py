"""MIMIC-IV-ECG: cohort, diagnoses, joins by study, signals from the zip, errors, and the store (datasets.md, 4)."""

import ast
import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.leads import CANONICAL
from ecgjax.data.sources import mimic, mimic_diagnoses, mimic_tables
from ecgjax.data.sources.mimic_studies import ACUTE
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.prepare import main
from tests.data.sources import make_mimic
from tests.data.sources.make_mimic import labelled
from tests.data.sources.run_source import run

ZIP = f"{make_mimic.ARCHIVE}.zip"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_mimic.make(tmp_path_factory.mktemp("mimic") / "raw", samples=500)


@pytest.fixture
def own(made, tmp_path):
    """A folder of links to the files, of which a test may replace one."""
    folder = tmp_path / "own"
    folder.mkdir()
    for path in made.raw.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def listed(raw, work, **given):
    return mimic.listing(raw, make_mimic.options(raw, work, **given))


def replace(path, content: bytes):
    path.unlink()
    path.write_bytes(content)


def in_cohort(records: pd.DataFrame, column: str) -> pd.Series:
    emergency = records["ecg_taken_in_ed"] & (records["all_diag_all"] != "[]")
    return emergency & ((records[column] < 18) | (records["ecg_no_within_stay"] == 0))


@pytest.mark.parametrize(("protocol", "column"), [("default", "strat_fold"), ("paper", "fold")])
def test_cohort_and_folds(made, tmp_path, protocol, column):
    table, labels = labelled(made.raw, tmp_path, protocol=protocol)
    expected = made.records[in_cohort(made.records, column)].set_index("study_id")
    names = sorted(f"p{row.subject_id}_s{row.Index}" for row in expected.itertuples())
    assert table["record_id"].tolist() == names
    assert table["patient_id"].tolist() == [name[1:].partition("_")[0] for name in names]
    np.testing.assert_array_equal(labels.folds, expected.loc[table["study_id"], "strat_fold"])
    assert {18, 19} <= set(labels.folds)


def test_protocols_have_different_cohorts(made):
    assert (in_cohort(made.records, "fold") != in_cohort(made.records, "strat_fold")).sum() > 3


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("I4891", ("I48", "I489", "I4891")),
        (" E1165 ", ("E11", "E116", "E1165")),
        ("S72001A", ("S72", "S720", "S7200")),
        ("T07XXXA", ("T07",)),
        ("T3XXX", ()),
        ("I4", ()),
        ("", ()),
        ("V45", ("V45",)),
        ("M1A00X0", ("M1A", "M1A0", "M1A00")),
        ("W19XX", ("W19",)),
        ("I10", ("I10",)),
    ],
)
def test_codes_and_their_ancestors(code, expected):
    assert mimic_diagnoses.expand(code) == expected


@given(st.text("IX0189 ", max_size=9))
def test_ancestors_are_those_of_the_steps_as_written(code):
    cut = code.strip()[:5]
    while cut.endswith("X"):
        cut = cut[:-1]
    assert mimic_diagnoses.expand(code) == tuple(cut[:i] for i in range(3, len(cut) + 1))


def test_diagnoses(made, tmp_path):
    table, labels = labelled(made.raw, tmp_path, code_count=20)
    classes, targets, kinds = labels.sets["all"]
    of = {}
    for row in made.records.itertuples():  # All records count, not those of the cohort alone.
        cut = {code.strip()[:5] for code in ast.literal_eval(row.all_diag_all)}
        of[row.study_id] = {x.rstrip("X")[:n] for x in cut for n in range(3, len(x.rstrip("X")) + 1)}
    counts = pd.Series([code for codes in of.values() for code in codes]).value_counts()
    kept = sorted(counts[counts >= 20].index, key=lambda code: (-counts[code], code))
    assert 5 < len(kept) < len(counts)
    ties = counts[kept].to_list()
    assert len(set(ties)) < len(ties)
    assert list(classes) == [*kept, *ACUTE, "sex", *classes[-35:]]
    assert kinds == ("classification",) * (len(kept) + 16) + ("regression",) * 35
    expected = [[float(code in of[study]) for code in kept] for study in table["study_id"]]
    np.testing.assert_array_equal(targets[:, : len(kept)], expected)


def test_acute_care_and_sex_are_joined_by_study(made, tmp_path):
    table, labels = labelled(made.raw, tmp_path)
    classes, targets, _ = labels.sets["all"]
    found = pd.DataFrame(targets, columns=classes, index=table["study_id"])
    expected = made.mds_ed.set_index("general_study_id").reindex(found.index)
    assert expected["vitals_heartrate"].isna().any()
    for name in ACUTE:
        np.testing.assert_array_equal(found[name], expected[name].where(expected[name] != -999), err_msg=name)
    gender = made.records.set_index("study_id")["gender"].loc[found.index]
    assert set(gender) == {"F", "M", "missing"}
    for value, sex in (("F", 0.0), ("M", 1.0), ("missing", np.nan)):
        assert found["sex"][gender == value].equals(pd.Series(sex, gender.index[gender == value], np.float32))
    assert table.set_index("study_id")["sex"][gender == "missing"].isna().all()


def test_the_benchmarks_tasks_find_their_columns(made, tmp_path):
    from ecgjax import tasks

    classes, _, kinds = labelled(made.raw, tmp_path)[1].sets["all"]
    _, reported = tasks.get("mimic")
    columns = {task.name: task.select(classes, kinds) for task in reported}
    numbers = {name: len(found) for name, found in columns.items()}
    codes = numbers.pop("mimic_cardiac") + numbers.pop("mimic_noncardiac")
    assert codes == len(classes) - 51
    assert numbers == {
        "mimic_deterioration": 6, "mimic_mortality": 7, "mimic_icu": 2, "mimic_sex": 1, "mimic_age": 1,
        "mimic_biometrics": 3, "mimic_ecg_features": 7, "mimic_labs": 18, "mimic_vitals": 6,
    }  # fmt: skip
    assert sorted(sum(map(list, columns.values()), [])) == list(range(len(classes)))  # noqa: RUF017


def test_signals_are_repaired_and_in_canonical_order(made, tmp_path):
    table, recordings, _, rejected = run(mimic, made.raw, work=tmp_path)
    assert not rejected
    order = [make_mimic.LEADS.index(lead) for lead in CANONICAL]
    assert order != list(range(12))
    seen = {}
    for row, recording in zip(table.itertuples(), recordings, strict=True):
        raw = made.samples[row.study_id][:, order]
        expected = pd.DataFrame(np.where(raw == -32768, np.nan, raw / make_mimic.GAIN)).interpolate().clip(-3, 3)
        np.testing.assert_allclose(recording.signal, expected, atol=1e-6)
        assert recording.sampling_rate == 500
        gaps = (raw == -32768).sum(axis=0)
        assert row.nans == " ".join(f"{lead}:{n}" for lead, n in zip(CANONICAL, gaps, strict=True) if n)
        assert recording.microvolt_per_bit == (None if gaps.any() else 5.0)
        seen[row.study_id] = row.nans
    first = make_mimic.first_studies(made.records)
    assert [seen[study] for study in first[:3]] == ["aVF:62 V3:1", "V6:500", ""]


def test_unpacked_folder_gives_the_same(made, own, tmp_path):
    (own / ZIP).unlink()
    with zipfile.ZipFile(made.raw / ZIP) as archive:
        archive.extractall(own / "physionet.org")
    packed, unpacked = listed(made.raw, tmp_path / "a"), listed(own, tmp_path / "b")
    assert unpacked["key"][0].startswith(f"physionet.org/{make_mimic.ARCHIVE}/files/p1000/p10000032/s")
    pd.testing.assert_frame_equal(unpacked.drop(columns="key"), packed.drop(columns="key"))
    for i in (0, 3, 5):
        one, other = (mimic.read(*place) for place in ((made.raw, packed["key"][i]), (own, unpacked["key"][i])))
        np.testing.assert_array_equal(one.signal, other.signal)
        assert (one.id, one.metadata) == (other.id, other.metadata)


def test_files_may_lie_in_the_folders_of_their_releases_and_be_unpacked(made, own, tmp_path):
    for name in ("labevents.csv.gz", "omr.csv.gz"):
        (own / name).unlink()
        folder = own / "mimiciv" / "3.1" / "hosp"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress((made.raw / name).read_bytes()))
    ours, theirs = labelled(own, tmp_path / "a"), labelled(made.raw, tmp_path / "b")
    np.testing.assert_array_equal(ours[1].sets["all"][1], theirs[1].sets["all"][1])


def test_measurements_are_found_in_the_zip(made, own, tmp_path):
    (own / ZIP).unlink()
    (own / ZIP).write_bytes((made.raw / ZIP).read_bytes())
    with zipfile.ZipFile(own / ZIP, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(made.raw / "machine_measurements.csv", f"{make_mimic.ARCHIVE}/machine_measurements.csv")
    (own / "machine_measurements.csv").unlink()
    ours, theirs = labelled(own, tmp_path / "a"), labelled(made.raw, tmp_path / "b")
    np.testing.assert_array_equal(ours[1].sets["all"][1], theirs[1].sets["all"][1])


def test_all_records_need_one_table_and_have_no_targets(made, own, tmp_path):
    for path in own.glob("*.csv*"):
        if path.name != "records_w_diag_icd10.csv":
            path.unlink()
    table, labels = labelled(own, tmp_path, all_records=True)
    assert sorted(table["study_id"]) == sorted(made.records["study_id"])
    assert labels.sets == {}
    np.testing.assert_array_equal(labels.folds, made.records.set_index("study_id")["strat_fold"].loc[table["study_id"]])


def test_records_that_are_damaged_or_missing_are_rejected(made, own, tmp_path):
    first = make_mimic.first_studies(made.records)[:4]
    with zipfile.ZipFile(made.raw / ZIP) as old:
        (own / ZIP).unlink()
        with zipfile.ZipFile(own / ZIP, "w", zipfile.ZIP_STORED) as new:
            for info in old.infolist():
                content = old.read(info)
                if info.filename.endswith(f"{first[0]}.dat"):
                    content = content[:-24]
                if not info.filename.endswith(f"{first[1]}.hea"):
                    new.writestr(info.filename, content)
            at = new.getinfo(next(name for name in new.namelist() if name.endswith(f"{first[2]}.dat"))).header_offset
    content = bytearray((own / ZIP).read_bytes())
    content[at + 1000] ^= 1
    (own / ZIP).write_bytes(content)
    table = listed(own, tmp_path).set_index("study_id")
    reasons = []
    for study in first[:3]:
        with pytest.raises(UserError) as error:
            mimic.read(own, table["key"][study])
        reasons.append(str(error.value))
    assert reasons[0].startswith(f"{own / ZIP}/p1000/p10000032/s{first[0]}/{first[0]}.dat: truncated")
    assert f"{first[1]}.hea and .dat; expected both files" in reasons[1]
    assert f"{first[2]}.dat is damaged" in reasons[2]
    assert not any("\n" in reason for reason in reasons)
    assert mimic.read(own, table["key"][first[3]]).signal.shape == (500, 12)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("machine_measurements.csv", "measurements"),
        ("mds_ed.csv", "mds_ed"),
        ("omr.csv.gz", "omr"),
        ("vitalsign.csv.gz", "vitalsign"),
        ("d_labitems.csv.gz", "labevents"),
        ("chartevents.csv.gz", "chartevents"),
    ],
)
def test_a_missing_table_is_named_and_can_be_done_without(own, tmp_path, name, part):
    (own / name).unlink()
    with pytest.raises(UserError, match=rf"no {name} \(MIMIC-IV.*--without={part}"):
        listed(own, tmp_path)
    assert len(listed(own, tmp_path, without=part))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("records_w_diag_icd10.csv", None, "no records_w_diag_icd10.csv .*which records"),
        (ZIP, None, "neither mimic-iv-ecg.*zip nor its folder"),
        (ZIP, lambda b: b[:-30], "not a complete zip file"),
        (ZIP, lambda b: b"", "not a complete zip file"),
        ("records_w_diag_icd10.csv", lambda b: b"", "not a CSV file"),
        ("records_w_diag_icd10.csv", lambda b: b[: b.index(b"\n") + 1], "no rows"),
        ("records_w_diag_icd10.csv", lambda b: b.replace(b",strat_fold", b",strat"), "no column 'strat_fold'"),
        ("records_w_diag_icd10.csv", lambda b: b.replace(b"['", b"[", 1), "'all_diag_all' has .*list of codes"),
        ("records_w_diag_icd10.csv", lambda b: b.replace(b",True", b",Yes", 1), "expected True or False"),
        ("records_w_diag_icd10.csv", lambda b: b.replace(b"00:00,", b"99:00,", 1), "'ecg_time'.*expected a time"),
        ("records_w_diag_icd10.csv", lambda b: b + b[b.index(b"\n") + 1 :], "is there twice"),
        ("mds_ed.csv", lambda b: b.replace(b"_icu_24h", b"_icu"), "mds_ed.csv: cannot be read .*icu_24h"),
        ("mds_ed.csv", lambda b: b.replace(b",1.0", b",2.0", 1), "has 2; expected 0, 1 or -999"),
        ("machine_measurements.csv", lambda b: b.replace(b"t_end", b"end"), "machine_measurements.csv: cannot be"),
        ("d_items.csv.gz", lambda b: gzip.compress(b"itemid,label\n1,x\n"), "dictionary of chartevents has none"),
        ("d_items.csv.gz", lambda b: b[:40], "d_items.csv.gz: cannot be read"),
        ("labevents.csv.gz", lambda b: b[: len(b) // 2], "labevents.csv.gz: cannot be read"),
        ("omr.csv.gz", lambda b: gzip.compress(b"a,b\n1,2\n"), "omr.csv.gz: cannot be read .*subject_id"),
        ("vitalsign.csv.gz", lambda b: gzip.compress(gzip.decompress(b).replace(b",7", b",x", 1)), "vitalsign.csv.gz"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(made, own, tmp_path, name, change, message):
    if change is None:
        (own / name).unlink()
    else:
        replace(own / name, change((made.raw / name).read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        listed(own, tmp_path)
    assert "\n" not in str(error.value)


def test_unknown_part_and_two_copies(made, own, tmp_path):
    with pytest.raises(UserError, match="--without=labs: no such part; expected some of measurements"):
        labelled(made.raw, tmp_path, without="labs")
    for folder in ("a", "b"):
        (own / folder).mkdir()
        (own / folder / "mds_ed.csv").write_bytes(b"")
    (own / "mds_ed.csv").unlink()
    with pytest.raises(UserError, match=r"a/mds_ed.csv and .*b/mds_ed.csv: there are two"):
        labelled(own, tmp_path)


def test_store(made, tmp_path, capsys):
    out = tmp_path / "store"
    command = ["mimic", f"--raw={made.raw}", f"--out={out}", "--code_count=15", "--workers=1"]
    main(command)
    store = open_store(out)
    table, labels = labelled(made.raw, tmp_path)
    classes, targets, kinds = labels.sets["all"]
    assert store.records["record_id"].tolist() == table["record_id"].tolist()
    assert store.classes("all") == classes
    assert store.kinds("all") == kinds
    np.testing.assert_array_equal(store.records["fold"], labels.folds)
    train = labels.folds < 18
    for i, (name, kind) in enumerate(zip(classes, kinds, strict=True)):
        values, known = targets[:, i].astype(float), np.isfinite(targets[train, i])
        if kind == "regression" and known.any():
            values = (values - values[train][known].mean()) / values[train][known].std()
        np.testing.assert_allclose(store.targets("all")[:, i], values, rtol=1e-4, atol=1e-5, err_msg=name)
    study = make_mimic.first_studies(made.records)[2]
    name = store.records["record_id"][store.records["study_id"] == study].item()
    order = [make_mimic.LEADS.index(lead) for lead in CANONICAL]
    np.testing.assert_allclose(store.signal(name), np.clip(made.samples[study][:, order] / 200, -3, 3), atol=1e-6)
    assert {"study_id", "ecg_time", "age", "sex", "nans"} <= set(store.records.columns)
    assert not (tmp_path / ".store.partial").exists()
    checks = json.loads((out / "checks.json").read_text())
    assert any(note.startswith("protocol default") for note in checks["notes"])
    # A filled gap need not obey the laws; all else does, so the leads are named rightly.
    gaps = store.records["record_id"][store.records["nans"].str.startswith("aVF")].tolist()
    assert {lead: law["first"] for lead, law in checks["einthoven"].items()} == {
        "III": [], "aVR": [], "aVL": [], "aVF": gaps,
    }  # fmt: skip
    capsys.readouterr()


def test_dry_run(made, tmp_path, capsys):
    main(["mimic", f"--raw={made.raw}", f"--out={tmp_path / 'store'}", "--code-count=15", "--limit=5", "--workers=1"])
    assert len(open_store(tmp_path / "store").records) == 5
    capsys.readouterr()


def test_a_failed_preparation_keeps_what_was_extracted(made, own, tmp_path, monkeypatch, capsys):
    command = ["mimic", f"--raw={own}", f"--out={tmp_path / 'store'}", "--code-count=15", "--workers=1", "--limit=3"]
    content = (made.raw / "chartevents.csv.gz").read_bytes()
    replace(own / "chartevents.csv.gz", content[:-1000])
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert "chartevents.csv.gz: cannot be read" in capsys.readouterr().err
    (own / "chartevents.csv.gz").write_bytes(content)

    def never(piece, items):
        raise AssertionError("omr is streamed again")

    monkeypatch.setattr(mimic_tables, "_omr_events", never)
    main(command)
    classes, targets = (getattr(open_store(tmp_path / "store"), name)("all") for name in ("classes", "targets"))
    assert np.isfinite(targets[:, classes.index("bmi")]).all()
    capsys.readouterr()
