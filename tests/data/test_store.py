"""The store gives back what was written, and never half of it."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgjax.data.recording import Recording
from ecgjax.data.store import NAN, SPLITS, open_store, split_of
from ecgjax.data.store_shard import quantise
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError


def recording(name="a", samples=50, rate=500.0, seed=0, step=None):
    x = np.random.default_rng(seed).normal(size=(samples, 12))
    if step:
        x = np.rint(x * 1000 / step) * step / 1000
    return Recording(name, x.astype(np.float32), rate, microvolt_per_bit=step)


def write(path, n=5, dtype="int16", shard_bytes=2 * 10**9, step=None):
    with StoreWriter(path, source="test", dtype=dtype, shard_bytes=shard_bytes) as writer:
        for i in range(n):
            metadata = {"age": 20.0 + i, "sex": "female" if i % 2 else None}
            writer.add(recording(f"r{i}", 50 + i, seed=i, step=step), patient_id=f"p{i}", fold=i % 3, metadata=metadata)
        targets = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        targets[:, 0] = targets[:, 0] % 4 == 0
        targets[0, 1] = np.nan
        writer.finish({"label": (("AFIB", "age"), targets, ("classification", "regression"))})
    return open_store(path)


@pytest.mark.parametrize(("dtype", "size"), [("int16", 2), ("float32", 4)])
def test_round_trip(tmp_path, dtype, size):
    store = write(tmp_path / "s", dtype=dtype, shard_bytes=12 * size * 110)
    assert list(store.records["record_id"]) == [f"r{i}" for i in range(5)]
    assert list(store.records["shard"]) == [0, 0, 1, 1, 2]
    assert list(store.records["start"]) == [0, 50, 0, 52, 0]
    for i in range(5):
        original, found = recording(f"r{i}", 50 + i, seed=i).signal, store.signal(f"r{i}")
        assert found.dtype == np.float32
        assert found.flags.writeable
        if dtype == "float32":
            np.testing.assert_array_equal(found, original)
        else:
            assert np.abs(found - original).max() <= 0.5e-3 + 1e-6
        np.testing.assert_array_equal(store.raw(i, 3, 9), store.raw(i)[3:9])
    assert store.raw(0).dtype == dtype
    assert not store.raw(0).flags.writeable
    for start, stop in ((0, 51), (-1, 3), (5, 4)):
        with pytest.raises(IndexError):
            store.raw(0, start, stop)
    assert store.label_sets() == ("label",)
    assert store.classes("label") == ("AFIB", "age")
    assert store.kinds("label") == ("classification", "regression")
    targets = store.targets("label")
    assert targets.dtype == np.float32
    assert np.isnan(targets[0, 1])
    assert targets[1:, 1].tolist() == [3, 5, 7, 9]
    assert store.sampling_rate == 500
    assert store.dtype == dtype
    assert store.records["age"].tolist() == [20, 21, 22, 23, 24]
    assert store.records["sex"][1] == "female"
    store.verify()
    for split, rows in {"test": [2], "validation": [1, 4], "train": [0, 3]}.items():
        assert store.rows(split).tolist() == rows
    for shard in (tmp_path / "s").glob("signals-*.npy"):
        assert np.load(shard).shape[1] == 12  # a real header
    assert sorted(store.meta["files"]) == sorted(path.name for path in store.path.iterdir() if path.name != "meta.json")
    with pytest.raises(UserError, match=r"no record 'r9'; it has 5, e\.g\. 'r0'"):
        store.signal("r9")
    with pytest.raises(UserError, match="no label set 'x'; expected one of label"):
        store.targets("x")


def test_int16_keeps_the_sources_step_exactly(tmp_path):
    store = write(tmp_path / "s", step=4.88)
    np.testing.assert_allclose(store.signal("r2"), recording("r2", 52, seed=2, step=4.88).signal, rtol=1e-6)
    assert set(store.records["microvolt_per_bit"]) == {4.88}


@given(
    hnp.arrays(np.float32, (7, 12), elements=st.floats(-500, 500, width=32) | st.just(np.nan)),
    st.none() | st.sampled_from([0.5, 1.0, 1.25, 4.88]),
)
def test_quantisation_is_within_half_a_step_and_keeps_nan(signal, step):
    bits, used = quantise(signal, step)
    assert bits.dtype == np.int16
    np.testing.assert_array_equal(bits == NAN, np.isnan(signal))
    assert used >= (step or 1.0)
    assert np.log2(used / (step or 1.0)) % 1 == 0
    error = np.abs(bits * (used / 1000) - signal.astype(np.float64))
    assert np.nanmax(error, initial=0) <= used / 2000 * (1 + 1e-9)
    peak = np.nanmax(np.abs(signal), initial=0)
    assert used == (step or 1.0) or peak * 1000 / (used / 2) > 32767


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    dtype=st.sampled_from(["int16", "float32"]),
    rows=st.integers(1, 60),
)
def test_any_lengths_in_any_shards(tmp_path_factory, lengths, dtype, rows):
    path = tmp_path_factory.mktemp("store") / "s"
    originals = [recording(f"r{i}", n, seed=i) for i, n in enumerate(lengths)]
    with StoreWriter(path, source="t", dtype=dtype, shard_bytes=rows * 12 * np.dtype(dtype).itemsize) as writer:
        for original in originals:
            writer.add(original, patient_id="p", fold=0)
        writer.finish()
    store = open_store(path)
    for original in originals:
        error = np.abs(store.signal(original.id) - original.signal).max()
        assert error <= (0.5001e-3 if dtype == "int16" else 0)
    per_shard = store.records.groupby("shard")["samples"].sum()
    assert ((per_shard <= rows) | (store.records.groupby("shard").size() == 1)).all()


def test_same_content_same_fingerprint_and_other_content_another(tmp_path):
    one, two, three = write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", n=4)
    assert one.fingerprint == two.fingerprint != three.fingerprint


def test_pickle_leaves_the_maps_behind(tmp_path):
    store = write(tmp_path / "s", n=2)
    store.raw(0)
    assert store._maps
    assert len(pickle.dumps(store)) < 20_000
    copy = pickle.loads(pickle.dumps(store))
    assert not copy._maps
    np.testing.assert_array_equal(copy.signal("r1"), store.signal("r1"))


def test_shards_are_mapped_once_and_when_needed(tmp_path, monkeypatch):
    store = write(tmp_path / "s", shard_bytes=12 * 2 * 110)
    opened = []
    original = np.load
    monkeypatch.setattr(np, "load", lambda path, **kwargs: opened.append(path.name) or original(path, **kwargs))
    for _ in range(3):
        store.raw(2)
        store.raw(3)
    assert opened == ["signals-00001.npy"]


@given(st.lists(st.integers(-3, 12), min_size=1))
def test_split_of(folds):
    found = split_of(np.array(folds))
    ids = sorted(set(folds))
    for fold, split in zip(folds, found, strict=True):
        assert (SPLITS[split] == "test") == (fold == ids[-1])
        assert (SPLITS[split] == "validation") == (len(ids) > 1 and fold == ids[-2])


def flip(path, position=-1):
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


def edit_meta(path, **changes):
    meta = json.loads((path / "meta.json").read_text()) | changes
    (path / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "not a store .it has no meta.json"),
        (lambda p: (p / "meta.json").unlink(), "not a store"),
        (lambda p: (p / "meta.json").write_text("{"), "meta.json: damaged"),
        (lambda p: (p / "meta.json").write_text("[]"), "not the meta.json of a store"),
        (lambda p: edit_meta(p, format_version=99), "format version 99; this version of ecgjax reads 2"),
        (lambda p: edit_meta(p, sampling_rate=250.0), "does not match its own fingerprint"),
        (lambda p: (p / "signals-00000.npy").unlink(), "signals-00000.npy: missing from the store"),
        (lambda p: os.truncate(p / "signals-00000.npy", 999), "signals-00000.npy: 999 bytes; expected"),
        (lambda p: flip(p / "records.parquet", 300), "records.parquet: damaged"),
        (lambda p: flip(p / "labels.npz"), "labels.npz: damaged"),
        (lambda p: flip(p / "classes.json"), "classes.json: damaged"),
    ],
)
def test_a_damaged_store_is_not_opened(tmp_path, change, message):
    write(tmp_path / "s")
    change(tmp_path / "s")
    with pytest.raises(UserError, match=message):
        open_store(tmp_path / "s")


def test_a_flipped_bit_in_a_shard_is_found_by_verify(tmp_path):
    store = write(tmp_path / "s", shard_bytes=12 * 2 * 110)
    flip(tmp_path / "s" / "signals-00001.npy", 500)
    with pytest.raises(UserError, match=r"signals-00001\.npy: damaged \(SHA-256 \w+\.\.\., expected"):
        open_store(tmp_path / "s").verify()
    assert store.path == tmp_path / "s"


def attempt(path, records, label_sets=None, patient_id="p", metadata=None):
    with StoreWriter(path, source="t") as writer:
        for item in records:
            writer.add(item, patient_id=patient_id, fold=0, metadata=metadata)
        writer.finish(label_sets)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([recording("a"), recording("a")], "record 'a' is there twice"),
        ([recording("")], "record number 0 has an empty record id"),
        ([recording("a"), recording("b", rate=250)], "record 'b' has 250 Hz; expected 500 Hz"),
        ([Recording("a", np.zeros((5, 8), np.float32), 500)], r"record 'a': signal of shape \(5, 8\)"),
        ([Recording("a", np.zeros((0, 12), np.float32), 500)], r"record 'a': signal of shape \(0, 12\)"),
        ([Recording("a", np.full((5, 12), np.inf, np.float32), 500)], "record 'a': infinite values"),
        ([], "not one record"),
    ],
)
def test_bad_records_leave_nothing_behind(tmp_path, records, message):
    with pytest.raises(UserError, match=message):
        attempt(tmp_path / "s", records)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            (("a",), np.zeros((2, 1)), ("classification",)),
            r"label set 'x': targets of shape \(2, 1\); expected .* \(1, 1\)",
        ),
        ((("a", "a"), np.zeros((1, 2)), ("classification",) * 2), "unique names"),
        ((("a",), np.zeros((1, 1)), ("cls",)), "expected classification or regression"),
        ((("a",), np.full((1, 1), 2.0), ("classification",)), "class 'a' has targets other than 0, 1 and NaN"),
        ((("a",), np.full((1, 1), np.inf), ("regression",)), "class 'a' has infinite targets"),
    ],
)
def test_bad_labels_leave_nothing_behind(tmp_path, labels, message):
    with pytest.raises(UserError, match=message):
        attempt(tmp_path / "s", [recording()], {"x": labels})
    assert not list(tmp_path.iterdir())


def test_bad_metadata_dtype_and_patient(tmp_path):
    with pytest.raises(UserError, match="'fold' is one of the index's own"):
        attempt(tmp_path / "s", [recording()], metadata={"fold": 1})
    with pytest.raises(UserError, match="empty patient id"):
        attempt(tmp_path / "s", [recording()], patient_id="")
    with pytest.raises(UserError, match="store dtype 'int8'"):
        StoreWriter(tmp_path / "s", source="t", dtype="int8")
    assert not list(tmp_path.iterdir())


def test_an_existing_store_is_not_overwritten(tmp_path):
    before = write(tmp_path / "s").fingerprint
    with pytest.raises(UserError, match="exists already; expected the path of a new store"):
        StoreWriter(tmp_path / "s", source="t")
    assert open_store(tmp_path / "s").fingerprint == before


def test_the_first_of_two_writers_wins(tmp_path):
    writer = StoreWriter(tmp_path / "s", source="t")
    writer.add(recording(), patient_id="p", fold=0)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "other").write_text("kept")
    with pytest.raises(UserError, match="s: another process made it meanwhile"), writer:
        writer.finish()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["s", "s/other"]


def test_leaving_without_finish_is_an_error_and_leaves_nothing(tmp_path):
    writer = StoreWriter(tmp_path / "s", source="t")
    writer.add(recording(), patient_id="p", fold=0)
    with pytest.raises(RuntimeError, match="without finish"):
        writer.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_metadata_of_mixed_kinds_survives(tmp_path):
    with StoreWriter(tmp_path / "s", source="t") as writer:
        for i, metadata in enumerate([{"a": 1, "b": "x", "c": None}, {"b": 2, "d": "3.5"}, {"a": None}]):
            writer.add(recording(f"r{i}"), patient_id="p", fold=0, metadata=metadata)
        writer.finish({"file": ((), np.zeros((3, 0)), ())})
    records = open_store(tmp_path / "s").records
    assert records["a"][0] == 1
    assert records["b"].tolist()[:2] == ["x", "2"]
    assert records["d"].tolist()[1] == "3.5"  # text stays text: codes are no numbers
    assert records["c"].isna().all()


WRITER = """
    import sys, time
    import numpy as np
    from ecgjax.data.recording import Recording
    from ecgjax.data.store_writer import StoreWriter
    from ecgjax.errors import UserError
    try:
        with StoreWriter(sys.argv[1], source="t", dtype="float32", shard_bytes=int(sys.argv[2])) as writer:
            for i in range(10**6):
                writer.add(Recording(f"r{i}", np.ones((2000, 12), np.float32), 500.0), patient_id="p", fold=0)
                print(i, flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
"""


def test_a_killed_writer_leaves_nothing_at_the_target_and_is_cleaned_up_after(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), tmp_path / "s", "500000"], stdout=subprocess.PIPE, text=True
    )
    while int(process.stdout.readline()) < 20:
        pass
    # Another writer of the same store does not touch what a running one writes.
    partial = [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    assert len(partial) == 1
    StoreWriter(tmp_path / "s", source="t").abort()
    assert partial[0].exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert list(tmp_path.iterdir()) == partial
    write(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITER), tmp_path / "s", "100000000"],
        preexec_fn=limit, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr == f"{tmp_path / 's'}: no space left to write; free space and start the same command again\n"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"s: cannot be made .* expected the path of a new store"):
        StoreWriter(tmp_path / "file" / "s", source="t")
