"""Synthetic labelled 12-lead ECGs: what everything in ecgjax can be tried on without any data.

**Synthetic**: a simulated dipole in a simulated torso (`ecgjax.data.simulation`), drawn from distributions chosen by
hand. Scores on it compare code paths and settings; they say nothing about patients.

Conditions combine as they do in people (atrial fibrillation with right bundle branch block, bradycardia with
first-degree block), and exclude each other where they must (two rhythms, two blocks). Normal and abnormal ranges touch,
healthy variants imitate disease (incomplete blocks, early repolarisation, sinus arrhythmia), and every recording has
some noise.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from ecgjax.data.simulation import heart as hearts
from ecgjax.data.simulation import rhythm as rhythms
from ecgjax.data.simulation.disturbance import disturbance
from ecgjax.data.simulation.heart import Heart

DESCRIPTIONS = {
    "NORM": "normal: SR and none of the findings below",
    "SR": "sinus rhythm, 60-100 per minute",
    "SBRAD": "sinus bradycardia, below 60 per minute",
    "STACH": "sinus tachycardia, above 100 per minute",
    "AFIB": "atrial fibrillation: no P, irregularly irregular",
    "1AVB": "first-degree AV block, PR above 200 ms",
    "CLBBB": "complete left bundle branch block, QRS from 120 ms",
    "CRBBB": "complete right bundle branch block, QRS from 120 ms",
    "PVC": "premature ventricular complexes",
    "STE_ANT": "ST elevation, anterior",
    "STE_INF": "ST elevation, inferior",
    "MUSCLE": "muscle noise",
    "MAINS": "power-line hum",
    "WANDER": "baseline wander",
}
"""What each label means; SCP-ECG codes where there is one."""

CLASSES = tuple(DESCRIPTIONS)
"""Labels a recording can carry."""

LABEL_SETS = {
    "all": CLASSES,
    "rhythm": ("SR", "SBRAD", "STACH", "AFIB"),
    "findings": CLASSES[:11],
    "quality": ("MUSCLE", "MAINS", "WANDER"),
}
_RHYTHMS = ("SR", "SBRAD", "STACH", "AFIB")
_EXCLUDE = (
    _RHYTHMS,
    ("CLBBB", "CRBBB"),
    ("STE_ANT", "STE_INF"),
    ("CLBBB", "STE_ANT"),
    ("CLBBB", "STE_INF"),
    ("AFIB", "1AVB"),
    ("STACH", "1AVB"),
)


@dataclass(frozen=True)
class Annotations:
    """What is true of a synthetic recording.

    Attributes:
        labels: members of `CLASSES`.
        beats: onset of every QRS in the recording (s from the first sample).
        ectopic: which of them are premature ventricular beats.
        p_onsets: onset of the P waves in the recording (s); empty in atrial fibrillation.
        heart_rate: of the underlying rhythm (per minute).
        pr: PR interval (ms), NaN in atrial fibrillation.
        qrs: duration of conducted QRS complexes (ms).
        qt: QT interval at the mean rate (ms).
    """

    labels: tuple[str, ...]
    beats: np.ndarray
    ectopic: np.ndarray
    p_onsets: np.ndarray
    heart_rate: float
    pr: float
    qrs: float
    qt: float


def complete(conditions: Iterable[str]) -> tuple[str, ...]:
    """All labels of a recording with these conditions: adds SR and NORM where they follow.

    Raises:
        ValueError: an unknown condition, or two that exclude each other.
    """
    labels = set(conditions)
    if unknown := labels - set(CLASSES):
        raise ValueError(f"unknown condition {sorted(unknown)[0]!r}; expected some of {', '.join(CLASSES)}")
    for group in _EXCLUDE:
        if len(both := [name for name in group if name in labels]) > 1:
            raise ValueError(f"conditions {' and '.join(both)} exclude each other")
    if not labels & set(_RHYTHMS):
        labels.add("SR")
    healthy = labels <= {"NORM", "SR", *LABEL_SETS["quality"]}
    if "NORM" in labels and not healthy:
        raise ValueError(f"condition NORM excludes {sorted(labels - {'NORM', 'SR'})[0]}")
    return tuple(name for name in CLASSES if name in labels or (name == "NORM" and healthy))


def draw_chronic(rng: np.random.Generator) -> tuple[str, ...]:
    """What one patient has in every recording."""
    chronic = []
    if rng.random() < 0.13:
        chronic.append("AFIB")
    elif rng.random() < 0.13:
        chronic.append("1AVB")
    if rng.random() < 0.24:
        chronic.append(str(rng.choice(["CLBBB", "CRBBB"])))
    return tuple(chronic)


def draw_conditions(rng: np.random.Generator, chronic: Collection[str] = ()) -> tuple[str, ...]:
    """Labels of one recording: the patient's chronic conditions and what happens on the day."""
    found = set(chronic)
    if "AFIB" not in found:
        rates = ["SR", "SBRAD"] if "1AVB" in found else ["SR", "SBRAD", "STACH"]
        found.add(str(rng.choice(rates, p=[0.78, 0.22] if len(rates) == 2 else [0.66, 0.18, 0.16])))
    if rng.random() < 0.17:
        found.add("PVC")
    if "CLBBB" not in found and rng.random() < 0.20:
        found.add(str(rng.choice(["STE_ANT", "STE_INF"])))
    found.update(
        name for name, chance in (("MUSCLE", 0.16), ("MAINS", 0.14), ("WANDER", 0.18)) if rng.random() < chance
    )
    return complete(found)


def synthesize(
    conditions: Iterable[str],
    rng: np.random.Generator,
    sampling_rate: float = 500.0,
    seconds: float = 10.0,
    heart: Heart | None = None,
) -> tuple[np.ndarray, Annotations]:
    """One synthetic recording.

    Args:
        conditions: members of `CLASSES`; empty means normal.
        rng: all randomness; the same state gives the same recording.
        sampling_rate: Hz.
        seconds: length.
        heart: the patient; drawn when not given.

    Returns:
        The signal, (samples, 12) float32 in mV, canonical leads; and what is true of it.

    Raises:
        ValueError: an unknown condition, or two that exclude each other.
    """
    labels = complete(conditions)
    heart = hearts.draw_heart(rng) if heart is None else heart
    samples = round(seconds * sampling_rate)
    breathing = rng.uniform(0.18, 0.33)
    rhythm = _draw_rhythm(rng, labels, heart, seconds, breathing)
    pr = _pr_interval(rng, labels, heart, rhythm.mean_rr)
    lobes, qrs, qt = _lobes(rng, labels, heart, rhythm, pr)
    dipole = hearts.trace(lobes, samples, sampling_rate)
    if "AFIB" in labels:
        dipole += _f_waves(rng, samples, sampling_rate, heart)
    dipole = _breathe(rng, dipole, sampling_rate, breathing)
    noise = disturbance(
        rng,
        samples,
        sampling_rate,
        muscle=rng.uniform(0.016, 0.060) if "MUSCLE" in labels else rng.uniform(0.004, 0.018),
        mains=rng.uniform(0.014, 0.080) if "MAINS" in labels else rng.uniform(0.0, 0.010),
        wander=rng.uniform(0.11, 0.42) if "WANDER" in labels else rng.uniform(0.01, 0.09),
        breathing=breathing,
    )
    inside = (rhythm.times >= 0) & (rhythm.times < seconds)
    p_onsets = rhythm.sinus - pr if "AFIB" not in labels else np.zeros(0)
    annotations = Annotations(
        labels=labels,
        beats=rhythm.times[inside],
        ectopic=rhythm.ectopic[inside],
        p_onsets=p_onsets[(p_onsets >= 0) & (p_onsets < seconds)],
        heart_rate=60.0 / rhythm.mean_rr,
        pr=1000.0 * pr,
        qrs=1000.0 * qrs,
        qt=1000.0 * qt,
    )
    return _twelve_leads(dipole @ heart.lead_field.T + noise), annotations


def _draw_rhythm(
    rng: np.random.Generator, labels: Collection[str], heart: Heart, seconds: float, breathing: float
) -> rhythms.Rhythm:
    if "AFIB" in labels:
        rate = float(np.clip(rng.normal(88.0, 22.0), 52.0, 150.0))
        beats = rhythms.fibrillation(rng, rate, seconds)
    else:
        if "SBRAD" in labels:
            rate = float(np.clip(59.0 - rng.gamma(2.0, 4.0), 38.0, 58.8))
        elif "STACH" in labels:
            rate = float(np.clip(101.2 + rng.gamma(1.6, 10.0), 101.2, 155.0))
        else:
            rate = float(np.clip(rng.normal(76.0, 10.5), 61.0, 99.0))
        beats = rhythms.sinus(rng, rate, seconds, breathing)
    count = int(rng.choice([1, 2, 3, 5], p=[0.35, 0.3, 0.2, 0.15])) if "PVC" in labels else 0
    return rhythms.with_premature_beats(rng, beats, seconds, heart.coupling, count, 60.0 / rate)


def _pr_interval(rng: np.random.Generator, labels: Collection[str], heart: Heart, mean_rr: float) -> float:
    if "AFIB" in labels:
        return float("nan")
    if "1AVB" in labels:
        return float(max(heart.long_pr + rng.normal(0.0, 0.004), 0.203))
    return float(np.clip(heart.pr * min(mean_rr, 1.0) ** 0.25 + rng.normal(0.0, 0.004), 0.110, 0.198))


def _lobes(
    rng: np.random.Generator, labels: Collection[str], heart: Heart, rhythm: rhythms.Rhythm, pr: float
) -> tuple[np.ndarray, float, float]:
    block = "left" if "CLBBB" in labels else "right" if "CRBBB" in labels else None
    st = "anterior" if "STE_ANT" in labels else "inferior" if "STE_INF" in labels else None
    # 1 mm and more in at least two neighbouring leads; the territory's lead field is about 1 mV per mV.
    level = (0.09 + min(rng.gamma(1.5, 0.045), 0.25)) * (1.25 if st == "inferior" else 1.0)
    before = np.diff(rhythm.times, prepend=rhythm.times[0] - rhythm.mean_rr)
    # QT follows the rate with a delay: mostly the mean, a little the last interval.
    roots = np.sqrt(0.75 * rhythm.mean_rr + 0.25 * np.clip(before, 0.4 * rhythm.mean_rr, 1.6 * rhythm.mean_rr))
    _, qrs, qt = hearts.ventricular_lobes(heart, block, st, level, float(np.sqrt(rhythm.mean_rr)))
    parts = []
    for time, ectopic, root in zip(rhythm.times, rhythm.ectopic, roots, strict=True):
        make = hearts.ectopic_lobes(heart, root) if ectopic else hearts.ventricular_lobes(heart, block, st, level, root)
        parts.append(_at(make[0], time, rng.normal(1.0, 0.02)))
    if "AFIB" not in labels:
        p = hearts.atrial_lobes(heart)
        parts += [_at(p, time - pr, rng.normal(1.0, 0.05)) for time in rhythm.sinus]
    return np.concatenate(parts), qrs, qt


def _at(lobes: np.ndarray, time: float, gain: float) -> np.ndarray:
    lobes = lobes.copy()
    lobes[:, 0] += time
    lobes[:, 3:] *= gain
    return lobes


def _f_waves(rng: np.random.Generator, samples: int, sampling_rate: float, heart: Heart) -> np.ndarray:
    # A sawtooth whose rate and size drift: Stridh and Sornmo, IEEE TBME 48:105 (2001).
    time = np.arange(samples) / sampling_rate
    drift = np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * time + rng.uniform(0, 2 * np.pi))
    rate = heart.fibrillation_rate * (1.0 + 0.06 * drift + 0.04 * np.sin(2 * np.pi * 1.1 * time))
    phase = 2 * np.pi * np.cumsum(rate) / sampling_rate
    harmonics = np.arange(1, 5)
    phases = rng.uniform(0, 2 * np.pi, 3)[None, :] + np.outer(phase, harmonics[:1])
    vector = np.zeros((samples, 3))
    for n in harmonics:
        vector += np.sin(n * phases) / n**1.2 * (1.0 + 0.35 * np.roll(drift, 211 * n))[:, None]
    return vector * np.abs(heart.fibrillation)


def _breathe(rng: np.random.Generator, dipole: np.ndarray, sampling_rate: float, breathing: float) -> np.ndarray:
    # Breathing turns the heart by a few degrees; to first order that is a cross product with the axis of the turn.
    turn = rng.normal(0.0, np.radians([1.5, 1.5, 3.0]))
    phase = np.sin(2 * np.pi * breathing * np.arange(len(dipole)) / sampling_rate + rng.uniform(0, 2 * np.pi))
    return dipole + phase[:, None] * np.cross(turn, dipole)


def _twelve_leads(eight: np.ndarray) -> np.ndarray:
    one, two = eight[:, :1], eight[:, 1:2]
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([*limbs, eight[:, 2:]], axis=1).astype(np.float32)
