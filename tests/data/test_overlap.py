"""The same recording in two stores: to the bit, stored otherwise, or only by its name; and others."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax import read_recording
from ecgjax.data import overlap
from ecgjax.data.leads import CANONICAL
from ecgjax.data.overlap import Part
from ecgjax.data.recording import Recording, from_channels
from ecgjax.data.resampling_host import resample_signal
from ecgjax.data.sources import synthetic
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter

REAL = os.environ.get("ECGJAX_REAL")


@pytest.fixture(scope="module")
def hearts():
    """Twelve synthetic ECGs of ten seconds, (5000, 12) mV at 500 Hz."""
    return [synthetic.synthesize((), np.random.default_rng(k))[0].astype(np.float32) for k in range(12)]


def store(path, recordings, source="folder", **options):
    rate = recordings[0].sampling_rate
    with StoreWriter(path, source=source, sampling_rate=rate, **options) as writer:
        for k, recording in enumerate(recordings):
            writer.add(recording, patient_id=recording.id, fold=k % 3)
        writer.finish({})
    return open_store(path)


def whole(*stores):
    return {f"{k}": Part(own, np.arange(len(own))) for k, own in enumerate(stores)}


def find(parts, references):
    index = overlap.Index(references)
    return [match for name, part in parts.items() for match in index.matches(name, part)]


def pairs(matches):
    return {(m.row, m.reference_row): m.by for m in matches}


def test_planted_copies_are_found_and_nothing_else(hearts, tmp_path):
    reference = store(tmp_path / "a", [Recording(f"a{k}", hearts[k], 500.0) for k in range(8)])
    drift = 0.5 * np.sin(2 * np.pi * 0.1 * np.arange(5000) / 500)[:, None]
    order = np.random.default_rng(0).permutation(12)
    permuted = from_channels("p", hearts[2][:, order], [CANONICAL[i] for i in order], 500.0, source="p")
    gains = np.random.default_rng(1).uniform(0.5, 2, 12)  # a gain for each lead
    changed = [
        hearts[0],
        permuted.signal,
        1.7 * hearts[3] + 0.2,
        hearts[4] + drift,
        (hearts[5] * gains).astype(np.float32),
        np.round(hearts[6] / 0.00488) * 0.00488,
        hearts[8],
        -hearts[0],  # upside down: said not to be found
    ]
    other = store(tmp_path / "b", [Recording(f"b{k}", x.astype(np.float32), 500.0) for k, x in enumerate(changed)])
    found = find(whole(other), whole(reference))
    assert pairs(found) == {
        (0, 0): "exact", (1, 2): "exact", (2, 3): "signal", (3, 4): "signal", (4, 5): "signal", (5, 6): "signal",
    }  # fmt: skip
    assert all(match.same and not match.named for match in found)


@pytest.mark.parametrize("rate", [100.0, 240.0, 257.0, 400.0, 1000.0])
def test_copies_at_another_rate_are_found(hearts, tmp_path, rate):
    reference = store(tmp_path / "a", [Recording(f"a{k}", hearts[k], 500.0) for k in range(6)])
    if rate < 500:
        copies = [resample_signal(x, 500.0, rate) for x in hearts[3:9]]
    else:
        copies = [np.repeat(x, 2, axis=0) for x in hearts[3:9]]
    other = store(tmp_path / "b", [Recording(f"b{k}", x, rate) for k, x in enumerate(copies)])
    found = find(whole(other), whole(reference))
    assert pairs(found) == {(0, 3): "signal", (1, 4): "signal", (2, 5): "signal"}
    assert min(match.correlation for match in found) > 0.98


def test_float_and_int_stores_of_one_recording_are_the_same_to_a_microvolt(hearts, tmp_path):
    x = np.round(hearts[0], 3)
    reference = store(tmp_path / "a", [Recording("a", x, 500.0)])
    other = store(tmp_path / "b", [Recording("b", x, 500.0)], dtype="float32")
    assert pairs(find(whole(other), whole(reference))) == {(0, 0): "exact"}


def test_other_lengths_and_flat_records_are_no_copies(hearts, tmp_path):
    flat, missing = np.full((5000, 12), 0.1, np.float32), np.full((5000, 12), np.nan, np.float32)
    only_v6 = np.zeros((5000, 12), np.float32)
    only_v6[:, 11] = hearts[1][:, 11]
    long = np.concatenate([hearts[0], hearts[1]])
    own = [Recording(f"a{k}", x, 500.0) for k, x in enumerate((hearts[0], flat, missing, only_v6))]
    reference = store(tmp_path / "a", own)
    other = store(tmp_path / "b", [Recording(f"b{k}", x, 500.0) for k, x in enumerate((long, flat, missing, only_v6))])
    # Without lead II, I and V2 only the same samples are the same.
    assert pairs(find(whole(other), whole(reference))) == {(3, 3): "exact"}


def test_names_say_what_the_signals_do_not_deny(hearts, tmp_path):
    xl = [Recording(f"0000{k}_hr", hearts[k], 500.0) for k in range(4)]
    cut = Recording("HR00003", hearts[3][:2000], 500.0)  # cannot be compared: the name decides
    denied = Recording("HR00002", hearts[7], 500.0)
    again = Recording("HR00001", 2 * hearts[1], 500.0)
    reference = store(tmp_path / "a", xl, source="ptbxl")
    found = find(whole(store(tmp_path / "b", [again, denied, cut])), whole(reference))
    assert [(m.row, m.reference_row, m.by, m.named, m.same) for m in found] == [
        (0, 1, "signal", True, True), (1, 2, "table", True, False), (2, 3, "table", True, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("ptbxl", "00012_hr"), ("folder", "HR00012"), True),
        (("ptbxl", "00012_hr"), ("ptbxl", "00012_lr"), True),
        (("cpsc2018", "A0012"), ("folder", "A0012"), True),
        (("sph", "A00012"), ("cpsc2018", "A0012"), False),
        (("ningbo", "S23074"), ("folder", "JS23074"), True),
        (("ningbo", "JS10700"), ("folder", "JS10700"), True),
        (("georgia", "E00001"), ("folder", "E00001"), True),
        (("ptb", "s0010_re"), ("folder", "s0010_re"), True),
        (("ptb", "s0010_re"), ("folder", "S0010"), False),
        (("chapman", "MUSE_1"), ("chapman", "MUSE_1"), True),
        (("folder", "patient1"), ("folder", "patient1"), False),
        (("synthetic", "synthetic-00001"), ("synthetic", "synthetic-00001"), False),
        (("code15", "12"), ("mimic", "12"), False),
    ],
)
def test_identities(tmp_path, one, other, same):
    x = np.zeros((10, 12), np.float32)
    stores = [store(tmp_path / f"{k}", [Recording(name, x, 100.0)], of) for k, (of, name) in enumerate((one, other))]
    first, second = (overlap.identity(own, 0) for own in stores)
    assert (first == second) == same


def test_a_record_is_not_a_copy_of_itself_but_of_its_twin(hearts, tmp_path):
    own = store(tmp_path / "a", [Recording(f"a{k}", hearts[k % 3], 500.0) for k in range(4)])
    found = find({"a": Part(own, np.arange(3))}, whole(own))
    assert pairs(found) == {(0, 3): "exact"}


@settings(max_examples=30, deadline=None)
@given(
    gain=st.floats(0.05, 20),
    offset=st.floats(-2, 2),
    rate=st.sampled_from((120.0, 200.0, 333.0)),
    seed=st.integers(0, 99),
)
def test_fingerprints_do_not_depend_on_gain_offset_and_rate(gain, offset, rate, seed):
    rng = np.random.default_rng(seed)
    times, size = np.sort(rng.uniform(0, 6, 9)), rng.uniform(0.5, 1.5, 9)

    def beats(at):
        return (size * np.exp(-(((at[:, None] - times) / 0.05) ** 2))).sum(axis=1).astype(np.float32)

    first = np.repeat(beats(np.arange(3000) / 500)[:, None], 12, axis=1)
    second = np.repeat(beats(np.arange(int(6 * rate)) / rate)[:, None], 12, axis=1) * gain + offset
    one, other = overlap.fingerprint(first, 500.0), overlap.fingerprint(second.astype(np.float32), rate)
    shared = min(len(one), len(other))
    assert abs(len(one) - len(other)) <= 1
    assert one[:shared] @ other[:shared] > 0.99
    assert overlap.correlation(first, 500.0, second, rate) > 0.98


def test_averages_are_those_of_the_samples():
    """Means over 40 ms, half of the first and the last sample counting, minus those of the values around."""
    x = np.random.default_rng(0).standard_normal((501, 2)).astype(np.float32)
    weights = np.array([0.5, 1, 1, 1, 0.5])[:, None] / 4
    means = np.stack([(weights * x[4 * k : 4 * k + 5]).sum(axis=0) for k in range(125)])
    slow = np.stack([means[max(0, k - 12) : k + 13].mean(axis=0) for k in range(125)])
    np.testing.assert_allclose(overlap._averages(x, 100.0, 25.0), means - slow, atol=1e-6)


def test_chunks_and_blocks_do_not_matter(hearts, tmp_path, monkeypatch):
    own = [Recording(f"a{k}", hearts[k], 500.0) for k in range(12)]
    reference, other = store(tmp_path / "a", own), store(tmp_path / "b", own[::-1])
    whole_at_once = find(whole(other), whole(reference))
    monkeypatch.setattr(overlap, "_CHUNK", 5)
    monkeypatch.setattr(overlap, "_BLOCK", 3)
    assert find(whole(other), whole(reference)) == whole_at_once
    assert len(whole_at_once) == 12


@pytest.mark.skipif(not REAL, reason="set ECGJAX_REAL to a folder with genuine recordings")
def test_genuine_records(tmp_path):
    """No two of 40 genuine recordings are near each other but a pair that Georgia has twice; their copies are found."""
    paths = sorted(Path(REAL, "challenge2021").glob("*.hea"))
    recordings = [read_recording(path) for path in paths]
    assert len(recordings) >= 40
    reference = store(tmp_path / "a", recordings)
    copies = [
        Recording(f"copy{k}", (1.3 * resample_signal(np.nan_to_num(x.signal), 500.0, 400.0)).astype(np.float32), 400.0)
        for k, x in enumerate(recordings)
    ]
    twins = {("E07509", "E07510"), ("E07510", "E07509")}
    inside = find(whole(reference), whole(reference))
    assert {(recordings[m.row].id, recordings[m.reference_row].id) for m in inside} == twins
    found = find(whole(store(tmp_path / "b", copies)), whole(reference))
    expected = {(k, k) for k in range(len(recordings))}
    expected |= {
        (i, j)
        for i, a in enumerate(recordings)
        for j, b in enumerate(recordings)
        if (a.id, b.id) in twins
    }  # fmt: skip
    assert set(pairs(found)) == expected
    shutil.rmtree(tmp_path / "b")
