"""Leads by name, and limb leads from each other."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgjax.data.leads import CANONICAL, canonical_name, derivation, to_canonical
from ecgjax.data.recording import from_channels
from ecgjax.errors import UserError
from ecgjax.models.encoder import CANONICAL_LEADS

LIMB = CANONICAL[:6]


def test_order_is_the_models():
    assert CANONICAL == CANONICAL_LEADS


@pytest.mark.parametrize(
    ("spelling", "lead"),
    [
        ("I", "I"), ("ii", "II"), ("AVR", "aVR"), ("avl", "aVL"), (" V1 ", "V1"), ("Lead I (Einthoven)", "I"),
        ("lead II", "II"), ("Lead aVR", "aVR"), ("aVF, augmented voltage, foot", "aVF"), ("MDC_ECG_LEAD_AVR", "aVR"),
        ("5.6.3-9-1", "I"), ("5.6.3-9-61", "III"), ("5.6.3-9-64", "aVF"), ("5.6.3-9-3", "V1"), ("2:8", "V6"),
        ("2:62", "aVR"),
        ("-aVR", None), ("V1R", None), ("V7", None), ("vx", None), ("", None), ("2:9", None), ("I II", None),
        ("lead", None),
    ],
)  # fmt: skip
def test_spellings(spelling, lead):
    assert canonical_name(spelling) == lead


def limb_signals(rng, samples=40):
    one, two = rng.normal(size=(2, samples))
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)


@pytest.mark.parametrize("pair", list(combinations(range(6), 2)))
def test_any_two_limb_leads_give_the_others(pair):
    truth = limb_signals(np.random.default_rng(0))
    found, derived, missing = to_canonical(truth[:, pair], [LIMB[i] for i in pair], source="x")
    np.testing.assert_allclose(found[:, :6], truth, atol=1e-6)
    assert set(derived) == set(LIMB) - {LIMB[i] for i in pair}
    assert missing == CANONICAL[6:]
    assert not found[:, 6:].any()


@given(
    st.permutations(range(12)),
    st.sets(st.integers(0, 11), min_size=1),
    hnp.arrays(np.float32, (5, 12), elements=st.floats(-5, 5, width=32)),
)
def test_what_is_there_is_copied_and_the_laws_hold(order, chosen, values):
    columns = [i for i in order if i in chosen]
    found, derived, missing = to_canonical(values[:, columns], [CANONICAL[i].upper() for i in columns], source="x")
    np.testing.assert_array_equal(found[:, columns], values[:, columns])
    assert set(derived) | set(missing) == {CANONICAL[i] for i in range(12) if i not in chosen}
    assert not set(derived) & set(missing)
    n_limb = len([i for i in columns if i < 6])
    assert len(derived) == (6 - n_limb if n_limb >= 2 else 0)
    if n_limb == 2:
        one, two, three, avr, avl, avf = found[:, :6].T
        np.testing.assert_allclose(one + three, two, atol=1e-4)
        np.testing.assert_allclose(avr + avl + avf, 0, atol=1e-4)
        np.testing.assert_allclose(avl, (one - three) / 2, atol=1e-4)


def test_nan_stays_where_it_is_and_reaches_what_follows_from_it():
    signal = limb_signals(np.random.default_rng(0))[:, :2]
    signal[7, 0] = np.nan
    found, _, _ = to_canonical(signal, ["I", "II"], source="x")
    assert np.isnan(found[7, [0, 2, 3, 4, 5]]).all()
    assert not np.isnan(found[7, 1])
    assert np.isnan(found).sum() == 5


def test_a_lead_named_twice_is_refused():
    with pytest.raises(UserError, match=r"rec\.hea: lead aVR is there twice \(as 'AVR' and 'Lead aVR'\)"):
        to_canonical(np.zeros((3, 2)), ["AVR", "Lead aVR"], source="rec.hea")


def test_no_known_lead_is_refused():
    with pytest.raises(UserError, match="rec: none of the leads 'vx', 'MLII'"):
        to_canonical(np.zeros((3, 2)), ["vx", "MLII"], source="rec")


@pytest.mark.parametrize(
    ("names", "steps", "expected"),
    [
        (CANONICAL, [5.0] * 12, 5.0),
        (CANONICAL, [5.0] * 11 + [2.5], 2.5),
        (CANONICAL, [5.0] * 11 + [3.0], None),
        (CANONICAL, [5.0] * 11 + [None], None),
        (("I", "II", "III", "V1"), [5.0] * 4, 2.5),  # Goldberger's halves
        (("I", "II", "aVR", "aVL", "aVF"), [5.0] * 5, 5.0),  # III is a difference
        (("I", "aVF"), [5.0] * 2, 1.25),
        (("aVR", "aVL"), [5.0] * 2, None),  # thirds
    ],
)
def test_common_step(names, steps, expected):
    recording = from_channels("r", np.zeros((3, len(names))), names, 500, source="r", steps=steps)
    assert recording.microvolt_per_bit == expected


@given(st.sets(st.sampled_from(LIMB), min_size=2), st.integers(0, 1000))
def test_signals_are_multiples_of_the_step(present, seed):
    names = [lead for lead in LIMB if lead in present]
    bits = np.random.default_rng(seed).integers(-1000, 1000, size=(20, 6))
    recording = from_channels("r", bits[:, : len(names)] * 0.005, names, 500, source="r", steps=[5.0] * len(names))
    if recording.microvolt_per_bit:
        multiples = recording.signal.astype(np.float64) * 1000 / recording.microvolt_per_bit
        np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-3)


def test_derivation_needs_two():
    assert derivation(["aVL", "V1", "V2"]) == {}
