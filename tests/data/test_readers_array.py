"""CSV, NumPy and MATLAB files, and the JSON file that describes them."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import find_recordings, read_recording
from ecgjax.errors import UserError
from tests.data import wfdb_files

BITS = wfdb_files.bits()
MV = BITS * 0.005
LEADS = list(CANONICAL)


def sidecar(folder, name="recordings.json", **changes):
    content = {"sampling_rate": 500, "unit": "mV", "leads": LEADS} | changes
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def is_mv(recording, expected=MV, rate=500):
    np.testing.assert_allclose(recording.signal, expected, atol=1e-6)
    assert recording.sampling_rate == rate


def test_npy_in_either_orientation_and_unit(tmp_path):
    sidecar(tmp_path)
    np.save(tmp_path / "a.npy", MV)
    np.save(tmp_path / "b.npy", np.asfortranarray(MV.T.astype(np.float32)))
    is_mv(read_recording(tmp_path / "a.npy"))
    is_mv(read_recording(tmp_path / "b.npy"))
    sidecar(tmp_path, "c.json", unit=None, microvolt_per_bit=5, sampling_rate=250.5, age=50, sex="female")
    np.save(tmp_path / "c.npy", BITS)
    recording = read_recording(tmp_path / "c.npy")
    is_mv(recording, rate=250.5)
    assert recording.microvolt_per_bit == 5
    assert recording.metadata == {"age": 50, "sex": "female"}
    sidecar(tmp_path, "d.json", unit="µV", leads=["V2", "x", "ii"])
    np.save(tmp_path / "d.npy", MV[:, [7, 0, 1]] * 1000)
    recording = read_recording(tmp_path / "d.npy")
    np.testing.assert_allclose(recording.signal[:, [7, 1]], MV[:, [7, 1]], atol=1e-6)
    assert recording.metadata == {"other_leads": ["x"]}


def test_the_nearest_description_counts(tmp_path):
    sidecar(tmp_path, sampling_rate=100)
    (tmp_path / "a" / "b").mkdir(parents=True)
    np.save(tmp_path / "a" / "b" / "x.npy", MV)
    is_mv(read_recording(tmp_path / "a" / "b" / "x.npy"), rate=100)
    sidecar(tmp_path / "a", sampling_rate=200)
    is_mv(read_recording(tmp_path / "a" / "b" / "x.npy"), rate=200)
    sidecar(tmp_path / "a" / "b", "x.json", sampling_rate=300)
    is_mv(read_recording(tmp_path / "a" / "b" / "x.npy"), rate=300)


def test_csv_by_pandas(tmp_path):
    sidecar(tmp_path, leads=None)
    table = pd.DataFrame(MV[:, ::-1], columns=LEADS[::-1])
    table.to_csv(tmp_path / "a.csv", index=False)
    table.rename_axis("time").to_csv(tmp_path / "b.csv")
    table.to_csv(tmp_path / "c.tsv", sep="\t", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    table.to_csv(tmp_path / "d.csv", sep=";", decimal=",", index=False)
    table.to_csv(tmp_path / "e.csv")
    for name in ("a.csv", "b.csv", "c.tsv", "d.csv", "e.csv"):
        recording = read_recording(tmp_path / name)
        is_mv(recording)
        assert recording.metadata == {}
    np.savetxt(tmp_path / "f.txt", MV)
    np.savetxt(tmp_path / "g.csv", BITS, fmt="%d", delimiter=",")
    sidecar(tmp_path)
    is_mv(read_recording(tmp_path / "f.txt"))
    sidecar(tmp_path, "g.json", unit=None, microvolt_per_bit=5)
    is_mv(read_recording(tmp_path / "g.csv"))


def test_empty_fields_are_nan(tmp_path):
    sidecar(tmp_path, leads=None)
    (tmp_path / "x.csv").write_text("I,II\n1,2\n,4\nnan,NaN\n")
    signal = read_recording(tmp_path / "x.csv").signal
    np.testing.assert_array_equal(signal[:, :2], [[1, 2], [np.nan, 4], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I,II\n1,two\n", r"expected a number in every field"),
        ("I,II\n1,2,3\n", r"expected a number in every field"),
        ("I,II\n1,1e999\n", r"line 2: an infinite value"),
        ("I,I\n1,2\n", r"lead I is there twice"),
        ("I,II\n", r"the signal has no samples"),
        ("1,2\n3,4\n", r"x\.csv: no header; expected names of leads there"),
        ("I," * 300 + "II\n", r"301 columns"),
    ],
)
def test_csv_refused(tmp_path, content, message):
    sidecar(tmp_path, leads=None)
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_recording(tmp_path / "x.csv")
    assert "x.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"recordings\.json: not JSON"),
        ("[1]", r"no JSON object"),
        ("[" * 100_000, r"not JSON"),
        ('{"rate": 500}', r"unknown key 'rate'; expected sampling_rate, unit"),
        ('{"unit": "mV"}', r"sampling_rate is None; expected a positive number of Hz"),
        ('{"sampling_rate": NaN, "unit": "mV"}', r"sampling_rate is nan"),
        ('{"sampling_rate": true, "unit": "mV"}', r"sampling_rate is True"),
        ('{"sampling_rate": 500}', r'needs either "unit"'),
        ('{"sampling_rate": 500, "unit": "mV", "microvolt_per_bit": 1}', r'needs either "unit"'),
        ('{"sampling_rate": 500, "unit": "bits"}', r"unit is 'bits'; expected"),
        ('{"sampling_rate": 500, "microvolt_per_bit": -1}', r"microvolt_per_bit is -1"),
        ('{"sampling_rate": 500, "unit": "mV", "leads": "I"}', r"leads is 'I'; expected a list"),
        ('{"sampling_rate": 500, "unit": "mV", "age": "old"}', r"age is 'old'"),
        ('{"sampling_rate": 500, "unit": "mV", "sex": "M"}', r"sex is 'M'"),
        ('{"sampling_rate": 500, "unit": "mV"}', r'no "leads"; expected their names'),
        ('{"sampling_rate": 500, "unit": "mV", "leads": ["I"]}', r"shape \(200, 12\); expected \(samples, 1\)"),
    ],
)
def test_descriptions_refused(tmp_path, content, message):
    np.save(tmp_path / "x.npy", MV)
    (tmp_path / "recordings.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_recording(tmp_path / "x.npy")
    assert "\n" not in str(caught.value)


def test_no_description(tmp_path):
    np.save(tmp_path / "x.npy", MV)
    (tmp_path / "y.csv").write_text("I,II\n1,2\n")
    scipy.io.savemat(tmp_path / "z.mat", {"val": BITS.T}, format="4")
    for name in ("x.npy", "y.csv", "z.mat"):
        with pytest.raises(UserError, match=rf"{name}: no sampling rate; expected {name[0]}\.json or recordings\.json"):
            read_recording(tmp_path / name)
    (tmp_path / "y.csv").write_text("1,2\n")
    with pytest.raises(UserError, match=r"y\.csv: not a supported recording"):
        read_recording(tmp_path / "y.csv")


def test_npy_refused(tmp_path):
    sidecar(tmp_path)
    path = tmp_path / "x.npy"
    np.save(path, MV)
    content = path.read_bytes()
    cases = [
        (content[:-1], r"damaged or not a \.npy file"),
        (content.replace(b"(200, 12)", b"(2 ** 60, 12)"), r"damaged or not a \.npy file"),
        (content.replace(b"(200, 12), }   ", b"(200000000000, 12), }"), r"damaged or not a \.npy file"),
    ]
    for array in (np.array([{}], object), np.zeros((12, 12)), np.zeros(12), np.zeros((0, 12)), np.full((9, 12), np.inf),
                  np.zeros((9, 12), complex)):  # fmt: skip
        np.save(path, array, allow_pickle=True)
        cases.append((path.read_bytes(), r"x\.npy: (damaged|array of|shape|infinite)"))
    for damaged, message in cases:
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=message):
            read_recording(path)


@pytest.mark.parametrize("version", ["4", "5"])
def test_matrix_of_matlab(tmp_path, version):
    sidecar(tmp_path, unit=None, microvolt_per_bit=5)
    scipy.io.savemat(tmp_path / "x.mat", {"val": BITS.T}, format=version)
    recording = read_recording(tmp_path / "x.mat")
    is_mv(recording)
    assert recording.microvolt_per_bit == 5
    scipy.io.savemat(tmp_path / "x.mat", {"other": BITS.astype(float)}, format=version, do_compression=version == "5")
    is_mv(read_recording(tmp_path / "x.mat"))
    scipy.io.savemat(tmp_path / "x.mat", {"a": BITS, "b": BITS}, format=version)
    with pytest.raises(UserError, match=r"x\.mat: matrices a, b; expected `val` or a single one"):
        read_recording(tmp_path / "x.mat")


def cpsc2018(path, *, age=52, sex="Male", data=None, compress=True):
    """As the challenge's organisers: a 1x1 structure of sex, age and data (12, samples) in mV."""
    record = {"sex": sex, "age": age, "data": MV.T if data is None else data}
    scipy.io.savemat(path, {"ECG": record}, do_compression=compress)
    return path


@pytest.mark.parametrize("compress", [True, False])
def test_cpsc2018(tmp_path, compress):
    recording = read_recording(cpsc2018(tmp_path / "A0001.mat", compress=compress))
    is_mv(recording)
    assert recording.id == "A0001"
    assert recording.metadata == {"age": 52, "sex": "male"}
    recording = read_recording(cpsc2018(tmp_path / "A0002.mat", age="NaN", sex="Female", data=MV))
    is_mv(recording)
    assert recording.metadata == {"sex": "female"}
    with pytest.raises(UserError, match=r"x\.mat: ECG\.data is float64 of shape \(11, 200\)"):
        read_recording(cpsc2018(tmp_path / "x.mat", data=MV.T[:11]))


def test_hostile_matlab_files(tmp_path):
    path = tmp_path / "x.mat"
    (tmp_path / "y.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    with pytest.raises(UserError, match=r"y\.mat: MATLAB version 7\.3; expected version 4 to 7"):
        read_recording(tmp_path / "y.mat")
    cpsc2018(path, compress=False)
    content = path.read_bytes()
    bomb = zlib.compress(bytes(2**28))
    path.write_bytes(content[:128] + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    with pytest.raises(UserError, match=r"x\.mat: a variable of more than 67108864 bytes"):
        read_recording(path)
    for old, new in (
        (np.array([12, 200], "<i4"), np.array([2**30, 2**20], "<i4")),
        (np.array([1, 1], "<i4"), np.array([2**30, 1], "<i4")),
    ):
        path.write_bytes(content.replace(old.tobytes(), new.tobytes(), 1))
        with pytest.raises(UserError, match=r"x\.mat: damaged"):
            read_recording(path)
    scipy.io.savemat(path, {"val": BITS.T}, format="4")
    content = path.read_bytes()
    path.write_bytes(content[:4] + (2**30).to_bytes(4, "little") + content[8:])
    with pytest.raises(UserError, match=r"x\.mat: truncated, a matrix of 1073741824 x 200"):
        read_recording(path)


def test_what_is_found_in_a_folder(tmp_path):
    sidecar(tmp_path)
    np.save(tmp_path / "a.npy", MV)
    pd.DataFrame(MV, columns=LEADS).to_csv(tmp_path / "b.csv", index=False)
    cpsc2018(tmp_path / "c.mat")
    wfdb_files.challenge(tmp_path, "d", BITS)
    (tmp_path / "labels.csv").write_text("record_id,af\na,1\nb,0\n")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty.csv").write_text("")
    assert [path.name for path in find_recordings(tmp_path)] == ["a.npy", "b.csv", "c.mat", "d.hea"]


@pytest.mark.skipif(not os.environ.get("ECGJAX_REAL"), reason="ECGJAX_REAL names no folder of genuine records")
def test_genuine_records_of_cpsc2018():
    files = sorted(Path(os.environ["ECGJAX_REAL"], "cpsc2018").glob("A*.mat"))
    assert files
    for file in files:
        record = scipy.io.loadmat(file)["ECG"][0, 0]
        recording = read_recording(file)
        is_mv(recording, record["data"].T)
        assert recording.metadata["sex"] == record["sex"][0].lower()
        assert recording.metadata["age"] == record["age"][0, 0]
        # The limb leads are where the order of the canonical leads has them.
        one, two, three = recording.signal[:, :3].T
        assert np.abs(one + three - two).max() < 0.01
