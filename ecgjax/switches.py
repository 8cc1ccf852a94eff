"""Where the benchmark's code and what was meant, or is sound, differ: each difference a named switch (docs/audit.md).

`config.protocol` sets all of them, to what is sound ("fixed") or to what the code does ("paper"); a field of
`config.switches` that is not none sets one. Numbers are those of section 9 of the protocol's description.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ecgjax.errors import UserError


class Switches(NamedTuple):
    """Resolved switches, one choice each.

    Attributes:
        undefined_classes: what a class without positives or negatives does to macro averages, on the validation fold,
            on the test fold and in every bootstrap replicate: "skip", or "half" to count it 0.5 (3).
        last_crop_start: of the training windows of a record the last one is "drawn" like any other, or "never" (8).
        missing_samples: in resampling, a missing sample counts as "zero", or with "spread" so does everything that its
            kernel reaches (7).
        rate_groups: learning-rate groups of fine-tuning, "intended" or "published" (1): of ST-MEM and MERL's ViT the
            published ones leave the encoder untrained.
        composite: the regression part of the score that chooses the epoch, of a task with classes and measurements:
            "pooled" over all known entries, or the "mean" of the targets' errors (6). "pooled" in both presets.
    """

    undefined_classes: Literal["skip", "half"]
    last_crop_start: str
    missing_samples: str
    rate_groups: str
    composite: str


CHOICES: dict[str, tuple[str, ...]] = {
    "undefined_classes": ("skip", "half"),
    "last_crop_start": ("drawn", "never"),
    "missing_samples": ("zero", "spread"),
    "rate_groups": ("intended", "published"),
    "composite": ("pooled", "mean"),
}
PRESETS = {
    "fixed": Switches("skip", "drawn", "zero", "intended", "pooled"),
    "paper": Switches("half", "never", "spread", "published", "pooled"),
}


def of(config: Any) -> Switches:
    """The switches of an evaluation's config, or of any object with `protocol` and `switches`.

    Raises:
        UserError: no such protocol, switch or choice.
    """
    return resolve(config.protocol, dict(config.get("switches") or {}))


def resolve(protocol: str, own: Mapping[str, str | None]) -> Switches:
    """A protocol's switches with some of them set.

    Raises:
        UserError: no such protocol, switch or choice.
    """
    if protocol not in PRESETS:
        raise UserError(f"config.protocol is {protocol!r}; expected one of {', '.join(PRESETS)}")
    chosen = {name: choice for name, choice in own.items() if choice is not None}
    for name, choice in chosen.items():
        if name not in CHOICES:
            raise UserError(f"config.switches.{name}: no such switch; expected one of {', '.join(CHOICES)}")
        if choice not in CHOICES[name]:
            raise UserError(f"config.switches.{name} is {choice!r}; expected {' or '.join(CHOICES[name])}")
    found: Any = PRESETS[protocol]._asdict() | chosen
    return Switches(**found)


def name_of(config: Any) -> str:
    """The protocol with the switches that differ from it: "fixed", or "fixed, undefined_classes=half"."""
    found, preset = of(config)._asdict(), PRESETS[config.protocol]._asdict()
    return ", ".join([config.protocol, *(f"{name}={found[name]}" for name in found if found[name] != preset[name])])
