"""One ECG as read from a file: canonical leads, millivolts, and what the file says about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecgjax.data.leads import CANONICAL, canonical_name, derivation, to_canonical
from ecgjax.errors import UserError


@dataclass(frozen=True)
class Recording:
    """One ECG.

    Attributes:
        id: name of the record, by default of its file.
        signal: (samples, 12) float32, mV, leads as `ecgjax.data.leads.CANONICAL`. NaN where the source holds no value;
            missing leads are zero.
        sampling_rate: Hz.
        metadata: what the file says: `age` (years), `sex` ("male", "female"), `diagnoses`, `statements`,
            `measurements`, `other_leads` ... as far as it does.
        derived: leads computed from other limb leads.
        missing: leads that are absent and cannot be derived.
        microvolt_per_bit: step of the digitiser if all leads are multiples of it, else None.
    """

    id: str
    signal: np.ndarray
    sampling_rate: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    microvolt_per_bit: float | None = None

    @property
    def present(self) -> tuple[str, ...]:
        """Leads that were recorded."""
        return tuple(lead for lead in CANONICAL if lead not in self.derived and lead not in self.missing)

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.signal) / self.sampling_rate


def from_channels(
    id: str,
    signal: np.ndarray,
    names: Sequence[str],
    sampling_rate: float,
    *,
    source: object,
    steps: Sequence[float | None] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Recording:
    """Makes a recording of channels as a file holds them.

    Args:
        id: name of the record.
        signal: (samples, channels) floating, mV.
        names: lead name per channel; others than the twelve go to `metadata["other_leads"]`.
        sampling_rate: Hz.
        source: what to name in an error.
        steps: microvolts per bit of each channel, None where a channel is not made of multiples of one.
        metadata: what the file says.

    Raises:
        UserError: no samples, an impossible rate, infinite values, a lead twice or none of the twelve.
    """
    if not (np.isfinite(sampling_rate) and sampling_rate > 0):
        raise UserError(f"{source}: sampling rate {sampling_rate} Hz; expected a positive number")
    if len(signal) == 0:
        raise UserError(f"{source}: the signal has no samples")
    with np.errstate(over="ignore"):
        canonical, derived, missing = to_canonical(signal, names, source=source)
    if np.isinf(canonical).any():
        raise UserError(f"{source}: infinite values in the signal; expected millivolts (is the gain right?)")
    others = [name for name in names if canonical_name(name) is None]
    by_lead = {
        lead: step
        for name, step in zip(names, steps or [None] * len(names), strict=True)
        if (lead := canonical_name(name))
    }
    return Recording(
        id=id,
        signal=canonical,
        sampling_rate=float(sampling_rate),
        metadata={**(metadata or {}), **({"other_leads": others} if others else {})},
        derived=derived,
        missing=missing,
        microvolt_per_bit=_common_step(by_lead),
    )


def _common_step(by_lead: Mapping[str, float | None]) -> float | None:
    """The step of which all leads, also derived ones, are whole multiples; None if there is none."""
    steps = {lead: step for lead, step in by_lead.items() if step is not None and np.isfinite(step) and step > 0}
    if len(steps) < len(by_lead):
        return None
    parts = list(steps.values())
    for terms in derivation(list(steps)).values():
        parts += [weight * steps[lead] for lead, weight in terms.items()]
    # Goldberger's leads halve or quarter the step of the leads that they are computed from.
    for divisor in (1, 2, 4):
        step = min(steps.values()) / divisor
        if all(abs(part / step - round(part / step)) < 1e-6 for part in parts):
            return step
    return None
