"""A condition as a program: which records, which leads, in which order; and that it is a function of the record."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.data import conditions
from ecgjax.data.batches import evaluation_iterator, training_iterator
from ecgjax.data.conditions import Condition, conditioner, parse
from ecgjax.data.cutter import make_cutter
from ecgjax.data.lead_moments import training_moments
from ecgjax.data.lead_sets import deriving
from ecgjax.data.leads import CANONICAL
from ecgjax.data.recording import Recording
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError

NOISY = {"baseline_wander": 3.0, "powerline": 6.0, "electrode_motion": 0.0, "missing": 0.2, "swap": "RA/LA"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twelve records of 4 to 6 s in six folds."""
    path = tmp_path_factory.mktemp("conditions") / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(path, source="test", sampling_rate=100.0) as writer:
        for k in range(12):
            signal = rng.standard_normal((400 + 20 * k, 12)).astype(np.float32)
            writer.add(Recording(f"r{k}", signal, 100.0), patient_id=f"p{k}", fold=k // 2)
        writer.finish({})
    return open_store(path)


def _cutter(store, rate=50.0, seconds=2.0, **signal):
    condition = parse(signal)
    moments = training_moments(store) if condition.policy == "derive" else None
    program = conditioner(condition, store, moments)
    return make_cutter(store, np.arange(12), seconds=seconds, sampling_rate=rate, condition=program)


_program = jax.jit(lambda cutter, item: cutter(item))


def _cut(cutter, record, start, **more):
    """Crops of a batch, which is filled up to 24: one compilation for all numbers of records."""
    item = {"record": record, "start": start, **more}
    filled = {name: jnp.asarray(np.resize(np.asarray(value, np.int32), 24)) for name, value in item.items()}
    return np.asarray(_program(cutter, filled))[: len(record)]


def test_by_default_nothing_is_done(store):
    assert parse({}) == Condition()
    assert parse({}).plain
    assert parse({}).canonical() == {}
    assert _cutter(store).condition is None
    # What has no effect is not part of what a condition is.
    assert parse({"policy": "repeat", "mains": 60.0, "seed": 3, "disturbed": "all"}).canonical() == {}


def test_records_of_the_test_fold_are_disturbed(store):
    clean = _cut(_cutter(store), np.arange(12), np.zeros(12))
    for where, first in (("test", 10), ("all", 0)):
        found = _cut(_cutter(store, **NOISY, disturbed=where), np.arange(12), np.zeros(12))
        np.testing.assert_array_equal(found[:first], clean[:first])
        assert (np.abs(found[first:] - clean[first:]).max((1, 2)) > 0.1).all()


def test_training_pays_nothing_for_what_is_in_test(store):
    cutter, plain = _cutter(store, **NOISY, disturbed="test"), _cutter(store)
    item = {"record": jnp.arange(24), "start": jnp.zeros(24, jnp.int32)}
    marked = {**item, "epoch": jnp.zeros(24, jnp.int32)}
    without, training, evaluation = (
        _program.lower(*pair).as_text() for pair in ((plain, item), (cutter, marked), (cutter, item))
    )
    assert "sine" in evaluation
    assert "sine" not in training
    assert "threefry" not in training
    assert len(training) < 1.2 * len(without)


def test_noise_is_a_function_of_the_record(store):
    cutter = _cutter(store, **NOISY, disturbed="all")
    record, start = np.repeat(np.arange(12), 2), np.tile([0, 200], 12)
    whole = _cut(cutter, record, start)
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_allclose(_cut(cutter, record[order], start[order]), whole[order], atol=1e-5)
    np.testing.assert_allclose(_cut(cutter, record[5:6], start[5:6]), whole[5:6], atol=1e-5)
    other = _cut(_cutter(store, **NOISY, disturbed="all", seed=1), record, start)
    assert (np.abs(other - whole).max((1, 2)) > 0.1).all()


def test_models_of_other_windows_and_rates_see_the_same_noise(store):
    signal = {"baseline_wander": -40.0, "disturbed": "all"}  # so that the noise is all there is
    short, long = (_cut(_cutter(store, rate, seconds, **signal), [3], [0]) for rate, seconds in ((100.0, 2), (50.0, 4)))
    # Their scales differ, as each window has its own signal.
    a, b = short[0, ::2], long[0, :100]
    gain = (a * b).sum(0) / (b * b).sum(0)
    np.testing.assert_allclose(a, b * gain, atol=0.1 * np.abs(a).max())


def test_order_of_what_is_done(store):
    """Swap, noise of the swapped leads' ratio, gap, then the leads that are there, checked one by one."""
    clean = _cut(_cutter(store), [10, 11], [0, 0])
    one, two = np.moveaxis(clean[..., :2], -1, 0)
    # The store's random leads obey no law: swapped leads are computed from I and II.
    limb = [-one, two - one, two, one - two / 2, -(one + two) / 2, two - one / 2]
    swapped = np.concatenate([np.stack(limb, -1), clean[..., 6:]], -1)
    np.testing.assert_allclose(_cut(_cutter(store, swap="RA/LA"), [10, 11], [0, 0]), swapped, atol=1e-5)
    noisy = _cut(_cutter(store, swap="RA/LA", powerline=0.0), [10, 11], [0, 0])
    np.testing.assert_allclose(noisy, swapped, atol=1e-5)  # at 50 Hz a model sees no hum
    noisy = _cut(_cutter(store, swap="RA/LA", baseline_wander=0.0), [10, 11], [0, 0])
    ratio = swapped[..., [0, 7]].var(1) / ((noisy - swapped)[..., [0, 7]] ** 2).mean(1)
    np.testing.assert_allclose(ratio, 1, rtol=1e-4)
    found = _cut(_cutter(store, swap="RA/LA", baseline_wander=0.0, missing=0.3, leads="I,V2"), [10, 11], [0, 0])
    assert not np.delete(found, [0, 7], axis=-1).any()
    lost = (found == 0).all(-1)
    assert (lost.sum(1) == 30).all()
    np.testing.assert_allclose(found[~lost][:, [0, 7]], noisy[~lost][:, [0, 7]], atol=1e-5)


@pytest.mark.parametrize("policy", ["zero", "repeat", "derive"])
def test_policies_apply_to_all_splits(store, policy):
    clean = _cut(_cutter(store), np.arange(12), np.zeros(12))
    found = _cut(_cutter(store, leads="2", policy=policy), np.arange(12), np.zeros(12))
    np.testing.assert_array_equal(found[..., :2], clean[..., :2])
    moments = training_moments(store)
    matrix = conditions.lead_matrix(parse({"leads": "2", "policy": policy}), moments)
    if policy == "derive":
        np.testing.assert_array_equal(matrix, deriving(["I", "II"], moments.products))
    np.testing.assert_allclose(found, clean @ matrix, atol=1e-5)


def test_dropout_draws_leads_in_training_only(store):
    cutter = _cutter(store, leads="I", policy="dropout")
    rows = np.arange(8)
    options = {"seconds": 2.0, "batch_size": 8, "cutter": cutter, "seed": 0}
    batches, _ = training_iterator(store, rows, epochs=3, **options)
    sets = {}
    for item in batches:
        x = _cut(cutter, item["record"], item["start"], epoch=item["epoch"])
        for record, epoch, crop in zip(item["record"], item["epoch"], x, strict=True):
            sets[int(record), int(epoch)] = tuple(crop.any(0))
            clean = _cut(_cutter(store), [record], item["start"][item["record"] == record])[0]
            np.testing.assert_allclose(crop, np.where(crop.any(0), clean, 0), atol=1e-5)
    assert len(sets) == 24
    assert all(any(leads) for leads in sets.values())
    assert len(set(sets.values())) > 12  # of records and epochs
    for item in evaluation_iterator(store, np.arange(8, 12), cutter, batch_size=4):
        x = _cut(cutter, item["record"], item["start"])
        assert x[..., 0].any()
        assert not x[..., 1:].any()


def test_dropout_draws_every_number_of_leads():
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(2400))
    drawn = np.asarray(jax.vmap(conditions._random_leads)(keys, jnp.zeros(2400, jnp.int32)))
    counts = np.bincount(drawn.sum(1), minlength=13)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 200) < 60).all()
    np.testing.assert_allclose(drawn.mean(0), 6.5 / 12, atol=0.05)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ({"leads": "9"}, "config.signal.leads '9'; expected one of 12, 6"),
        ({"policy": "mean"}, "config.signal.policy is 'mean'; expected one of zero, repeat, derive, dropout"),
        ({"swap": "RL/LA"}, "config.signal.swap 'RL/LA'; expected two of RA"),
        ({"mains": 55.0}, "config.signal.mains is 55.0; expected one of 50, 60"),
        ({"disturbed": "train"}, "config.signal.disturbed is 'train'; expected one of test, all"),
        ({"powerline": float("nan")}, "config.signal.powerline is nan; expected a signal-to-noise ratio"),
        ({"missing": 1.0}, "config.signal.missing is 1.0; expected a share"),
        ({"seed": -1}, "config.signal.seed is -1; expected 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(signal, message):
    with pytest.raises(UserError, match=message):
        parse(signal)


def test_what_results_say(store):
    moments = training_moments(store)
    assert conditions.describe(parse({"powerline": 10.0}), 120.0) == {
        "powerline": 10.0, "mains": 50.0, "disturbed": "test", "seed": 0, "hum_frequencies": [50.0],
    }  # fmt: skip
    found = conditions.describe(parse({"leads": "I", "policy": "derive"}), 120.0, moments)
    assert (found["leads"], found["policy"], found["derivation"]["records"]) == (["I"], "derive", 8)
    assert np.shape(found["derivation"]["matrix"]) == (12, 12)
    assert list(found["derivation"]["explained"]) == list(CANONICAL)
    condition = parse({"leads": "I", "baseline_wander": 10.0, "swap": "RA/LA", "missing": 0.1, "policy": "repeat"})
    assert conditions.words(condition, 50.0) == (
        "leads I, the others repeat the nearest; RA/LA swapped, baseline wander at 10 dB, 10 % lost in test"
    )
    assert conditions.words(parse({"powerline": 6.0, "disturbed": "all"}), 50.0) == (
        "powerline at 6 dB in all splits; the power line is not seen at up to 100 samples a second: it changes nothing"
    )
