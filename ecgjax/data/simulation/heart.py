"""The heart as one moving dipole: lobes of P, QRS, ST and T, and the lead field that turns the dipole into eight leads.

A beat is a sum of asymmetric Gaussian lobes, each with a direction in space (McSharry et al., IEEE TBME 50:289,
2003, in the three-dimensional form of Sameni et al., EURASIP JASP 2007:43407). Because all leads see the same vector,
they agree with each other: a bundle branch block is wide in every lead, reciprocal ST depression follows from
geometry, and Einthoven's and Goldberger's equations hold.

Axes are Frank's: x to the left, y to the feet, z to the back. A lobe is a row (centre s, rise s, fall s, x, y, z mV),
its centre counted from the onset of QRS; rise and fall are the standard deviations before and after the centre.
"""

from dataclasses import dataclass

import numpy as np

# Leads I, II, V1-V6 from Frank's X, Y, Z: Dower, Machado, Osborne, Clin Cardiol 3:87 (1980).
LEAD_FIELD = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)

# Ventricular activation, time and width as fractions of the QRS duration: septum (right, front), apex, free wall of the
# left ventricle, its back, base.
_VENTRICLES = np.array(
    [
        [0.18, 0.070, 0.075, -0.14, -0.02, -0.28],
        [0.36, 0.085, 0.090, 0.38, 0.32, -0.26],
        [0.52, 0.090, 0.095, 0.92, 0.78, 0.28],
        [0.68, 0.090, 0.090, 0.22, 0.20, 0.58],
        [0.84, 0.070, 0.065, -0.12, -0.14, 0.20],
    ]
)
# Left bundle branch block: the septum is crossed from right to left (no septal q), then slowly the left wall.
_LEFT_BLOCK = np.array(
    [
        [0.18, 0.080, 0.090, 0.26, 0.12, 0.04],
        [0.36, 0.120, 0.120, 0.70, 0.40, 0.42],
        [0.62, 0.125, 0.115, 0.74, 0.20, 0.62],
        [0.83, 0.080, 0.075, 0.26, 0.02, 0.26],
    ]
)
_T_DIRECTION = np.array([0.30, 0.24, -0.19])
_RIGHT_WALL = np.array([-0.46, 0.04, -0.50])
_ST_ANTERIOR = np.array([0.12, -0.22, -0.95])
_ST_INFERIOR = np.array([-0.15, 1.00, 0.22])
# Where ectopic beats start decides where they go: outflow tract (down), lateral wall (right, front), apex (up, back).
_ECTOPIC = np.array([[0.25, 1.25, 0.65], [-0.95, 0.35, -0.75], [0.45, -1.05, 0.75]])


@dataclass(frozen=True)
class Heart:
    """What one patient keeps from recording to recording.

    Attributes:
        lead_field: (8, 3) for leads I, II, V1-V6; torso and electrode places differ between patients.
        wall_gain, wall_shift: (5,) and (5, 3) mV, how this patient's ventricular lobes differ from everybody's.
        axis: (3, 3) rotation of the heart in the chest.
        gain: factor on all QRS amplitudes.
        qrs: normal QRS duration (s).
        blocked_qrs: QRS duration with a bundle branch block (s).
        pr: normal PR interval at 60 per minute (s).
        long_pr: PR interval in first-degree block (s).
        p_gain, p_duration: factor on P, and its duration (s).
        qtc: QT at 60 per minute (s); Bazett's rule gives it at other rates.
        t_vector: (3,) mV.
        early_repolarisation: ST elevation (mV, dipole) that is not a sign of disease.
        delay: extra terminal right-ventricular activation (0-1), the rsr' of many healthy people.
        incomplete: "left", "right" or "": a block's pattern with QRS below 120 ms, which is not a complete block.
        incomplete_qrs: QRS duration then (s).
        ectopic: (3,) mV, main direction of ectopic beats; ectopic_qrs: their duration (s); coupling: fraction of RR.
        fibrillation: (3,) mV direction and size of f waves; fibrillation_rate: Hz.
    """

    lead_field: np.ndarray
    wall_gain: np.ndarray
    wall_shift: np.ndarray
    axis: np.ndarray
    gain: float
    qrs: float
    blocked_qrs: float
    pr: float
    long_pr: float
    p_gain: float
    p_duration: float
    qtc: float
    t_vector: np.ndarray
    early_repolarisation: float
    delay: float
    incomplete: str
    incomplete_qrs: float
    ectopic: np.ndarray
    ectopic_qrs: float
    coupling: float
    fibrillation: np.ndarray
    fibrillation_rate: float


def draw_heart(rng: np.random.Generator) -> Heart:
    """A random patient; normal and abnormal ranges meet at the diagnostic limits (PR 200 ms, QRS 120 ms)."""
    return Heart(
        lead_field=LEAD_FIELD * rng.normal(1.0, 0.10, LEAD_FIELD.shape) + rng.normal(0.0, 0.03, LEAD_FIELD.shape),
        wall_gain=rng.normal(1.0, 0.18, 5).clip(0.5),
        wall_shift=rng.normal(0.0, 0.05, (5, 3)),
        axis=_rotation(rng.normal(0.0, np.radians([9.0, 14.0, 20.0]))),
        gain=float(np.exp(rng.normal(-0.12, 0.24))),
        qrs=float(np.clip(rng.normal(0.093, 0.008), 0.076, 0.114)),
        blocked_qrs=float(0.122 + min(rng.gamma(1.8, 0.010), 0.048)),
        pr=float(np.clip(rng.normal(0.160, 0.019), 0.118, 0.196)),
        long_pr=float(0.206 + min(rng.gamma(1.5, 0.025), 0.110)),
        p_gain=float(np.exp(rng.normal(-0.20, 0.42))),
        p_duration=float(np.clip(rng.normal(0.102, 0.009), 0.080, 0.120)),
        qtc=float(np.clip(rng.normal(0.408, 0.018), 0.365, 0.450)),
        t_vector=_rotation(rng.normal(0.0, 0.22, 3)) @ _T_DIRECTION * float(np.exp(rng.normal(0.05, 0.38))),
        early_repolarisation=float(np.clip(rng.normal(0.012, 0.032), -0.03, 0.085)),
        delay=float(rng.choice([0.0, 1.0], p=[0.82, 0.18]) * rng.uniform(0.3, 1.0)),
        incomplete=str(rng.choice(["", "left", "right"], p=[0.86, 0.06, 0.08])),
        incomplete_qrs=float(rng.uniform(0.104, 0.117)),
        ectopic=_rotation(rng.normal(0.0, 0.3, 3)) @ _ECTOPIC[rng.integers(3)] * float(np.exp(rng.normal(-0.25, 0.30))),
        ectopic_qrs=float(rng.uniform(0.126, 0.172)),
        coupling=float(rng.uniform(0.52, 0.82)),
        fibrillation=np.array([-0.25, 0.35, -0.80]) * float(np.exp(rng.normal(-3.1, 0.50))),
        fibrillation_rate=float(rng.uniform(4.5, 8.5)),
    )


def ventricular_lobes(
    heart: Heart, block: str | None, st: str | None, st_level: float, root_rr: float
) -> tuple[np.ndarray, float, float]:
    """QRS, ST and T of a conducted beat.

    Args:
        heart: the patient.
        block: "left", "right" or None.
        st: "anterior", "inferior" or None.
        st_level: ST elevation (mV of the dipole) in that territory.
        root_rr: square root of the RR interval in seconds (Bazett).

    Returns:
        Lobes (n, 6), QRS duration (s), QT interval (s).
    """
    duration = heart.qrs if block is None else heart.blocked_qrs
    if block is None and heart.incomplete:
        block, duration = heart.incomplete, heart.incomplete_qrs
    if block == "left":
        qrs = _in_seconds(_varied(_LEFT_BLOCK, heart), duration)
        repolarisation = np.array([-0.32, -0.12, -0.34])
        injury = np.array([-0.07, -0.03, -0.09])
    elif block == "right":
        qrs = _right_block(_varied(_VENTRICLES, heart), duration)
        repolarisation = 0.75 * heart.t_vector + np.array([0.10, 0.02, 0.26])
        injury = np.array([0.02, 0.0, 0.04])
    else:
        qrs = _in_seconds(_varied(_VENTRICLES, heart), duration)
        if heart.delay:
            qrs = np.concatenate(
                [qrs, [[0.84 * duration, 0.075 * duration, 0.06 * duration, *(0.45 * heart.delay * _RIGHT_WALL)]]]
            )
        repolarisation = heart.t_vector
        injury = heart.early_repolarisation * np.array([0.5, 0.35, -0.8])
    qrs[:, 3:] = heart.gain * qrs[:, 3:] @ heart.axis.T
    if st is not None:
        direction = _ST_ANTERIOR if st == "anterior" else _ST_INFERIOR
        injury = injury + st_level * direction
        repolarisation = 0.8 * repolarisation + 0.9 * st_level * direction
    qt = heart.qtc * root_rr + 0.75 * max(duration - 0.1, 0.0)
    return np.concatenate([qrs, _repolarisation(repolarisation, injury, duration, qt, root_rr)]), duration, qt


def ectopic_lobes(heart: Heart, root_rr: float) -> tuple[np.ndarray, float, float]:
    """A premature ventricular beat, as `ventricular_lobes`: wide, in its own direction, repolarising against it."""
    duration, main = heart.ectopic_qrs, heart.ectopic
    late = 0.55 * main + 0.30 * np.array([main[1], -main[0], main[2]])
    shape = np.array([[0.16, 0.07, 0.10], [0.38, 0.12, 0.12], [0.66, 0.13, 0.13]])
    qrs = _in_seconds(np.hstack([shape, np.stack([0.15 * main, main, late])]), duration)
    qt = heart.qtc * max(root_rr, 0.8) + 0.04
    return np.concatenate([qrs, _repolarisation(-0.42 * main, -0.08 * main, duration, qt, root_rr)]), duration, qt


def atrial_lobes(heart: Heart) -> np.ndarray:
    """P: the right atrium (front), then the left (back); centres counted from the onset of P."""
    shape = np.array([[0.36, 0.14, 0.16, 0.035, 0.075, -0.055], [0.64, 0.16, 0.14, 0.075, 0.055, 0.045]])
    lobes = _in_seconds(shape, heart.p_duration)
    lobes[:, 3:] *= heart.p_gain
    return lobes


def trace(lobes: np.ndarray, samples: int, sampling_rate: float) -> np.ndarray:
    """The dipole (samples, 3) in mV as the sum of lobes (n, 6) whose centres are seconds from the first sample."""
    vector = np.zeros((samples, 3))
    spread = 4.0 * lobes[:, 1:3].max(axis=1, initial=0.0)
    narrow = spread < 0.11
    for part in (lobes[narrow], lobes[~narrow]):
        if not len(part):
            continue
        half = int(np.ceil(4.0 * part[:, 1:3].max() * sampling_rate))
        index = np.rint(part[:, 0] * sampling_rate).astype(int)[:, None] + np.arange(-half, half + 1)
        late = index / sampling_rate - part[:, :1]
        value = np.exp(-0.5 * (late / np.where(late < 0, part[:, 1:2], part[:, 2:3])) ** 2)
        inside = (index >= 0) & (index < samples)
        for axis in range(3):
            vector[:, axis] += np.bincount(index[inside], (value * part[:, 3 + axis, None])[inside], samples)
    return vector


def _repolarisation(t: np.ndarray, injury: np.ndarray, qrs: float, qt: float, root_rr: float) -> np.ndarray:
    # T ends where the tangent at its steepest descent meets the baseline: two standard deviations after the peak.
    fall, rise = 0.036 * root_rr, 0.056 * root_rr
    peak = qt - 2.0 * fall
    middle = 0.5 * (qrs + peak)
    early = min(0.050, 0.5 * (peak - qrs))
    return np.array(
        [
            [qrs + 0.012, 0.010, early, *(0.8 * injury)],
            [middle, 0.8 * (middle - qrs), 0.5 * (peak - middle) + 0.02, *(0.65 * injury)],
            [peak, rise, fall, *t],
        ]
    )


def _right_block(ventricles: np.ndarray, duration: float) -> np.ndarray:
    # The left ventricle is activated as ever in the first 85 ms; the right wall follows slowly, unopposed.
    qrs = _in_seconds(ventricles, 0.085)
    qrs[3:, 3:] *= 0.55
    centre = 0.085 + 0.36 * (duration - 0.085)
    return np.concatenate([qrs, [[centre, 0.015, (duration - centre) / 2.8, *_RIGHT_WALL]]])


def _varied(lobes: np.ndarray, heart: Heart) -> np.ndarray:
    lobes = lobes.copy()
    lobes[:, 3:] = lobes[:, 3:] * heart.wall_gain[: len(lobes), None] + heart.wall_shift[: len(lobes)]
    return lobes


def _in_seconds(lobes: np.ndarray, duration: float) -> np.ndarray:
    return lobes * np.array([duration, duration, duration, 1.0, 1.0, 1.0])


def _rotation(angles: np.ndarray) -> np.ndarray:
    x, y, z = angles
    cx, cy, cz, sx, sy, sz = np.cos(x), np.cos(y), np.cos(z), np.sin(x), np.sin(y), np.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
