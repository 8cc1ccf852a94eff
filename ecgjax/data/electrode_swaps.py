"""Electrodes in each other's places: what the twelve leads become, exactly.

The twelve leads determine the potentials of nine electrodes against Wilson's central terminal, (RA + LA + LL) / 3.
A swap permutes the potentials, and leads are taken again as the recorder takes them, with the terminal of the permuted
limb electrodes. The right leg is a recorder's reference, whose potential no lead shows: swaps with it are not exact,
and are not offered.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgjax.data.lead_sets import INDEPENDENT, limb_coefficients
from ecgjax.data.leads import CANONICAL
from ecgjax.errors import UserError

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")


def independent_from_electrodes() -> NDArray[np.float64]:
    """(9, 8): leads I, II, V1-V6 from potentials against any reference, `potentials @ matrix`."""
    matrix = np.zeros((9, 8))
    matrix[[0, 1], 0] = -1.0, 1.0
    matrix[[0, 2], 1] = -1.0, 1.0
    matrix[:3, 2:] = -1.0 / 3.0
    matrix[3:, 2:] = np.eye(6)
    return matrix


def electrodes_from_leads() -> NDArray[np.float64]:
    """(12, 9): potentials against Wilson's terminal from the leads I, II, V1-V6 among the twelve, `signal @ matrix`."""
    matrix = np.zeros((12, 9))
    # RA + LA + LL = 0 there, I = LA - RA, II = LL - RA.
    matrix[:2, :3] = np.array([[-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]]) / 3.0
    for place, lead in enumerate(INDEPENDENT[2:]):
        matrix[CANONICAL.index(lead), 3 + place] = 1.0
    return matrix


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs of electrodes from "RA/LA" or "RA/LA,V1/V2", in the order in which they are swapped.

    Raises:
        UserError: other electrodes than nine, or one with itself.
    """
    pairs = []
    for part in filter(None, text.split(",")):
        names = tuple({name.lower(): name for name in ELECTRODES}.get(name.strip().lower()) for name in part.split("/"))
        if len(names) != 2 or None in names or names[0] == names[1]:
            raise UserError(
                f"swap {part.strip()!r}; expected two of {', '.join(ELECTRODES)} with a stroke, such as RA/LA "
                "(the right leg's potential is in no lead, so its swaps cannot be computed)"
            )
        pairs.append((str(names[0]), str(names[1])))
    return tuple(pairs)


def swapping(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """(12, 12) matrix M: a recording with these electrodes swapped is `signal @ M`.

    For limb electrodes alone it permutes leads and turns some over; Wilson's terminal, and so the chest leads, stay.

    Args:
        pairs: of electrodes, swapped one after the other.
    """
    order = list(range(9))
    for first, second in pairs:
        a, b = ELECTRODES.index(first), ELECTRODES.index(second)
        order[a], order[b] = order[b], order[a]
    matrix = electrodes_from_leads()[:, order] @ independent_from_electrodes() @ limb_coefficients()
    return np.round(matrix * 18) / 18  # the coefficients are multiples of 1/18: takes off what rounding added
