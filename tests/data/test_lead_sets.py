"""Named sets of leads and what stands for the others, against the textbook and plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.lead_moments import training_moments
from ecgjax.data.lead_sets import SETS, deriving, explained, lead_set, nearest, repeating, zeroing
from ecgjax.data.leads import CANONICAL
from ecgjax.data.recording import Recording
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError

SUBSETS = st.sets(st.sampled_from(CANONICAL), min_size=1).map(lambda found: [x for x in CANONICAL if x in found])


def _heart(rng, samples=400):
    """Twelve leads of a dipole seen by any torso: eight independent, four by the textbook's rules."""
    one, two, *chest = (rng.standard_normal((8, 3)) @ rng.standard_normal((3, samples))) + 0.1 * rng.standard_normal(
        (8, samples)
    )
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *chest], axis=1)


def _moments(x):
    return x.T @ x / len(x)


@pytest.mark.parametrize(
    ("text", "leads"),
    [("12", CANONICAL), ("6", CANONICAL[:6]), ("3", ("I", "II", "V2")), ("2", ("I", "II")), ("I", ("I",)),
     ("V2", ("V2",)), ("v5, avr,I", ("I", "aVR", "V5"))],
)  # fmt: skip
def test_sets_by_name(text, leads):
    assert lead_set(text) == leads


@pytest.mark.parametrize("text", ["", "5", "I,,II", "I,I", "V7", "limb"])
def test_unknown_sets_are_refused_with_the_choices(text):
    with pytest.raises(UserError, match=r"expected one of 12, 6, 4, 3, 2 .*I, II, III"):
        lead_set(text)


@settings(max_examples=40, deadline=None)
@given(SUBSETS, st.sampled_from(["zero", "repeat", "derive"]))
def test_available_leads_are_untouched(available, policy):
    x = _heart(np.random.default_rng(0))
    matrix = {"zero": zeroing, "repeat": repeating, "derive": lambda a: deriving(a, _moments(x))}[policy](available)
    columns = [CANONICAL.index(lead) for lead in available]
    np.testing.assert_array_equal((x @ matrix)[:, columns], x[:, columns])


def test_zero_leaves_zeros():
    x = _heart(np.random.default_rng(1))
    expected = x.copy()
    expected[:, 1:] = 0
    np.testing.assert_array_equal(x @ zeroing(["I"]), expected)


def test_repeat_copies_the_nearest():
    # One lead is repeated to all; of two, each of the others takes one of them, by the directions of Dower's leads.
    x = _heart(np.random.default_rng(2))
    np.testing.assert_array_equal(x @ repeating(["V2"]), np.repeat(x[:, [7]], 12, axis=1))
    found = nearest(["I", "II", "V2"])
    assert found == {
        "I": "I", "II": "II", "III": "II", "aVR": "V2", "aVL": "I", "aVF": "II",
        "V1": "V2", "V2": "V2", "V3": "V2", "V4": "I", "V5": "I", "V6": "I",
    }  # fmt: skip
    taken = [CANONICAL.index(found[lead]) for lead in CANONICAL]
    np.testing.assert_array_equal(x @ repeating(["I", "II", "V2"]), x[:, taken])


@pytest.mark.parametrize("pair", [("I", "II"), ("II", "III"), ("aVR", "aVL"), ("I", "aVF")])
def test_limb_leads_follow_exactly_from_any_two(pair):
    x = _heart(np.random.default_rng(3))
    # Moments that say something else: what Einthoven and Goldberger say is not fitted.
    wrong = _moments(np.random.default_rng(4).standard_normal((50, 12)))
    one, two, three, avr, avl, avf = (x @ deriving(pair, wrong))[:, :6].T
    np.testing.assert_allclose((one, two), x[:, :2].T, atol=1e-12)
    np.testing.assert_allclose(one + three, two, atol=1e-12)
    np.testing.assert_allclose((avr, avl, avf), (-(one + two) / 2, (one - three) / 2, (two + three) / 2), atol=1e-12)


def test_other_leads_are_least_squares_of_the_available_ones():
    x = _heart(np.random.default_rng(5))
    matrix = deriving(["I", "II", "V2"], _moments(x))
    expected, *_ = np.linalg.lstsq(x[:, [0, 1, 7]], x[:, [6, 8, 9, 10, 11]], rcond=None)
    np.testing.assert_allclose(matrix[[0, 1, 7]][:, [6, 8, 9, 10, 11]], expected, atol=1e-5)
    shares = explained(matrix, _moments(x))
    left = ((x - x @ matrix) ** 2).mean(0) / (x**2).mean(0)
    np.testing.assert_allclose(shares, 1 - left, atol=1e-9)
    assert shares[2] == pytest.approx(1.0)
    assert shares[8] < 1


def test_six_limb_leads_are_two():
    # Of dependent leads with a digitiser's rounding, no coefficient explodes.
    x = np.round(_heart(np.random.default_rng(6)) * 200) / 200
    matrix = deriving(SETS["6"], _moments(x))
    by_two = deriving(["I", "II"], _moments(x))
    assert np.abs(matrix).max() < 10
    np.testing.assert_allclose((x @ matrix)[:, 6:], (x @ by_two)[:, 6:], atol=0.05)


def test_moments_are_those_of_the_training_folds(tmp_path):
    rng = np.random.default_rng(7)
    signals = [np.round(_heart(rng, 50) * 100) / 100 + k for k in range(5)]
    signals[1][3, 4] = np.nan
    with StoreWriter(tmp_path / "store", source="test", sampling_rate=100.0) as writer:
        for k, signal in enumerate(signals):
            recording = Recording(f"r{k}", signal.astype(np.float32), 100.0, microvolt_per_bit=5.0)
            writer.add(recording, patient_id=f"p{k}", fold=k)
        writer.finish({})
    found = training_moments(open_store(tmp_path / "store"))
    kept = [signal[~np.isnan(signal).any(1)] for signal in signals[:3]]  # the folds above test and validate
    centred = np.concatenate([signal - signal.mean(0) for signal in kept])
    assert found.records == 3
    np.testing.assert_allclose(found.products, _moments(centred), rtol=1e-4, atol=1e-3)
    assert training_moments(open_store(tmp_path / "store"), most=2).records == 2
