"""Fewer than twelve leads: named sets, and what stands in the columns of the leads that are not there.

Every policy is one (12, 12) matrix M with `signal @ M`, in the order of `CANONICAL`; columns of available leads are
those of the identity:

zero      the others are zero.
repeat    each of the others is a copy of the available lead that looks at the heart from the nearest direction
          (`nearest`), which with one lead is that lead.
derive    limb leads follow from two limb leads exactly (Einthoven, Goldberger); everything else is the linear
          combination of the available leads that fits best in the training folds (`fitted`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgjax.data.leads import CANONICAL, canonical_name, derivation
from ecgjax.data.simulation.heart import LEAD_FIELD
from ecgjax.errors import UserError

SETS: dict[str, tuple[str, ...]] = {
    "12": CANONICAL,
    "6": CANONICAL[:6],
    "4": ("I", "II", "III", "V2"),
    "3": ("I", "II", "V2"),
    "2": ("I", "II"),
}
"""Those of the PhysioNet/Computing in Cardiology Challenge 2021 (Reyna et al., CinC 2021). A single lead is named by
itself: "I" is what a watch records, "V2" one chest lead."""

INDEPENDENT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""What a recorder measures; the other four limb leads follow."""


def lead_set(text: str) -> tuple[str, ...]:
    """The leads of a named set, or of a list such as "I,II,V5", in canonical order.

    Raises:
        UserError: neither; the choices are named.
    """
    if text.strip() in SETS:
        return SETS[text.strip()]
    names = [canonical_name(part) for part in text.split(",")]
    if None in names or len(set(names)) < len(names):
        raise UserError(
            f"leads {text!r}; expected one of {', '.join(SETS)} (numbers of leads), or leads without repetition from "
            f"{', '.join(CANONICAL)}, such as I or I,II,V5"
        )
    return tuple(lead for lead in CANONICAL if lead in names)


def limb_coefficients() -> NDArray[np.float64]:
    """(8, 12): the twelve leads from the independent ones, `signal[:, INDEPENDENT] @ matrix`."""
    matrix = np.zeros((8, 12))
    rules = derivation(["I", "II"])
    for column, lead in enumerate(CANONICAL):
        for name, weight in rules.get(lead, {lead: 1.0}).items():
            matrix[INDEPENDENT.index(name), column] = weight
    return matrix


def nearest(available: Sequence[str]) -> dict[str, str]:
    """For each lead the available one whose direction is nearest; itself where it is available.

    Directions are the twelve leads' vectors in Frank's axes (Dower, Machado, Osborne, Clin Cardiol 3:87, 1980); near
    is a large cosine, so that a lead never stands in for one that sees the opposite where another is there.
    """
    vectors = limb_coefficients().T @ LEAD_FIELD
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    places = [CANONICAL.index(lead) for lead in available]
    return {
        lead: lead if lead in available else CANONICAL[places[int(np.argmax(cosine[i, places]))]]
        for i, lead in enumerate(CANONICAL)
    }


def zeroing(available: Sequence[str]) -> NDArray[np.float64]:
    """M of "zero"."""
    return np.diag([float(lead in available) for lead in CANONICAL])


def repeating(available: Sequence[str]) -> NDArray[np.float64]:
    """M of "repeat"."""
    matrix = np.zeros((12, 12))
    for lead, source in nearest(available).items():
        matrix[CANONICAL.index(source), CANONICAL.index(lead)] = 1.0
    return matrix


def deriving(available: Sequence[str], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """M of "derive".

    Args:
        available: leads.
        moments: (12, 12) mean products of pairs of leads in the training folds (`ecgjax.data.lead_moments`); those
            that follow exactly do not use it.
    """
    places = [CANONICAL.index(lead) for lead in available]
    matrix = zeroing(available)
    matrix[places] += fitted(places, moments)
    for lead, terms in derivation(available).items():
        column = CANONICAL.index(lead)
        matrix[:, column] = 0.0
        for name, weight in terms.items():
            matrix[CANONICAL.index(name), column] = weight
    return matrix


def fitted(places: Sequence[int], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of the other leads on the available ones: (available, 12), zero in the columns of these.

    Limb leads are dependent, so the solution of least norm is taken. Six decimals are kept: more than a digitiser's
    step, and the same on every machine.

    Args:
        places: of the available leads.
        moments: (12, 12) mean products.
    """
    own, others = moments[np.ix_(places, places)], np.array(moments[places])
    # Relative to the strongest lead: below it, three dependent leads differ by rounding of the stored values only.
    solution = np.linalg.pinv(own, rcond=1e-4, hermitian=True) @ others
    solution[:, places] = 0.0
    return np.round(solution, 6)


def explained(matrix: NDArray[np.float64], moments: NDArray[np.float64]) -> list[float | None]:
    """Share of each lead's mean square that its derivation accounts for; None for a lead without any signal.

    Args:
        matrix: M.
        moments: mean products in the records that are asked about.
    """
    # E[(x - xM)^2] of a column is a quadratic form of the moments.
    residual = np.eye(12) - matrix
    left = np.einsum("ij,ik,kj->j", residual, moments, residual)
    power = np.diag(moments)
    return [float(1 - a / b) if b > 0 else None for a, b in zip(left, power, strict=True)]
