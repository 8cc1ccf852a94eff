"""Features of a store's windows: those of an encoder pass, computed once whoever asks, however often it is killed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ecgjax.data.batch_plans import BatchPlan, EvaluationPlan
from ecgjax.data.batches import iterate
from ecgjax.data.cutter import make_cutter
from ecgjax.data.feature_cache import FeatureCache, key_of
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.models.forward import Forward
from ecgjax.models.model import load_model
from ecgjax.sweep import features
from ecgjax.sweep.features import Windows, identity_of, obtain, windows_of
from ecgjax.training import cached_features

pytestmark = pytest.mark.usefixtures("tiny")
BATCH = 16


@pytest.fixture(scope="module")
def setting(tiny, store):
    """The tiny model on a store of 80 records with two windows each."""
    opened, model = open_store(store), load_model("tiny")
    rows = np.arange(len(opened))
    cutter = make_cutter(opened, rows, seconds=model.spec.seconds, sampling_rate=model.spec.sampling_rate)
    return SimpleNamespace(store=opened, model=model, cutter=cutter, lengths=opened.records["samples"].to_numpy())


def get(setting, folder, windows, model=None, kinds=("pooled", "sequence"), **options):
    model = model or setting.model
    identity = identity_of(model, None, 0, setting.store, setting.cutter)
    return obtain(
        model, identity, setting.store, setting.cutter, windows, kinds=kinds, batch_size=BATCH, folder=folder, **options
    )


def direct(setting, plan, model=None):
    """(record, start) -> pooled, sequence, by passes of the plan's batches through the encoder."""
    model = model or setting.model
    encode = Forward(lambda variables, cutter, item: model.encoder.apply(variables, cutter(item))[0])
    found = {}
    for item in iterate(setting.store, plan, setting.cutter):
        batch = encode(model.variables, setting.cutter, item)
        position = zip(np.asarray(item["record"]).tolist(), np.asarray(item["start"]).tolist(), strict=True)
        found |= dict(
            zip(position, zip(np.asarray(batch.pooled), np.asarray(batch.sequence), strict=True), strict=True)
        )
    return found


def fed(cache, plan, placement):
    source = cached_features.put(cache, placement)
    read = jax.jit(lambda source, item: source(item))
    found = {}
    for item in cached_features.iterate(cache, plan, source):
        batch = read(source, {name: value for name, value in item.items() if name != "valid"})
        position = zip(np.asarray(item["record"]).tolist(), np.asarray(item["start"]).tolist(), strict=True)
        found |= dict(
            zip(position, zip(np.asarray(batch.pooled), np.asarray(batch.sequence), strict=True), strict=True)
        )
    return found


def same(found, expected):
    assert found.keys() == expected.keys()
    return all(np.array_equal(a, b) for key in found for a, b in zip(found[key], expected[key], strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_is_fed_the_very_values_of_an_encoder_pass(setting, tmp_path, dtype):
    rows, model = setting.store.rows("validation"), setting.model.rounded(dtype)
    evaluation = EvaluationPlan(rows, setting.lengths, window=setting.cutter.window, batch_size=BATCH)
    cache = get(setting, tmp_path, windows_of(setting.store, rows, setting.cutter.window), model)
    expected = direct(setting, evaluation, model)
    assert cache.dtype == dtype
    assert len(cache) == evaluation.windows == len(expected) == 16
    for placement in ("device", "host"):
        assert same(fed(cache, evaluation, placement), expected)
    if dtype == "bfloat16":
        exact = direct(setting, evaluation)
        assert not same(expected, exact)
        for key in exact:
            for rounded, value in zip(expected[key], exact[key], strict=True):
                assert (np.abs(rounded - value) <= 2**-8 * np.abs(value)).all()


def test_any_windows_and_items_of_several_cells(setting, tmp_path):
    rows = setting.store.rows("train")
    plan = BatchPlan(rows, setting.lengths, window=setting.cutter.window, batch_size=BATCH, seed=3, epochs=1)
    items = [plan[step] for step in range(len(plan))]
    record, start = (np.concatenate([item[name] for item in items]) for name in ("record", "start"))
    cache = get(setting, tmp_path, Windows(record, start), part_bytes=1)
    parts = [path for path in cache.folder.iterdir() if path.is_dir()]
    assert len(parts) == len(plan) == 4  # a part for each batch
    expected = direct(setting, plan)
    assert same(fed(cache, plan, "device"), expected)
    source = cached_features.put(cache)
    both = source({"feature": cache.find(*(np.stack([items[0][n], items[1][n]]) for n in ("record", "start")))})
    assert both.pooled.shape == (2, BATCH, 16)
    first = (int(items[1]["record"][0]), int(items[1]["start"][0]))
    np.testing.assert_array_equal(both.pooled[1, 0], expected[first][0])


def test_only_kinds_that_are_asked_are_kept(setting, tmp_path):
    windows = windows_of(setting.store, setting.store.rows("test"), setting.cutter.window)
    cache = get(setting, tmp_path, windows, kinds=["pooled"])
    assert not list(cache.folder.rglob("sequence.npy"))
    found = cached_features.put(cache)({"feature": np.arange(4)})
    assert found.sequence is None
    assert found.pooled.shape == (4, 16)


def test_only_what_is_missing_is_computed(setting, tmp_path, monkeypatch):
    counts = []
    run = features._Pass.run

    def counted(self, at, identity, windows, part_bytes):
        counts.append(len(windows.record))
        run(self, at, identity, windows, part_bytes)

    monkeypatch.setattr(features._Pass, "run", counted)
    rows = setting.store.rows("train")

    def ask(some, **options):
        windows = windows_of(setting.store, some, setting.cutter.window)
        assert len(get(setting, tmp_path, windows, **options)) == len(windows.record) == 2 * len(some)

    ask(rows[:5], kinds=["pooled"])
    ask(rows[3:9][::-1], kinds=["pooled"])
    ask(rows[:9], kinds=["pooled"])
    assert counts == [10, 8]
    ask(rows[:2])  # with sequences: of none is there one
    ask(rows[:2], kinds=["sequence"])
    assert counts == [10, 8, 4]


def test_a_damaged_part_is_named_and_computed_again(setting, tmp_path, caplog):
    rows = setting.store.rows("test")
    first, second = (windows_of(setting.store, some, setting.cutter.window) for some in (rows[:4], rows[4:]))
    get(setting, tmp_path, first)
    part = next(path for path in get(setting, tmp_path, second).folder.iterdir() if (path / "pooled.npy").exists())
    whole = (part / "pooled.npy").read_bytes()
    (part / "pooled.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    both = Windows(*(np.concatenate(columns) for columns in zip(first, second, strict=True)))
    assert len(get(setting, tmp_path, both)) == 16
    assert f"{part / 'pooled.npy'}: damaged" in caplog.text
    assert "its part of the feature cache is computed again" in caplog.text
    assert (part / "pooled.npy").read_bytes() == whole


def test_a_signal_keeps_what_is_computed(setting, tmp_path):
    windows = windows_of(setting.store, setting.store.rows("train"), setting.cutter.window)
    interrupt = SimpleNamespace(signal=signal.SIGTERM, exit_code=143)
    with pytest.raises(SystemExit, match="143"):
        get(setting, tmp_path, windows, interrupt=interrupt)

    class Third:
        """The signal comes while the second batch is computed."""

        exit_code, asked = 143, 0

        @property
        def signal(self):
            Third.asked += 1
            return signal.SIGTERM if Third.asked >= 4 else None

    with pytest.raises(SystemExit, match="143"):
        get(setting, tmp_path, windows, interrupt=Third())
    identity = identity_of(setting.model, None, 0, setting.store, setting.cutter)
    kept = FeatureCache(tmp_path / key_of(identity), ["pooled", "sequence"], "float32")
    assert 0 < len(kept) < len(windows.record)
    assert len(kept) % BATCH == 0
    assert len(get(setting, tmp_path, windows)) == len(windows.record)


def test_too_little_space_is_one_line(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    windows = windows_of(setting.store, setting.store.rows("test"), setting.cutter.window)
    with pytest.raises(UserError, match=r"features of 33,792 bytes, and 1,000 are free; expected enough space"):
        get(setting, tmp_path, windows)
    assert not list(tmp_path.rglob("*.npy"))


def test_everything_that_determines_features_is_in_the_key(setting, store, tmp_path):
    def key(model=setting.model, weights=None, seed=0, opened=setting.store, cutter=setting.cutter):
        return key_of(identity_of(model, weights, seed, opened, cutter))

    shutil.copytree(store, tmp_path / "other")
    other = open_store(tmp_path / "other")
    assert key(opened=other) == key()  # a copy of the data is the same data
    other.fingerprint = "another"
    make = {"seconds": 2.5, "sampling_rate": 50.0}
    keys = [
        key(),
        key(model=setting.model.rounded("bfloat16")),
        key(model=load_model("tiny", width=32)),
        key(model=load_model("tiny", dropout=0.2)),
        key(weights="a" * 64),
        key(seed=1),
        key(opened=other),
        *(
            key(cutter=make_cutter(setting.store, np.arange(2), **{**make, **change}))
            for change in ({"seconds": 2.0}, {"sampling_rate": 25.0}, {"protocol": "paper"})
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert key(weights="a" * 64, seed=1) == key(weights="a" * 64)  # the seed draws no weights then
    with jax.default_matmul_precision("highest"):
        assert key() not in keys


WORKER = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from ecgjax.data.cutter import make_cutter
    from ecgjax.data.store import open_store
    from ecgjax.models import registry
    from ecgjax.models.model import load_model
    from ecgjax.sweep import features
    registry._MODELS["tiny"] = "tests.jobs.tiny_model"
    path, folder, slow = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    store, model = open_store(path), load_model("tiny")
    cutter = make_cutter(store, np.arange(len(store)), seconds=2.5, sampling_rate=50.0)
    write, encoded = features._Pass._write, []

    def written(self, shards, found, most):
        if found:
            encoded.append(most)
            print("batch", flush=True)
            time.sleep(slow)
        write(self, shards, found, most)

    features._Pass._write = written
    windows = features.windows_of(store, np.arange(len(store)), cutter.window)
    cache = features.obtain(model, features.identity_of(model, None, 0, store, cutter), store, cutter, windows,
                            kinds=["pooled"], batch_size=16, folder=folder, part_bytes=2048)
    print("end", len(cache), sum(encoded), flush=True)
"""


def start(store, folder, slow):
    command = [sys.executable, "-c", textwrap.dedent(WORKER), store, folder, str(slow)]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root}
    )


def test_processes_compute_together_and_a_killed_one_loses_little(store, tmp_path):
    killed = start(store, tmp_path, 0.5)
    for _ in range(4):  # two batches make a part
        assert killed.stdout.readline() == "batch\n"
    workers = [start(store, tmp_path, 0.02) for _ in range(2)]  # they wait for it
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    deadline = time.monotonic() + 400
    ends = [worker.communicate(timeout=deadline - time.monotonic())[0].splitlines()[-1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    counts = sorted(int(end.split()[2]) for end in ends)
    assert all(end.startswith("end 160 ") for end in ends)
    assert counts[0] == 0  # the other one had computed everything
    assert counts[1] in (160 - 32, 160 - 64)  # without what the killed one had finished
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name[0] == "." for path in folder.iterdir())[-1] is False  # no leftovers
