"""SPH: float16 signals, codes with modifiers, folds of patients, an archive to unpack (datasets.md 3.8)."""

import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.preparation.folds import patient_folds
from ecgjax.data.sources import sph
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError
from tests.data.sources import make_sph
from tests.data.sources.run_source import prepared, run

Made = tuple[Path, list[make_sph.Record]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    raw = tmp_path_factory.mktemp("sph")
    return raw, make_sph.make(raw)


@pytest.fixture
def own(made: Made, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made[0], tmp_path / "raw"))


def test_records_are_the_generators(made: Made) -> None:
    raw, records = made
    table, recordings, _, rejected = run(sph, raw)
    assert not rejected
    assert table["record_id"].tolist() == [record.name for record in records]
    assert table["patient_id"].tolist() == [record.patient for record in records]
    assert table["age"].tolist() == [record.age for record in records]
    assert table["sex"].tolist() == [record.sex for record in records]
    assert table["aha_code"].tolist() == [record.cell for record in records]
    for record, recording in zip(records, recordings, strict=True):
        assert recording.sampling_rate == 500
        assert not recording.missing
        np.testing.assert_array_equal(recording.signal, record.millivolts)  # float16 is exact in float32.


def test_all_drops_the_modifiers(made: Made) -> None:
    raw, records = made
    *_, labels, _ = run(sph, raw, min_count=1)
    for name, expected in (("all", [r.primary for r in records]), ("w_mod", [r.statements for r in records])):
        classes, targets, _ = labels.sets[name]
        assert classes == tuple(sorted({label for each in expected for label in each}))
        for each, row in zip(expected, targets, strict=True):
            assert {label for label, value in zip(classes, row, strict=True) if value} == set(each)
    assert labels.sets["all"][0] == ("1", "147", "22", "50", "60", "999")  # As strings.
    assert labels.sets["w_mod"][0] == ("1", "147", "147+346+310", "22", "50", "60", "60+310", "999")


def test_a_statement_given_twice_counts_twice(made: Made) -> None:
    raw, _ = made
    *_, labels, _ = run(sph, raw, min_count=19)
    classes, targets, _ = labels.sets["all"]
    assert classes == ("1",)
    assert targets.sum() == 18  # 24 times in 18 records.


def test_modifiers_and_descriptions_are_kept(made: Made) -> None:
    raw, _ = made
    table, _, labels, _ = run(sph, raw)
    assert table["modifiers"][:5].tolist() == ["", "", "310", "", "346 310"]
    assert table["statements"][2] == "Ventricular premature complex(es) (Couplet); T-wave abnormality"
    assert table["statements"][4] == "T-wave abnormality (Mild, borderline, Couplet); Sinus bradycardia"
    assert "classes: 1 Normal ECG; 147 T-wave abnormality; 22 Sinus bradycardia; 60 Ventricular" in labels.notes[0]
    assert labels.notes[1] == "codes that code.csv lacks: 999"


def test_folds_are_of_patients_by_statements_with_modifiers_sex_and_age(made: Made) -> None:
    raw, records = made
    *_, labels, _ = run(sph, raw)
    # As datasets.md 1.4 words it: a constant, the sex and the age group beside the labels of all records of a patient.
    classes = sorted({statement for record in records for statement in record.statements})
    n = len(classes)
    pooled: dict[str, list[int]] = {}
    for record in records:
        group = next((i for i, bound in enumerate((20, 40, 60, 80)) if record.age < bound), 4)
        own = [classes.index(statement) for statement in record.statements]
        pooled.setdefault(record.patient, []).extend([*own, n, n + (1 if record.sex == "male" else 2), n + 3 + group])
    patients = sorted(pooled)
    sizes = [sum(record.patient == patient for record in records) for patient in patients]
    subsets = stratify([pooled[patient] for patient in patients], range(n + 8), [0.1] * 10, sizes)
    fold = {patients[i]: number for number, subset in enumerate(subsets) for i in subset}
    assert labels.folds.tolist() == [fold[record.patient] for record in records]
    assert max(sizes) == 2
    primary = patient_folds(
        [record.primary for record in records], [record.patient for record in records],
        male=[record.sex == "male" for record in records], ages=[record.age for record in records],
    )  # fmt: skip
    assert labels.folds.tolist() != primary.tolist()


def test_the_publishers_split(made: Made) -> None:
    raw, _ = made
    table, *_ = run(sph, raw)
    several = table["patient_id"].duplicated(keep=False)
    assert set(table["orig_fold"][several]) == {"test"}
    larger = pd.Series([f"p{min(i, 996)}" for i in range(1000)])
    split = sph.publishers_split(larger)
    assert split.count("test") == 200
    assert split[-4:] == ["test"] * 4
    chosen = larger[:996].sample(196, random_state=73).index
    assert {i for i, part in enumerate(split[:996]) if part == "test"} == set(chosen)


def test_h5py_reads_the_same(made: Made) -> None:
    raw, _ = made
    with h5py.File(raw / "records/A00002.h5") as file:
        assert file["ecg"].dtype == np.float16
        assert file["ecg"].shape[0] == 12
        expected = file["ecg"][:].T.astype(np.float32)
    np.testing.assert_array_equal(sph.read(raw, "records/A00002.h5").signal, expected)


def test_the_archive_must_be_unpacked(own: Path) -> None:
    assert (own / "records.tar.gz").read_bytes()[:2] != b"\x1f\x8b"
    shutil.rmtree(own / "records")
    with pytest.raises(UserError, match=r"records\.tar\.gz: unpack it first, with tar -xf .* \(without -z\)"):
        run(sph, own)
    with tarfile.open(own / "records.tar.gz") as archive:
        archive.extractall(own, filter="data")
    assert not run(sph, own)[3]
    (own / "records.tar.gz").unlink()
    shutil.rmtree(own / "records")
    with pytest.raises(UserError, match=r"records: no such folder of \.h5 files"):
        run(sph, own)


def test_damaged_and_missing_signals_are_rejected(own: Path) -> None:
    def write(number: int, name: str, data: np.ndarray) -> None:
        with h5py.File(own / "records" / f"A{number:05d}.h5", "w") as file:
            file[name] = data

    (own / "records/A00001.h5").unlink()
    (own / "records/A00002.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    write(3, "signal", np.zeros((12, 50), np.float16))
    write(4, "ecg", np.zeros((50, 12), np.float16))
    write(5, "ecg", np.zeros((12, 50), np.int16))
    write(6, "ecg", np.full((12, 50), np.nan, np.float16))
    write(7, "ecg/inner", np.zeros(3))
    write(8, "ecg", np.zeros((12, 0), np.float16))
    write(9, "ecg", np.full((12, 50), np.inf, np.float16))
    *_, rejected = run(sph, own)
    expected = ("no such file", "not an HDF5 file", "no data set 'ecg'; it holds 'signal'", "shape (12, samples)",
                "floating-point", "every value is NaN", "shape (12, samples)", "no samples", "infinite")  # fmt: skip
    assert list(rejected) == [f"A{i:05d}" for i in range(1, 10)]
    for reason, part in zip(rejected.values(), expected, strict=True):
        assert part in reason
        assert "\n" not in reason


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("metadata.csv", "60+310;147", "60+Couplet", "row 4: AHA_Code is '60\\+Couplet'; expected codes like"),
        ("metadata.csv", ",F,", ",X,", "row 2, column 'sex' has 'X'; expected M or F as column 5"),
        ("metadata.csv", "S01001", "", "row 2, column 'patient_id' has ''; expected a patient as column 3"),
        ("metadata.csv", "A00002", "A00001", "row 3, column 'record_id' has 'A00001'; expected a unique name"),
        ("metadata.csv", ",15,", ",old,", "row 2, column 'age' has 'old'; expected a number"),
        ("code.csv", "Description", "Meaning", "expected Category, Code and Description"),
    ],
)
def test_garbled_tables_are_named(own: Path, file: str, old: str, new: str, message: str) -> None:
    text = (own / file).read_text()
    assert old in text
    (own / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        run(sph, own)
    assert str(own / file) in str(caught.value)


def test_columns_go_by_position(own: Path) -> None:
    lines = (own / "metadata.csv").read_text().splitlines()
    before = run(sph, own)[0]
    (own / "metadata.csv").write_text("\n".join(["a,b,c,d,e,f,g", *lines[1:]]))
    pd.testing.assert_frame_equal(run(sph, own)[0], before)
    (own / "metadata.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(UserError, match="6 columns; expected ECG_ID, AHA_Code"):
        run(sph, own)


@pytest.mark.parametrize("name", ["metadata.csv", "code.csv"])
def test_missing_tables_are_named(own: Path, name: str) -> None:
    (own / name).unlink()
    with pytest.raises(UserError, match=f"no {name}"):
        run(sph, own)


@given(st.text(alphabet="0123456789+; -", max_size=12) | st.text(max_size=8))
def test_any_cell_is_parsed_or_refused(cell: str) -> None:
    try:
        parts = sph.parse_codes(cell, source="row 1")
    except UserError:
        return
    assert all(code.isdecimal() for part in parts for code in part)


def test_the_command_makes_a_store(made: Made, tmp_path: Path) -> None:
    raw, records = made
    store = prepared(sph, raw, tmp_path / "store", records, min_count=1, atol=0.00051)  # An int16 store rounds to 1 uV.
    assert store.classes("all") == ("1", "147", "22", "50", "60", "999")
    assert set(store.records["orig_fold"]) == {"train", "test"}
    assert store.records["aha_code"][2] == "60+310;147"
