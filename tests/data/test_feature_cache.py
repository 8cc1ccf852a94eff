"""The files of a feature cache: round trips, whole or absent, and damage that is noticed."""

import contextlib
import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data import feature_cache
from ecgjax.data.feature_cache import DamagedError, FeatureCache, append, key_of, new_part, place, tidy
from ecgjax.errors import UserError

IDENTITY = {"weights": "abc", "dtype": "float32"}
SHAPES = {"pooled": (3,), "sequence": (2, 3)}


def features_of(record, start, kind):
    """Values that tell which window they are of."""
    record, start = np.asarray(record), np.asarray(start)
    pooled = np.stack([record % 65521, start % 65521, record // 65521 + start // 65521], axis=1)
    return (pooled if kind == "pooled" else np.stack([pooled, -pooled], axis=1)).astype(np.float32)


def write(folder, windows, kinds=("pooled", "sequence"), dtype="float32"):
    record, start = np.array(sorted(windows), np.int64).reshape(-1, 2).T
    shapes = {kind: SHAPES[kind] for kind in kinds}
    with new_part(folder, {**IDENTITY, "dtype": dtype}, record, start, shapes, dtype) as shards:
        for kind, shard in shards.items():
            for part in np.array_split(np.arange(len(record)), 2):
                found = features_of(record[part], start[part], kind)
                append(shard, found.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else found, dtype)


def at(path, dtype="float32"):
    return path / key_of({**IDENTITY, "dtype": dtype})


windows = st.sets(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(windows, min_size=1, max_size=3), seed=st.integers(0, 9), data=st.data())
def test_any_windows_in_any_parts_are_found_again(parts, seed, data):
    with tempfile.TemporaryDirectory() as path:
        folder = at(Path(path))
        for part in parts:
            write(folder, part)
        cache = FeatureCache(folder, ("pooled", "sequence"), "float32")
        everything = np.array(sorted(set.union(*parts)))
        assert len(cache) == len(everything)
        asked = np.random.default_rng(seed).permutation(np.concatenate([everything, everything]))
        record, start = asked.reshape(2, -1, 2).transpose(2, 0, 1)  # of any shape
        position = cache.find(record, start)
        assert position.shape == record.shape
        assert cache.has(record, start).all()
        for kind in ("pooled", "sequence"):
            expected = features_of(record.ravel(), start.ravel(), kind).reshape(*record.shape, *SHAPES[kind])
            np.testing.assert_array_equal(cache.rows(kind, position), expected)
        fewer = everything[: data.draw(st.integers(1, len(everything)))]
        only = pickle.loads(pickle.dumps(cache.only(*fewer.T)))
        assert len(only) == len(fewer)
        assert only.bytes == len(fewer) * 9 * 4
        np.testing.assert_array_equal(only.rows("pooled", np.arange(len(only))), features_of(*fewer.T, "pooled"))
        stranger = data.draw(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)))
        assert only.has(*np.array([stranger]).T).all() == (stranger in set(map(tuple, fewer.tolist())))


def test_a_window_that_is_not_there(tmp_path):
    write(at(tmp_path), [(1, 0), (1, 250)])
    cache = FeatureCache(at(tmp_path), ["pooled"], "float32")
    with pytest.raises(LookupError, match="no features of record 1 from sample 251"):
        cache.find(np.array([1, 1]), np.array([250, 251]))
    assert len(FeatureCache(tmp_path / "nothing", ["pooled"], "float32")) == 0


def test_parts_without_a_kind_that_is_asked_do_not_count(tmp_path):
    write(at(tmp_path), [(1, 0), (2, 0)], ["pooled"])
    write(at(tmp_path), [(2, 0), (3, 0)])
    assert len(FeatureCache(at(tmp_path), ["pooled"], "float32")) == 3
    assert len(FeatureCache(at(tmp_path), ["sequence", "pooled"], "float32")) == 2


def test_files_are_plain_npy_and_bfloat16_is_its_bits(tmp_path):
    chosen = [(7, 0), (7, 250), (301, 33)]
    write(at(tmp_path, "bfloat16"), chosen, dtype="bfloat16")
    (part,) = at(tmp_path, "bfloat16").iterdir()
    meta = json.loads((part / "meta.json").read_text())
    assert meta["dtype"] == "bfloat16"
    assert meta["windows"] == 3
    assert meta["identity"]["weights"] == "abc"
    for name, entry in meta["files"].items():
        assert hashlib.sha256((part / name).read_bytes()).hexdigest() == entry["sha256"]
    assert np.load(part / "index.npy").tolist() == [list(window) for window in chosen]
    bits = np.load(part / "sequence.npy")
    assert bits.dtype == np.uint16
    assert bits.shape == (3, 2, 3)
    exact = features_of(*np.array(chosen).T, "sequence")
    # bfloat16 is the upper half of a float32.
    stored = (bits.astype(np.uint32) << 16).view(np.float32)
    assert (np.abs(stored - exact) <= 2**-8 * np.abs(exact)).all()
    assert (stored != exact).any()
    cache = FeatureCache(at(tmp_path, "bfloat16"), ["sequence"], "bfloat16")
    np.testing.assert_array_equal(cache.rows("sequence", np.arange(3)).astype(np.float32), stored)
    assert cache.bytes == 3 * 6 * 2


@pytest.mark.parametrize("changed", ["weights", "model", "arguments", "data", "crops", "dtype", "platform"])
def test_a_key_stands_for_every_part(changed):
    identity = {"weights": "a", "model": "m", "arguments": {"width": 8}, "data": "f", "crops": [250, 100.0]}
    other = {**identity, changed: {"width": 9}}
    assert key_of(identity) == key_of(dict(reversed(identity.items()))) != key_of(other)


def damage(part, name):
    content = bytearray((part / name).read_bytes())
    content[-2] ^= 1
    (part / name).write_bytes(content)


@pytest.mark.parametrize("name", ["pooled.npy", "sequence.npy", "index.npy"])
def test_a_changed_byte_is_noticed(tmp_path, name):
    write(at(tmp_path), [(1, 0), (2, 0)])
    (part,) = at(tmp_path).iterdir()
    damage(part, name)
    with pytest.raises(DamagedError, match=rf"{name}: damaged \(SHA-256 ") as error:
        FeatureCache(at(tmp_path), ["pooled", "sequence"], "float32")
    assert error.value.part == part
    assert "\n" not in str(error.value)


def test_what_is_missing_cut_or_of_other_features_is_noticed(tmp_path):
    def spoilt(name, spoil, match):
        write(at(tmp_path / name), [(1, 0), (2, 0)])
        (part,) = at(tmp_path / name).iterdir()
        spoil(part)
        with pytest.raises(DamagedError, match=match):
            FeatureCache(at(tmp_path / name), ["pooled"], "float32")

    spoilt("a", lambda part: os.truncate(part / "pooled.npy", 140), r"pooled.npy: 140 bytes; expected 152 bytes")
    spoilt("b", lambda part: (part / "sequence.npy").unlink(), r"sequence.npy: missing")
    spoilt("c", lambda part: (part / "meta.json").write_text("{"), r"meta.json: damaged")

    def other(part):
        meta = json.loads((part / "meta.json").read_text())
        (part / "meta.json").write_text(json.dumps({**meta, "identity": {"weights": "others"}}))

    spoilt("d", other, r"meta.json: damaged \(of other features\)")


def test_checksums_are_computed_once_in_a_process(tmp_path, monkeypatch):
    write(at(tmp_path), [(1, 0), (2, 0)])
    FeatureCache(at(tmp_path), ["pooled"], "float32")

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(feature_cache.hashlib, "file_digest", refuse)
    assert len(FeatureCache(at(tmp_path), ["pooled"], "float32")) == 2


def test_the_order_of_windows_and_the_number_of_rows_are_checked(tmp_path):
    for record in ([2, 1], [1, 1]):
        with pytest.raises(ValueError, match="out of order, or one of them twice"):  # noqa: SIM117
            with new_part(at(tmp_path), IDENTITY, np.array(record), np.array([0, 0]), {"pooled": (3,)}, "float32"):
                pass
    # Fewer features than windows are a part of those that came.
    record, start = np.array([1, 2, 3]), np.array([0, 5, 9])
    with new_part(at(tmp_path), IDENTITY, record, start, {"pooled": (3,)}, "float32") as shards:
        append(shards["pooled"], features_of(record[:2], start[:2], "pooled"), "float32")
    cache = FeatureCache(at(tmp_path), ["pooled"], "float32")
    assert cache.has(record, start).tolist() == [True, True, False]


def test_the_same_windows_written_twice_are_one_part(tmp_path):
    record, start = np.array([1, 2]), np.array([0, 0])
    shapes = {"pooled": (3,)}
    with new_part(at(tmp_path), IDENTITY, record, start, shapes, "float32") as slow:
        append(slow["pooled"], features_of(record, start, "pooled"), "float32")
        subprocess.run([sys.executable, "-c", textwrap.dedent(WRITER), at(tmp_path), "0"], check=True, timeout=60)
    assert len(list(at(tmp_path).iterdir())) == 1
    assert len(FeatureCache(at(tmp_path), ["pooled"], "float32")) == 2


WRITER = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from ecgjax.data.feature_cache import append, new_part
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    record, start = np.array([1, 2]), np.array([0, 0])
    with new_part(folder, {"weights": "abc", "dtype": "float32"}, record, start, {"pooled": (3,)}, "float32") as shards:
        append(shards["pooled"], np.zeros((2, 3), np.float32), "float32")
        shards["pooled"]._file.flush()
        print("writing", flush=True)
        time.sleep(seconds)
"""


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    folder = at(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), folder, "60"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (left,) = folder.iterdir()
    assert (left / "pooled.npy").exists()
    assert len(FeatureCache(folder, ["pooled"], "float32")) == 0
    tidy(folder)
    assert not list(folder.iterdir())
    write(folder, [(1, 0)])
    assert len(FeatureCache(folder, ["pooled"], "float32")) == 1


@contextlib.contextmanager
def file_size_limit(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with file_size_limit(4096), pytest.raises(UserError, match="no space left to write") as error:
        write(at(tmp_path), [(i, 0) for i in range(1000)])
    assert "\n" not in str(error.value)
    assert not list(at(tmp_path).iterdir())


def test_the_place_is_beside_the_store_where_that_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("ECGJAX_CACHE", str(tmp_path / "cache"))
    assert place(tmp_path / "ptbxl") == tmp_path / "ptbxl.features"
    assert place(tmp_path / "ptbxl", tmp_path / "other") == tmp_path / "other"
    monkeypatch.setattr(feature_cache.os, "access", lambda path, mode: False)
    assert place(tmp_path / "ptbxl") == tmp_path / "cache" / "features"
