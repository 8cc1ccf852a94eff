"""The store gives back what was written, and never half of it."""

import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgjax import UserError
from ecgjax.data.recording import Recording
from ecgjax.data.store import NAN, open_store, split_of
from ecgjax.data.store_writer import StoreWriter, quantise


def recording(name="a", samples=50, rate=500.0, seed=0, step=None):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(samples, 12)).astype(np.float32)
    if step:
        signal = (np.rint(signal * 1000 / step) * step / 1000).astype(np.float32)
    return Recording(name, signal, rate, microvolt_per_bit=step)


def write(path, n=5, dtype="int16", shard_bytes=2 * 10**9, samples=50, step=None):
    with StoreWriter(path, source="test", dtype=dtype, shard_bytes=shard_bytes) as writer:
        for i in range(n):
            r = recording(f"r{i}", samples=samples + i, seed=i, step=step)
            writer.add(
                r, patient_id=f"p{i}", fold=i % 3, metadata={"age": 20.0 + i, "sex": "female" if i % 2 else None}
            )
        targets = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        targets[:, 0] = targets[:, 0] % 4 == 0
        targets[0, 1] = np.nan
        writer.finish({"label": (("AFIB", "age"), targets, ("classification", "regression"))})
    return open_store(path)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_round_trip(tmp_path, dtype):
    store = write(tmp_path / "s", dtype=dtype, shard_bytes=12 * (2 if dtype == "int16" else 4) * 110)
    assert list(store.records["record_id"]) == [f"r{i}" for i in range(5)]
    assert list(store.records["shard"]) == [0, 0, 1, 1, 2]
    assert list(store.records["start"]) == [0, 50, 0, 52, 0]
    for i in range(5):
        original = recording(f"r{i}", samples=50 + i, seed=i).signal
        found = store.signal(f"r{i}")
        assert found.dtype == np.float32
        assert found.flags.writeable
        if dtype == "float32":
            np.testing.assert_array_equal(found, original)
        else:
            assert np.abs(found - original).max() <= 0.5e-3 + 1e-6
        np.testing.assert_array_equal(store.raw(i, 3, 9), store.raw(i)[3:9])
    assert not store.raw(0).flags.writeable
    with pytest.raises(IndexError):
        store.raw(0, 0, 51)
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
    for shard in (tmp_path / "s").glob("*.npy"):
        assert np.load(shard).shape[1] == 12
