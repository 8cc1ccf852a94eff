"""Plans are functions of (seed, step); both placements give the same batches; a resumed iterator goes on exactly."""

import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import resampy
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.batch_plans import BatchPlan, EvaluationPlan
from ecgjax.data.batches import evaluation_iterator, training_iterator
from ecgjax.data.crops import evaluation_windows, mean_by_record
from ecgjax.data.cutter import Cutter, Item, make_cutter
from ecgjax.data.resampling import resample
from ecgjax.data.store import Store
from ecgjax.errors import UserError
from tests.conftest import virtual_devices
from tests.data.small_store import LENGTHS, LONG_ENOUGH, write_store

ROWS = np.arange(len(LENGTHS))
CROPS = {"seconds": 2.5, "sampling_rate": 240.0}  # 1000 -> 600 samples
cut = jax.jit(Cutter.__call__)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("batches") / "store")


def plan(**changes: Any) -> BatchPlan:
    return BatchPlan(ROWS, LENGTHS, **({"window": 1000, "batch_size": 4, "seed": 3, "epochs": 5} | changes))


def equal(a: Item, b: Item) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@given(st.integers(1, len(LONG_ENOUGH)), st.integers(0, 2**40))
def test_an_epoch_holds_each_record_once(batch_size: int, seed: int) -> None:
    batches = plan(batch_size=batch_size, seed=seed)
    assert batches.steps_per_epoch == len(LONG_ENOUGH) // batch_size
    assert len(batches) == 5 * batches.steps_per_epoch
    assert batches.dropped.tolist() == [3, 6]
    for epoch in range(2):
        steps = [batches[epoch * batches.steps_per_epoch + i] for i in range(batches.steps_per_epoch)]
        records = np.concatenate([item["record"] for item in steps])
        starts = np.concatenate([item["start"] for item in steps])
        assert len(set(records.tolist())) == len(records) == batch_size * batches.steps_per_epoch
        assert set(records.tolist()) <= set(LONG_ENOUGH)
        assert (starts >= 0).all()
        assert (starts + 1000 <= np.array(LENGTHS)[records]).all()


def test_a_plan_depends_on_seed_and_step_only() -> None:
    batches, again = plan(), plan()
    assert [equal(batches[i], again[i]) for i in (9, 2, 9, 0)] == [True] * 4  # in any order
    assert equal(pickle.loads(pickle.dumps(batches))[7], again[7])
    assert not equal(batches[0], plan(seed=4)[0])
    orders = [np.concatenate([batches[2 * epoch + i]["record"] for i in range(2)]).tolist() for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert batches[0]["record"].dtype == batches[0]["start"].dtype == np.int32


@pytest.mark.parametrize("count", [2, 4])
def test_shares_make_up_the_global_batch(count: int) -> None:
    for make in (plan, lambda **share: EvaluationPlan(ROWS, LENGTHS, window=1000, batch_size=4, **share)):
        shares = [make(process_index=i, process_count=count) for i in range(count)]
        whole = make()
        assert len(whole) == len(shares[0])
        for step in range(len(whole)):
            parts = [share[step] for share in shares]
            assert equal(whole[step], {key: np.concatenate([part[key] for part in parts]) for key in whole[step]})


def test_paper_never_draws_the_last_start(store: Store) -> None:
    expected = {"default": ({0, 1}, {0, 1, 2, 3, 4}), "paper": ({0}, {0, 1, 2, 3})}
    for protocol, starts in expected.items():
        batches, _ = training_iterator(store, ROWS, **CROPS, batch_size=11, seed=1, epochs=100, protocol=protocol)
        items = list(batches)
        record, start = (np.concatenate([item[key] for item in items]) for key in ("record", "start"))
        assert set(start[record == 0].tolist()) == {0}  # exactly the window
        assert (set(start[record == 12].tolist()), set(start[record == 1].tolist())) == starts


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_both_placements_give_the_same_batches(tmp_path: Path, dtype: str, protocol: Any) -> None:
    store = write_store(tmp_path / "store", dtype=dtype)
    arguments = dict(**CROPS, batch_size=4, seed=1, epochs=2, protocol=protocol)
    on_device, device_cutter = training_iterator(store, ROWS, placement="device", **arguments)
    on_host, host_cutter = training_iterator(store, ROWS, placement="host", **arguments)
    steps = 0
    for a, b in zip(on_device, on_host, strict=True):
        assert "crop" not in a
        assert b["crop"].dtype == dtype
        assert equal(a, {key: b[key] for key in a})
        x, y = cut(device_cutter, a), cut(host_cutter, b)
        assert x.shape == (4, device_cutter.samples, 12) == (4, 600, 12)
        np.testing.assert_array_equal(x, y)
        steps += 1
    assert steps == 4


def test_batches_are_the_resampled_signals(store: Store) -> None:
    batches, cutter = training_iterator(store, ROWS, **CROPS, batch_size=4, seed=1, epochs=3)
    for item in batches:
        crops = np.asarray(cut(cutter, item))
        for crop, record, start in zip(crops, item["record"], item["start"], strict=True):
            signal = np.nan_to_num(store.signal(f"r{record}")[start : start + 1000])
            np.testing.assert_allclose(crop, resampy.resample(signal, 400.0, 240.0, axis=0), rtol=0, atol=1e-5)


def test_paper_spreads_and_then_zeroes(store: Store) -> None:
    batches, cutter = training_iterator(store, ROWS, **CROPS, batch_size=4, seed=1, epochs=3, protocol="paper")
    spread = 0
    for item in batches:
        crops = np.asarray(cut(cutter, item))
        assert not np.isnan(crops).any()
        for crop, record, start in zip(crops, item["record"], item["start"], strict=True):
            expected = resampy.resample(store.signal(f"r{record}")[start : start + 1000], 400.0, 240.0, axis=0)
            spread += int(np.isnan(expected).sum())
            np.testing.assert_allclose(crop, np.nan_to_num(expected), rtol=0, atol=1e-5)
    assert spread > 0


def test_auto_placement_goes_by_memory(store: Store) -> None:
    assert make_cutter(store, ROWS, seconds=2.5).dataset is not None
    assert make_cutter(store, ROWS, seconds=2.5, device_bytes=1000).dataset is None


@pytest.mark.parametrize("placement", ["device", "host"])
def test_resume(tmp_path: Path, store: Store, placement: Any) -> None:
    def start() -> grain.DatasetIterator:
        return training_iterator(store, ROWS, **CROPS, batch_size=4, seed=5, epochs=4, placement=placement)[0]

    whole = list(start())
    assert len(whole) == 8
    interrupted = start()
    before = [next(interrupted) for _ in range(3)]
    # Batches lie ready by now; the saved state must be that of the third.
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        manager.save(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(interrupted)))
        manager.wait_until_finished()
        resumed = start()
        manager.restore(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(resumed)))
    assert all(equal(a, b) for a, b in zip(whole, [*before, *resumed], strict=True))
    again = start()
    again.set_state(interrupted.get_state())
    assert equal(next(again), whole[3])


def test_moving_while_batches_are_read_ahead(store: Store) -> None:
    batches = training_iterator(store, ROWS, **CROPS, batch_size=4, seed=5, epochs=4, placement="host")[0]
    start, whole = batches.get_state(), list(batches)
    for position in (0, 3, 7, 1):
        batches.set_state(start)
        for expected in whole[:position]:
            assert equal(next(batches), expected)
    batches.close()
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_evaluation_covers_every_window_once(store: Store, placement: Any) -> None:
    cutter = make_cutter(store, ROWS, **CROPS, placement=placement)
    items = list(evaluation_iterator(store, ROWS, cutter, batch_size=5))
    record, start, valid = (np.concatenate([item[key] for item in items]) for key in ("record", "start", "valid"))
    assert all(len(item["valid"]) == 5 for item in items)
    index, expected = evaluation_windows(np.array(LENGTHS), 1000)
    np.testing.assert_array_equal(record[valid], index)
    np.testing.assert_array_equal(start[valid], expected)
    means = np.concatenate([np.asarray(cut(cutter, item)).mean(axis=1) for item in items])[valid]
    by_record = mean_by_record(means, record[valid], len(LENGTHS))
    assert np.isnan(by_record).all(axis=1).tolist() == [length < 1000 for length in LENGTHS]
    signal = store.signal("r11")[:4000].reshape(4, 1000, 12)
    np.testing.assert_allclose(by_record[11], np.asarray(resample(signal, 400, 240)).mean(axis=(0, 1)), atol=1e-6)


OVER_TWO_DEVICES = """
import sys
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ecgjax.data.batches import training_iterator
from ecgjax.data.store import open_store

store = open_store(sys.argv[1])
arguments = dict(seconds=2.5, sampling_rate=240.0, batch_size=4, seed=1, epochs=1)
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("data"))
cut = jax.jit(lambda cutter, item: cutter(item))
for placement in ("device", "host"):
    batches, cutter = training_iterator(store, np.arange(13), **arguments, sharding=sharding, placement=placement)
    plain, plain_cutter = training_iterator(store, np.arange(13), **arguments)
    for a, b in zip(batches, plain, strict=True):
        crops = cut(cutter, a)
        assert len(crops.sharding.device_set) == 2 and crops.addressable_shards[0].data.shape == (2, 600, 12)
        np.testing.assert_allclose(crops, cut(plain_cutter, b), rtol=0, atol=1e-5)
    batches.close()
print("equal")
"""


def test_batches_over_two_devices(store: Store) -> None:
    command = [sys.executable, "-c", OVER_TWO_DEVICES, str(store.path)]
    done = subprocess.run(command, env=virtual_devices(2), capture_output=True, text=True, check=False, timeout=250)
    assert done.stdout == "equal\n", done.stderr


def test_explicit_axes_are_refused(store: Store) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    with pytest.raises(ValueError, match="Auto"):
        make_cutter(store, ROWS, seconds=2.5, sharding=sharding)


def test_short_records_are_named(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="absl"):
        training_iterator(store, ROWS, **CROPS, batch_size=4, seed=1, epochs=1)
    assert '2 records are shorter than the window of 1000 samples and left out: "r3", "r6"' in caplog.text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 12}, "batch_size=12; expected 1 to 11"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seconds": 0}, "window of 0 s"),
        ({"seconds": 60}, "expected 1 to 0"),
        ({"placement": "gpu"}, "placement='gpu'"),
        ({"protocol": "papers"}, "protocol='papers'"),
        ({"sampling_rate": -240.0}, "-240"),
    ],
)
def test_bad_arguments(store: Store, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        training_iterator(store, ROWS, **({**CROPS, "batch_size": 4, "seed": 0, "epochs": 1} | changes))


def test_bad_evaluation(store: Store) -> None:
    cutter = make_cutter(store, ROWS[:3], seconds=2.5)
    with pytest.raises(UserError, match="no record of at least 1000 samples among 2"):
        evaluation_iterator(store, np.array([3, 6]), cutter, batch_size=2)
    with pytest.raises(UserError, match="batch_size=0"):
        evaluation_iterator(store, ROWS[:3], cutter, batch_size=0)
    with pytest.raises(ValueError, match="1000 samples; expected one of 5 s"):
        training_iterator(store, ROWS[:3], seconds=5, batch_size=2, seed=0, epochs=1, cutter=cutter)
    with pytest.raises(ValueError, match="other rows"):
        evaluation_iterator(store, ROWS, cutter, batch_size=2)
    with pytest.raises(UserError, match="multiple of the 3 processes"):
        plan(process_count=3)


@given(st.integers(0, 2**40), st.booleans())
def test_fixed_crops_stay_whatever_else_is_trained_on(seed: int, last_start: bool) -> None:
    fixed = plan(seed=seed, crops="fixed", last_start=last_start)
    fewer = BatchPlan(
        np.array(LONG_ENOUGH[::2]), np.array(LENGTHS), window=1000, batch_size=2, seed=seed, epochs=3, crops="fixed",
        last_start=last_start,
    )  # fmt: skip
    starts: dict[int, set[int]] = {}
    for source in (fixed, fewer):
        for i in range(len(source)):
            for record, start in zip(source[i]["record"].tolist(), source[i]["start"].tolist(), strict=True):
                starts.setdefault(record, set()).add(start)
                assert 0 <= start <= LENGTHS[record] - 1000
    assert all(len(found) == 1 for found in starts.values())
    assert [equal({"r": fixed[i]["record"]}, {"r": plan(seed=seed)[i]["record"]}) for i in range(3)] == [True] * 3


def test_fixed_crops_are_drawn_by_the_seed() -> None:
    def starts(seed: int) -> list[int]:
        batches = plan(seed=seed, crops="fixed", epochs=1, batch_size=len(LONG_ENOUGH))[0]
        return batches["start"][np.argsort(batches["record"])].tolist()

    assert starts(0) == starts(0) != starts(1)
    with pytest.raises(UserError, match="crops='fixd'; expected 'random' or 'fixed'"):
        plan(crops="fixd")
