"""Swapped electrodes against potentials that are swapped and measured again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.electrode_swaps import ELECTRODES, parse, swapping
from ecgjax.data.simulation.heart import LEAD_FIELD
from ecgjax.errors import UserError


def _leads(potentials):
    """Twelve leads from nine potentials (electrodes, samples), by their definitions."""
    ra, la, ll, *chest = potentials
    wilson = (ra + la + ll) / 3
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    return np.stack([*limb, *(v - wilson for v in chest)], axis=1)


def _torso(seed=0):
    """Potentials of the simulated torso's electrodes: Dower's leads of a moving dipole; the reference wanders."""
    rng = np.random.default_rng(seed)
    one, two, *chest = LEAD_FIELD @ rng.standard_normal((3, 200))
    ra = -(one + two) / 3
    return np.stack([ra, one + ra, two + ra, *chest]) + rng.standard_normal(200)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(ELECTRODES), min_size=2, max_size=2, unique=True), min_size=1, max_size=3))
def test_swaps_are_those_of_the_potentials(pairs):
    potentials = _torso()
    swapped = potentials.copy()
    for first, second in pairs:
        places = [ELECTRODES.index(first), ELECTRODES.index(second)]
        swapped[places] = swapped[places[::-1]]
    found = _leads(potentials) @ swapping([tuple(pair) for pair in pairs])
    np.testing.assert_allclose(found, _leads(swapped), atol=1e-9)


def test_arms_swapped_is_what_the_textbook_says():
    one, two, three, avr, avl, avf, *chest = _leads(_torso()).T
    expected = np.stack([-one, three, two, avl, avr, avf, *chest], axis=1)
    np.testing.assert_allclose(_leads(_torso()) @ swapping(parse("ra/la")), expected, atol=1e-12)


def test_pairs_by_name():
    assert parse("RA/LA, V1/V2") == (("RA", "LA"), ("V1", "V2"))
    assert parse("") == ()


@pytest.mark.parametrize("text", ["RA", "RA/RA", "RL/RA", "RA/LA/LL", "V1-V2"])
def test_what_cannot_be_swapped_is_refused(text):
    with pytest.raises(UserError, match="expected two of RA, LA, LL, V1"):
        parse(text)
