"""What is done to recordings before a model reads them: which leads there are, and what disturbs them.

`Condition` is what configs/evaluate.py asks for under `signal`; `Conditioner` is its program, which a
`ecgjax.data.cutter.Cutter` applies to the crops of a batch, on the device, at the model's sampling rate:

    electrodes swapped -> baseline wander, hum, electrode motion -> a stretch lost -> leads that are not there

Which record it is decides what happens: its fold, whether it is disturbed, and its row, by which noise. So batches may
be put together in any way, features may be cached, and all models are tested under the same noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ecgjax.data import electrode_swaps, lead_sets, noise
from ecgjax.data.lead_moments import Moments
from ecgjax.data.leads import CANONICAL
from ecgjax.data.store import SPLITS, Store, split_of
from ecgjax.errors import UserError

POLICIES = ("zero", "repeat", "derive", "dropout")
_WANDER, _HUM, _MOTION, _GAP, _DROPOUT = range(5)  # streams of random numbers under a record's key
_EXACT = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Condition:
    """What is asked for; the fields of `config.signal`, see configs/evaluate.py.

    Attributes:
        leads: those that are there, in canonical order.
        policy: what stands for the others: "zero", "repeat", "derive" (`ecgjax.data.lead_sets`), or "dropout": zero,
            and training sees another random set of leads in every crop.
        swap: pairs of electrodes.
        baseline_wander, powerline, electrode_motion: dB, None: there is none; see `ecgjax.data.noise`.
        mains: frequency of the power line, Hz.
        missing: share of each crop's time at which all leads are lost.
        disturbed: "test", or "all": which splits swaps, noise and gaps apply to; leads apply to all.
        seed: of noise, gaps and dropout.
    """

    leads: tuple[str, ...] = CANONICAL
    policy: str = "zero"
    swap: tuple[tuple[str, str], ...] = ()
    baseline_wander: float | None = None
    powerline: float | None = None
    mains: float = 50.0
    electrode_motion: float | None = None
    missing: float = 0.0
    disturbed: str = "test"
    seed: int = 0

    @property
    def noises(self) -> dict[str, float]:
        """Signal-to-noise ratio by kind, of those that are there."""
        kinds = ("baseline_wander", "powerline", "electrode_motion")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind) is not None}

    @property
    def disturbs(self) -> bool:
        """Whether there is a swap, noise or a gap."""
        return bool(self.swap or self.noises or self.missing)

    @property
    def plain(self) -> bool:
        """Whether recordings stay as they are."""
        return self.leads == CANONICAL and self.policy != "dropout" and not self.disturbs

    @property
    def derives(self) -> bool:
        """Whether leads are there that are derived from others."""
        return self.policy == "derive" and len(self.leads) < len(CANONICAL)

    @property
    def draws(self) -> bool:
        """Whether training sees a record differently in every epoch."""
        return self.policy == "dropout"

    def canonical(self) -> dict[str, Any]:
        """All that matters, for identities and results.json: equal for equal conditions, empty for a plain one."""
        found: dict[str, Any] = {}
        if len(self.leads) < 12 or self.draws:
            found |= {"leads": list(self.leads), "policy": self.policy}
        if self.disturbs:
            found |= {"swap": ["/".join(pair) for pair in self.swap]} if self.swap else {}
            found |= self.noises
            found |= {"mains": self.mains} if self.powerline is not None else {}
            found |= {"missing": self.missing} if self.missing else {}
            found |= {"disturbed": self.disturbed}
        if self.noises or self.missing or self.draws:
            found["seed"] = self.seed
        return found


PLAIN = Condition()


def parse(signal: Mapping[str, Any]) -> Condition:
    """The condition of `config.signal`; a field that is None, or not there, is as it is by default.

    Raises:
        UserError: a value that cannot be; the field is named.
    """
    given = {field.name: value for field in fields(Condition) if (value := signal.get(field.name)) is not None}
    for name, read in (("leads", lead_sets.lead_set), ("swap", electrode_swaps.parse)):
        try:
            given |= {name: read(given[name])} if name in given else {}
        except UserError as error:
            raise UserError(f"config.signal.{error}") from error
    found = Condition(**given)
    for name, choices in (("policy", POLICIES), ("disturbed", ("test", "all")), ("mains", (50.0, 60.0))):
        if getattr(found, name) not in choices:
            expected = ", ".join(f"{choice:g}" if name == "mains" else str(choice) for choice in choices)
            raise UserError(f"config.signal.{name} is {getattr(found, name)!r}; expected one of {expected}")
    for name, ratio in found.noises.items():
        if not -60 <= ratio <= 100:
            raise UserError(f"config.signal.{name} is {ratio}; expected a signal-to-noise ratio of -60 to 100 dB")
    if not 0 <= found.missing < 1:
        raise UserError(f"config.signal.missing is {found.missing}; expected a share of the time, 0 to below 1")
    if found.seed < 0:
        raise UserError(f"config.signal.seed is {found.seed}; expected 0 or more")
    return found


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("role", "available", "others", "swap", "snr", "missing"),
    meta_fields=("disturbed", "dropout", "mains", "seed"),
)
@dataclass(frozen=True)
class Conditioner:
    """A condition's program for the records of a store; a pytree, part of a `Cutter`.

    Ratios and matrices are data, so that one compiled program serves all of them.

    Attributes:
        role: (records,) int8, index into `SPLITS`.
        available: (12,) bool.
        others: (12, 12) whose columns fill the leads that are not there; None: they are zero.
        swap: (12, 12), or None.
        snr: by kind, () dB.
        missing: () share, or None.
        disturbed: the splits that swap, noise and gaps apply to.
        dropout: whether training sees random leads.
        mains: Hz.
        seed: see `Condition`.
    """

    role: Array
    available: Array
    others: Array | None
    swap: Array | None
    snr: dict[str, Array]
    missing: Array | None
    disturbed: tuple[str, ...]
    dropout: bool
    mains: float
    seed: int

    def __call__(self, x: Array, item: Mapping[str, Any], rate_in: float, rate_out: float) -> Array:
        """Crops (batch, samples, 12) mV under the condition; to be used in `jax.jit`.

        Args:
            x: as they were cut and resampled, without NaN.
            item: its "record" and "start" say whose they are; "epoch" (batch,) marks a batch of training.
            rate_in: of the data, Hz; starts are counted in it.
            rate_out: of `x`, Hz.
        """
        record, training = jnp.asarray(item["record"]), "epoch" in item
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(self.seed)))(record)
        if (self.swap is not None or self.snr or self.missing is not None) and (
            "train" in self.disturbed or not training
        ):
            disturb = partial(self._disturb, rate_in=rate_in, rate_out=rate_out)
            disturbed = jax.vmap(disturb)(x, keys, jnp.asarray(item["start"]))
            if len(self.disturbed) < len(SPLITS):
                chosen = self.role[record] == SPLITS.index("test")
                disturbed = jnp.where(chosen[:, None, None], disturbed, x)
            x = disturbed
        if self.dropout and training:
            drawn = jax.vmap(_random_leads)(keys, jnp.asarray(item["epoch"]))
            return jnp.where(drawn[:, None, :], x, 0.0)
        other = jnp.zeros_like(x) if self.others is None else jnp.matmul(x, self.others, precision=_EXACT)
        return jnp.where(self.available[None, None], x, other)

    def identity(self) -> dict[str, Any]:
        """All that determines what it does to a record of its store, as JSON takes it."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("available", "others", "swap", "missing")}
        return {
            **{name: None if value is None else np.asarray(value).tolist() for name, value in values.items()},
            "snr": {kind: float(ratio) for kind, ratio in self.snr.items()},
            **{name: getattr(self, name) for name in ("disturbed", "dropout", "mains", "seed")},
        }

    def _disturb(self, x: Array, key: Array, start: Array, rate_in: float, rate_out: float) -> Array:
        """One crop (samples, 12)."""
        own = [jax.random.fold_in(key, stream) for stream in range(_DROPOUT)]
        time = start.astype(jnp.float32) / rate_in + jnp.arange(len(x)) / rate_out
        clean = x = x if self.swap is None else jnp.matmul(x, self.swap, precision=_EXACT)
        for kind, ratio in sorted(self.snr.items()):
            if kind == "baseline_wander":
                wave, power = noise.baseline_wander(own[_WANDER], time), None
            elif kind == "powerline":
                wave, power = noise.hum(own[_HUM], time, self.mains, min(rate_in, rate_out) / 2)
            else:
                wave, power = noise.electrode_motion(own[_MOTION], time, len(x) / rate_out), None
            x = x + noise.scaled(clean, wave, ratio, power)
        if self.missing is not None:
            lost = noise.gap(jax.random.fold_in(own[_GAP], start), len(x), self.missing)
            x = jnp.where(lost[:, None], 0.0, x)
        return x


def _random_leads(key: Array, epoch: Array) -> Array:
    """(12,) bool: one to twelve leads, every number equally likely, and every set of one size."""
    drawn = noise.uniform(jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), epoch), 13)
    rank = jnp.argsort(jnp.argsort(drawn[1:]))
    return rank <= jnp.floor(12 * drawn[0])


def conditioner(condition: Condition, store: Store, moments: Moments | None = None) -> Conditioner | None:
    """The program of a condition; None if it changes nothing.

    Args:
        condition: what is asked for.
        store: whose recordings.
        moments: of its training folds, for the policy "derive" (`ecgjax.data.lead_moments.training_moments`).
    """
    if condition.plain:
        return None
    return Conditioner(
        jnp.asarray(split_of(store.records["fold"].to_numpy()), jnp.int8),
        jnp.asarray([lead in condition.leads for lead in CANONICAL]),
        _constant(lead_matrix(condition, moments)) if condition.policy in ("repeat", "derive") else None,
        _constant(electrode_swaps.swapping(condition.swap)) if condition.swap else None,
        {kind: jnp.float32(ratio) for kind, ratio in condition.noises.items()},
        jnp.float32(condition.missing) if condition.missing else None,
        tuple(SPLITS) if condition.disturbed == "all" else ("test",),
        condition.draws,
        condition.mains,
        condition.seed,
    )


def lead_matrix(condition: Condition, moments: Moments | None = None) -> np.ndarray:
    """(12, 12): what the policy makes of leads, outside of training with dropout."""
    if condition.policy == "repeat":
        return lead_sets.repeating(condition.leads)
    if condition.policy == "derive":
        if moments is None:
            raise ValueError("policy derive without moments of the training folds")
        return lead_sets.deriving(condition.leads, moments.products)
    return lead_sets.zeroing(condition.leads)


def describe(condition: Condition, nyquist: float, moments: Moments | None = None) -> dict[str, Any]:
    """What results.json says of a condition that is not plain: `Condition.canonical`, with what follows from it."""
    found = condition.canonical()
    if condition.powerline is not None:
        found["hum_frequencies"] = noise.hum_frequencies(condition.mains, nyquist)
    if condition.policy == "derive" and moments is not None and len(condition.leads) < 12:
        matrix = lead_matrix(condition, moments)
        found["derivation"] = {
            "records": moments.records,
            "matrix": matrix.tolist(),
            "explained": dict(zip(CANONICAL, lead_sets.explained(matrix, moments.products), strict=True)),
        }
    return found


def words(condition: Condition, nyquist: float) -> str:
    """A condition that is not plain in words, e.g. "leads I, II, the others zero; powerline at 10 dB in test".

    Args:
        condition: what is asked for.
        nyquist: half of the lower of the data's and the model's sampling rate, Hz.
    """
    others = {"zero": "the others zero", "repeat": "the others repeat the nearest", "derive": "the others derived"}
    parts = []
    if len(condition.leads) < 12:
        parts.append(f"leads {', '.join(condition.leads)}, {others.get(condition.policy, others['zero'])}")
    if condition.draws:
        parts.append("random leads in training")
    disturbances = [f"{'/'.join(pair)} swapped" for pair in condition.swap]
    disturbances += [f"{kind.replace('_', ' ')} at {ratio:g} dB" for kind, ratio in condition.noises.items()]
    disturbances += [f"{100 * condition.missing:g} % lost"] if condition.missing else []
    if disturbances:
        where = "in test" if condition.disturbed == "test" else "in all splits"
        parts.append(f"{', '.join(disturbances)} {where}")
    if condition.powerline is not None and not noise.hum_frequencies(condition.mains, nyquist):
        parts.append(
            f"the power line is not seen at up to {2 * condition.mains:g} samples a second: it changes nothing"
        )
    return "; ".join(parts)


def _constant(matrix: np.ndarray) -> Array:
    return jnp.asarray(matrix, jnp.float32)
