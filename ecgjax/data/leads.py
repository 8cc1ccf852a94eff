"""Leads by name: spellings of the field, and the limb leads that follow from two others."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ecgjax.errors import UserError

CANONICAL = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the columns of every signal in ecgjax."""

_BY_LOWER = {name.lower(): name for name in CANONICAL}

# SCP-ECG (EN 1064) lead numbers, which DICOM writes as 5.6.3-9-n (scheme SCPECG) and ISO 11073 as 2:n (scheme MDC).
_BY_NUMBER = dict(zip((1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), CANONICAL, strict=True))
_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d+)")
_PREFIX = re.compile(r"(?:mdc_ecg_)?lead[ _]*")

# Each limb lead as a combination of I and II: Einthoven's law and Goldberger's augmented leads.
_LIMB = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}


@lru_cache(maxsize=1024)
def canonical_name(name: str) -> str | None:
    """The canonical lead that `name` means, or None.

    Takes any case ("AVR", "avr"), a leading "Lead", what follows a comma or a bracket as comment ("Lead I (Einthoven)",
    "aVR, augmented voltage, right"), `MDC_ECG_LEAD_AVR`, and the codes 5.6.3-9-n and 2:n. Anything more, such as
    "-aVR" or "V1R", is another lead.
    """
    text = name.strip().lower()
    if code := _CODE.fullmatch(text):
        return _BY_NUMBER.get(int(code[1]))
    text = _PREFIX.sub("", re.split(r"[,(]", text, maxsplit=1)[0].strip(), count=1)
    return _BY_LOWER.get(text)


def derivation(present: Sequence[str]) -> dict[str, dict[str, float]]:
    """How the absent limb leads follow from the ones present.

    Args:
        present: canonical names.

    Returns:
        For each limb lead that is absent but determined, its coefficients by lead. Any two limb leads determine the
        other four; I, II and III are preferred, because the augmented leads lose half a step of the digitiser to them.
    """
    basis = [lead for lead in _LIMB if lead in present][:2]
    if len(basis) < 2:
        return {}
    matrix = np.array([_LIMB[lead] for lead in basis]).T
    absent = [lead for lead in _LIMB if lead not in present]
    solved = {lead: np.linalg.solve(matrix, np.array(_LIMB[lead])) for lead in absent}
    # The coefficients are multiples of 1/4 or 1/3; rounding takes off what the solver added.
    return {
        lead: dict(zip(basis, (np.round(values * 12) / 12).tolist(), strict=True)) for lead, values in solved.items()
    }


def to_canonical(
    signal: np.ndarray, names: Sequence[str], *, source: object
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Orders the columns of a signal as `CANONICAL`, deriving the limb leads that can be derived.

    Args:
        signal: (samples, leads), any floating type.
        names: one name per column; columns of other leads than the twelve are left out.
        source: what to name in an error (a file).

    Returns:
        The signal (samples, 12) float32 with zeros for missing leads, the derived leads and the missing leads.

    Raises:
        UserError: a lead is named twice, or none of the twelve is there.
    """
    if signal.ndim != 2 or signal.shape[1] != len(names):
        raise UserError(
            f"{source}: signal of shape {signal.shape} for {len(names)} lead names; expected (samples, {len(names)})"
        )
    column: dict[str, int] = {}
    for i, name in enumerate(names):
        lead = canonical_name(name)
        if lead is None:
            continue
        if lead in column:
            raise UserError(
                f"{source}: lead {lead} is there twice (as {names[column[lead]]!r} and {name!r}); expected once"
            )
        column[lead] = i
    if not column:
        raise UserError(
            f"{source}: none of the leads {', '.join(map(repr, names)) or '(none)'} is one of {', '.join(CANONICAL)}"
        )
    out = np.zeros((len(signal), 12), np.float32)
    for lead, i in column.items():
        out[:, CANONICAL.index(lead)] = signal[:, i]
    rules = derivation(list(column))
    for lead, terms in rules.items():
        out[:, CANONICAL.index(lead)] = sum(
            w * signal[:, column[name]].astype(np.float64) for name, w in terms.items() if w
        )
    missing = tuple(lead for lead in CANONICAL if lead not in column and lead not in rules)
    return out, tuple(rules), missing
