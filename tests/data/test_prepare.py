"""`python -m ecgjax.prepare folder`: from files and a CSV to a store, and every way in which the CSV can be wrong."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecgjax import prepare as command
from ecgjax.data import sources
from ecgjax.data.preparation.resampled import resampled
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from tests.data import wfdb_files
from tests.data.test_store import recording

N = 12
ROOT = str(Path(command.__file__).parents[1])


@pytest.fixture
def raw(tmp_path):
    """Twelve records in two formats and two folders, six patients."""
    for i in range(N):
        folder, x = tmp_path / "raw" / f"g{i % 2}", wfdb_files.bits(seed=i)
        notes = [f"# Age: {40 + i}", "# Sex: F"]
        if i % 2:
            wfdb_files.challenge(folder, f"r{i}", x, notes=notes)
        else:
            wfdb_files.dat(folder, f"r{i}", x)
    return tmp_path / "raw"


def rows(**changes):
    """Rows of a good labels.csv: `changes` maps columns to functions of the record number."""
    columns = {
        "record_id": lambda i: f"g{i % 2}/r{i}",
        "patient_id": lambda i: f"p{i // 2}",
        "fold": lambda i: i // 4,
        "AFIB": lambda i: (i // 2) % 2,
        "ef": lambda i: 55.5 + i,
    } | changes
    return [list(columns), *[[make(i) for make in columns.values()] for i in range(N)]]


def write_csv(path, table):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(table)
    return path


def run(raw, table, *arguments):
    labels = write_csv(raw.parent / "labels.csv", table)
    command.prepare(["folder", f"--raw={raw}", f"--labels={labels}", f"--out={raw.parent / 'store'}", *arguments])
    return open_store(raw.parent / "store")


def refuse(raw, table, message, *arguments):
    with pytest.raises(UserError, match=message) as caught:
        run(raw, table, *arguments)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in raw.parent.iterdir()) == ["labels.csv", "raw"]


def without(table, column):
    keep = [i for i, name in enumerate(table[0]) if name != column]
    return [[row[i] for i in keep] for row in table]


def test_names():
    assert "folder" in sources.names()


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_folder(raw, dtype, capsys):
    store = run(raw, rows(), f"--dtype={dtype}")
    assert store.dtype == dtype
    assert store.records["record_id"].tolist() == [f"g{i % 2}/r{i}" for i in range(N)]
    assert store.records["patient_id"].tolist() == [f"p{i // 2}" for i in range(N)]
    assert store.records["fold"].tolist() == [i // 4 for i in range(N)]
    assert store.records["age"].tolist()[1::2] == [40 + i for i in range(1, N, 2)]
    assert store.records["sex"].tolist()[1] == "female"
    for i in range(N):
        np.testing.assert_array_equal(
            store.signal(f"g{i % 2}/r{i}"), (wfdb_files.bits(seed=i) / 1000).astype(np.float32)
        )
    assert store.classes("labels") == ("AFIB", "ef")
    assert store.kinds("labels") == ("classification", "regression")
    # Regression targets are standardised on the training folds, here records 0 to 3.
    mean, sd = store.scales("labels")
    np.testing.assert_allclose(mean, [0, 57])
    np.testing.assert_allclose(sd, [1, np.std([55.5, 56.5, 57.5, 58.5])])
    np.testing.assert_allclose(store.targets("labels")[:, 1], (55.5 + np.arange(N) - mean[1]) / sd[1], rtol=1e-6)
    assert (store.path / "rejected.csv").read_text() == "record_id,reason\n"
    store.verify()
    shown = capsys.readouterr()
    for text in ("12 of 6 patients", "AFIB", store.fingerprint, str(store.path), "train (4)", "500 Hz"):
        assert text in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    "name",
    [lambda i: f"r{i}", lambda i: f"g{i % 2}/r{i}.hea", lambda i: f"./g{i % 2}/r{i}.{'mat' if i % 2 else 'dat'}"],
)
def test_records_by_bare_name_or_with_suffix(raw, name):
    store = run(raw, rows(record_id=name))
    assert store.records["record_id"].tolist() == [name(i) for i in range(N)]
    np.testing.assert_array_equal(store.raw(5), wfdb_files.bits(seed=5))


def test_folds_are_stratified_over_patients_if_not_given(raw):
    store = run(raw, without(rows(), "fold"))
    folds = store.records.groupby("patient_id")["fold"].nunique()
    assert (folds == 1).all()
    assert sorted(store.records["fold"].unique()) == list(range(6))
    refuse_path = raw.parent / "few"
    refuse_path.mkdir()
    table = without(rows(patient_id=lambda i: f"p{i % 2}"), "fold")
    with pytest.raises(UserError, match="2 patients are too few to make 2 folds; expected a column fold"):
        command.prepare(
            [
                "folder",
                f"--raw={raw}",
                f"--labels={write_csv(refuse_path / 'l.csv', table)}",
                f"--out={refuse_path / 's'}",
            ]
        )


def test_no_labels_and_no_patients(raw):
    store = run(raw, [["record_id"], *[[f"r{i}"] for i in range(N)]])
    assert store.label_sets() == ()
    assert store.records["patient_id"].tolist() == [f"r{i}" for i in range(N)]
    assert store.records["fold"].nunique() == 10


def test_unknown_labels_metadata_and_byte_order_mark(raw):
    table = rows(
        AFIB=lambda i: "" if i == 3 else i % 2, age=lambda i: 70 if i == 1 else "", sex=lambda i: "M" if i == 1 else ""
    )
    labels = write_csv(raw.parent / "labels.csv", table)
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes())
    command.prepare(["folder", f"--raw={raw}", f"--labels={labels}", f"--out={raw.parent / 'store'}"])
    store = open_store(raw.parent / "store")
    assert np.isnan(store.targets("labels")[3, 0])
    assert store.kinds("labels")[0] == "classification"
    # The CSV's word counts; where it is silent, the recording's own.
    assert store.records["age"].tolist()[1:4:2] == [70, 43]
    assert store.records["sex"].tolist()[1:4:2] == ["male", "female"]


def test_unusable_records_are_listed(raw, capsys):
    (raw / "g1" / "r1.mat").unlink()
    flat = wfdb_files.bits() * 0 + 7
    wfdb_files.dat(raw / "g0", "r2", flat)
    wfdb_files.challenge(raw / "g1", "r5", np.full_like(flat, -32768))
    some_nan = wfdb_files.bits(seed=7)
    some_nan[:, 4] = -32768
    wfdb_files.challenge(raw / "g1", "r7", some_nan)
    wfdb_files.challenge(raw / "g1", "extra", wfdb_files.bits())
    table = rows(record_id=lambda i: "nowhere" if i == 3 else f"g{i % 2}/r{i}")
    store = run(raw, table, "--max_rejected=0.5")
    with open(store.path / "rejected.csv") as file:
        reasons = dict(list(csv.reader(file))[1:])
    assert list(reasons) == ["g1/r1", "g0/r2", "nowhere", "g1/r5"]
    assert "r1.mat: no such file" in reasons["g1/r1"]
    assert reasons["g0/r2"] == "all leads are flat"
    assert reasons["nowhere"] == "no such recording below --raw"
    assert reasons["g1/r5"] == "every value is NaN"
    assert np.isnan(store.signal("g1/r7")[:, 4]).all()
    assert store.records["nan_samples"].tolist()[store.records["record_id"].tolist().index("g1/r7")] == 200
    mean, sd = store.scales("labels")
    np.testing.assert_allclose(
        store.targets("labels")[:, 1] * sd[1] + mean[1], 55.5 + np.array([0, 4, 6, 7, 8, 9, 10, 11])
    )
    shown = capsys.readouterr()
    assert "4 (reasons in rejected.csv)" in shown.out
    assert "2 recordings have no row in the labels, e.g. g1/extra.hea" in shown.out


def test_too_many_unusable_records(raw):
    for i in (1, 3):
        (raw / "g1" / f"r{i}.mat").unlink()
    message = (
        r"2 of the first 4 records are unusable, more than --max-rejected=0.1 of 12 .* 'g1/r1': .*r1\.mat: no such file"
    )
    refuse(raw, rows(), message, "--max_rejected=0.1")


def test_a_split_that_is_lost_is_refused(raw):
    for i in range(8, 12):
        (raw / f"g{i % 2}" / f"r{i}.{'mat' if i % 2 else 'dat'}").unlink()
    with pytest.raises(UserError, match="every record of the test or the validation fold is unusable"):
        run(raw, rows(), "--max-rejected=0.9")
    # No store, but what was read is kept: with better labels the same command goes on.
    assert sorted(path.name for path in raw.parent.iterdir()) == [".store.partial", "labels.csv", "raw"]
    store = run(raw, rows(fold=lambda i: i % 3, patient_id=lambda i: f"p{i}"), "--max-rejected=0.9")
    assert store.records["fold"].tolist() == [i % 3 for i in range(8)]
    assert sorted(path.name for path in raw.parent.iterdir()) == ["labels.csv", "raw", "store"]


def test_sampling_rates(raw):
    x = wfdb_files.bits(400)
    wfdb_files.challenge(raw / "g1", "r3", x, rate=1000)
    refuse(
        raw,
        rows(),
        r"records 'g0/r0' \(500 Hz\) and 'g1/r3' \(1000 Hz\) differ in sampling rate; expected one rate, or --rate",
    )
    store = run(raw, rows(), "--rate=250")
    assert store.sampling_rate == 250
    assert store.records["samples"].tolist() == [100] * N


def test_resampling_costs_a_gap_its_own_place_only():
    original = recording(samples=1000)
    smooth = np.sin(np.arange(1000) / 40)[:, None] * np.ones((1, 12), np.float32)
    signal = smooth.astype(np.float32)
    signal[500, 3] = np.nan
    found = resampled(type(original)("a", signal, 500.0), 250.0)
    whole = resampled(type(original)("a", smooth.astype(np.float32), 500.0), 250.0)
    assert np.argwhere(np.isnan(found.signal)).tolist() == [[250, 3]]
    np.testing.assert_allclose(np.nan_to_num(found.signal)[:250], whole.signal[:250], atol=1e-3)
    assert resampled(original, 500.0) is original


def test_limit_takes_rows_from_all_over(raw):
    store = run(raw, rows(), "--limit=6")
    assert store.records["fold"].nunique() == 3
    assert len(store) == 6


def test_warnings_of_what_looks_wrong(raw, capsys):
    x = wfdb_files.bits(seed=1)
    wfdb_files.challenge(raw / "g1", "r11", x)  # the signal of r1, in another split
    wfdb_files.challenge(raw / "g1", "r9", wfdb_files.bits(seed=9), gain="1(0)")  # microvolts called millivolts
    run(raw, rows(AFIB=lambda i: int(i < 4)))
    shown = capsys.readouterr().err
    assert "1 pairs of records with the same signal are in different splits, e.g. 'g1/r1' and 'g1/r11'" in shown
    assert "are the units and gains of the files right?" in shown
    assert "no positive or known label in the validation fold for 1 classes: AFIB" in shown
    assert "no positive or known label in the test fold for 1 classes: AFIB" in shown
    assert all(line.startswith("ecgjax: warning: ") for line in shown.splitlines())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (without(rows(), "record_id"), "no column record_id; the columns are 'patient_id', 'fold', 'AFIB', 'ef'"),
        (rows(record_id=lambda i: "" if i == 4 else f"r{i}"), "row 6 has an empty record_id"),
        (rows(record_id=lambda i: "r1" if i == 4 else f"r{i}"), r"record 'r1' is there twice \(row 6\)"),
        (rows(record_id=lambda i: "r1.hea" if i == 4 else f"r{i}"), "records 'r1' and 'r1.hea' are the same file"),
        (rows(patient_id=lambda i: "" if i == 4 else "p"), "row 6 has an empty patient_id"),
        (rows(patient_id=lambda i: "p"), "patient 'p' has records in train and in validation; expected one split"),
        (rows(fold=lambda i: "" if i == 4 else i // 4), "row 6 has fold ''; expected a whole number"),
        (rows(fold=lambda i: 0.5 if i == 4 else i // 4), "row 6 has fold '0.5'; expected a whole number"),
        (rows(fold=lambda i: "x" if i == 4 else i // 4), r"'fold', row 6 \(record 'g0/r4'\): 'x' is not a number"),
        (rows(fold=lambda i: i // 6), "2 different folds; expected at least 3"),
        (rows(AFIB=lambda i: "yes" if i == 4 else 0), r"'AFIB', row 6 \(record 'g0/r4'\): 'yes' is not a number"),
        (rows(AFIB=lambda i: "inf" if i == 4 else 0), "'inf' is not a number"),
        (rows(AFIB=lambda i: ""), "label column 'AFIB' has no value"),
        ([[*rows()[0], "AFIB"], *[[*row, 1] for row in rows()[1:]]], "column 'AFIB' is empty or there twice"),
        ([rows()[0]], "no rows; expected one per record"),
        ([], "not a CSV file in UTF-8"),
        ([["record_id", "a"], ["r1", 1, 2, 3]], "not a CSV file in UTF-8"),
    ],
)  # fmt: skip
def test_bad_tables(raw, table, message):
    refuse(raw, table, message)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--rate=0", "--rate=0.0; expected a positive number of Hz"),
        ("--max_rejected=2", "--max-rejected=2.0; expected a share from 0 to 1"),
        ("--limit=0", "--limit=0; expected at least 1"),
        ("--dtype=int8", "invalid choice: 'int8'"),
        ("--raw=nowhere", "nowhere: no such folder"),
        ("--labels=nowhere.csv", r"nowhere\.csv: no such file; expected a CSV"),
        ("--misspelt=1", "unrecognized arguments: --misspelt=1"),
    ],
)
def test_bad_arguments(raw, argument, message):
    refuse(raw, rows(), message, argument)


def test_ambiguous_names(raw):
    wfdb_files.challenge(raw / "g0", "r1", wfdb_files.bits())
    refuse(
        raw,
        rows(record_id=lambda i: f"r{i}"),
        r"record 'r1' may be .*g0/r1\.hea or .*g1/r1\.hea; expected its path below",
    )


@pytest.mark.parametrize("arguments", [["folder"], ["nosource"], [], ["folder", "--raw=x", "--labels=y", "--out=z"]])
def test_wrong_use_is_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("ecgjax: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_as_a_command(raw):
    labels = write_csv(raw.parent / "labels.csv", rows())
    line = [sys.executable, "-m", "ecgjax.prepare", "folder", f"--raw={raw}", f"--labels={labels}", "--out=store"]
    done = subprocess.run(line, cwd=raw.parent, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    again = subprocess.run(line, cwd=raw.parent, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (2, "ecgjax: store: exists already; expected the path of a new store\n")
