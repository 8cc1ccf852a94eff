"""A 12-lead ECG on ECG paper: 25 mm/s, 10 mm/mV, drawn to scale (a print at 100 % can be measured with a ruler)."""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ecgjax.errors import UserError
from ecgjax.models.encoder import CANONICAL_LEADS

MM_PER_SECOND = 25.0
MM_PER_MILLIVOLT = 10.0
LAYOUTS = {
    "3x4": (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"), ("II",)),
    "12x1": tuple((name,) for name in CANONICAL_LEADS),
}
"""Rows of leads; the leads of one row share the ten seconds one after another, as electrocardiographs print them."""

_SECONDS = 10.0
_LEFT, _RIGHT = 15.0, 5.0  # mm of paper before and after the traces; the calibration pulse stands in the left one
_ROW = {"3x4": 30.0, "12x1": 18.0}
_HEADER, _FOOTER, _EDGE = 25.0, 7.0, 4.0
_FOR, _AGAINST, _FAINTEST, _MOST = (0.83, 0.15, 0.08), (0.10, 0.35, 0.85), 0.04, 0.85
_PAPER, _FINE, _COARSE, _INK, _FAINT = "#fffaf8", "#f7dcd8", "#eab3ac", "#14171c", "#5c6470"


def plot_ecg(
    signal: np.ndarray,
    sampling_rate: float,
    *,
    title: str = "",
    statements: Sequence[str] = (),
    layout: str = "3x4",
    start: float = 0.0,
    missing: Collection[str] = (),
    shade: np.ndarray | None = None,
) -> Figure:
    """Draws ten seconds of a recording.

    Every trace is centred on its median; gaps (NaN) stay gaps.

    Args:
        signal: (samples, 12) in mV, canonical leads.
        sampling_rate: Hz.
        title: one line above the paper.
        statements: up to twelve short lines below the title, in three columns.
        layout: "3x4" (and lead II as rhythm strip) or "12x1".
        start: first second drawn.
        missing: names of leads that were not recorded; nothing is drawn for them.
        shade: (samples, 12) from -1 to 1: drawn as colour below the traces, red above 0 and blue below it.

    Returns:
        A figure in true size, for `ecgjax.reporting.figures.save_figure`.

    Raises:
        UserError: another shape, an unknown layout, or nothing to draw at `start`.
    """
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim != 2 or signal.shape[1] != len(CANONICAL_LEADS):
        raise UserError(
            f"signal has shape {signal.shape}; expected (samples, 12) in the order {', '.join(CANONICAL_LEADS)}"
        )
    if layout not in LAYOUTS:
        raise UserError(f"layout {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")
    first = round(start * sampling_rate)
    if shade is not None and np.shape(shade) != signal.shape:
        raise UserError(f"shade has shape {np.shape(shade)}; expected that of the signal, {signal.shape}")
    part = slice(max(first, 0), max(first, 0) + round(_SECONDS * sampling_rate))
    signal, shade = signal[part], None if shade is None else np.asarray(shade)[part]
    if first < 0 or len(signal) < 2:
        raise UserError(f"start is {start} s; expected a second inside the recording")

    rows, height = LAYOUTS[layout], _ROW[layout]
    paper = (_LEFT + _SECONDS * MM_PER_SECOND + _RIGHT, np.ceil(height * len(rows) / 5.0) * 5.0 + 5.0)
    figure, axes = _sheet(paper)
    for k, leads in enumerate(rows):
        baseline = paper[1] - height * (k + 0.5) - 2.5
        _calibration(axes, baseline, height)
        for column, lead in enumerate(leads):
            own = None if shade is None else shade[:, CANONICAL_LEADS.index(lead)]
            _trace(axes, signal, sampling_rate, lead, column, len(leads), baseline, height, lead in missing, own)
    _words(
        axes,
        paper,
        title,
        statements,
        f"25 mm/s    10 mm/mV    {sampling_rate:g} Hz    {start:g}-{start + len(signal) / sampling_rate:g} s",
    )
    return figure


def _sheet(paper: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure in millimetres, the origin at the paper's lower left corner, with the 1 mm and 5 mm grid."""
    width, height = paper[0] + 2 * _EDGE, paper[1] + _HEADER + _FOOTER
    figure = Figure(figsize=(width / 25.4, height / 25.4), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(-_EDGE, paper[0] + _EDGE), ylim=(-_FOOTER, paper[1] + _HEADER))
    axes.set_axis_off()
    axes.fill_between([0.0, paper[0]], 0.0, paper[1], color=_PAPER, linewidth=0)
    for step, colour, line in ((1.0, _FINE, 0.35), (5.0, _COARSE, 0.55)):
        x, y = np.arange(0.0, paper[0] + 0.5, step), np.arange(0.0, paper[1] + 0.5, step)
        lines = [((v, 0.0), (v, paper[1])) for v in x] + [((0.0, v), (paper[0], v)) for v in y]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=line, capstyle="butt"), autolim=False)
    return figure, axes


def _calibration(axes: Axes, baseline: float, height: float) -> None:
    # 1 mV for 0.2 s. Centred on the row, as the traces reach further up than down.
    low = baseline - min(0.1 * height, 2.0)
    x, y = np.array([3.0, 4.5, 4.5, 9.5, 9.5, 11.0]), np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]) * MM_PER_MILLIVOLT
    axes.plot(x, low + y, color=_INK, linewidth=0.8, solid_joinstyle="miter")


def _trace(
    axes: Axes,
    signal: np.ndarray,
    sampling_rate: float,
    lead: str,
    column: int,
    columns: int,
    baseline: float,
    height: float,
    missing: bool,
    shade: np.ndarray | None,
) -> None:
    low = baseline - min(0.1 * height, 2.0)
    seconds = _SECONDS / columns
    left = _LEFT + column * seconds * MM_PER_SECOND
    begin, end = round(column * seconds * sampling_rate), round((column + 1) * seconds * sampling_rate)
    values = signal[:, CANONICAL_LEADS.index(lead)]
    if column:
        axes.plot([left, left], [low - 2.0, low + 2.0], color=_INK, linewidth=0.6)
    name = axes.text(
        left + 1.0,
        low + min(0.42 * height, 9.0),
        lead,
        fontsize=8.5,
        fontweight="bold",
        color=_INK,
        va="center",
        zorder=3,
    )
    name.set_path_effects([withStroke(linewidth=1.6, foreground=_PAPER)])
    if missing or np.isnan(values).all():
        axes.text(left + 12.0, low, "not recorded", fontsize=7, color=_FAINT, va="center", style="italic")
        return
    part = values[begin:end] - np.nanmedian(values)
    x = _LEFT + (begin + np.arange(len(part))) / sampling_rate * MM_PER_SECOND
    if shade is not None:
        _halo(axes, x, low + part * MM_PER_MILLIVOLT, shade[begin:end], sampling_rate)
    axes.plot(x, low + part * MM_PER_MILLIVOLT, color=_INK, linewidth=0.75, solid_joinstyle="round")


def _halo(axes: Axes, x: np.ndarray, y: np.ndarray, shade: np.ndarray, sampling_rate: float) -> None:
    """A broad line below the trace, its colour the mean of pieces of 20 ms: thousands of samples would be heavy.

    Mixed with the paper's colour rather than transparent, which would be darker where pieces meet.
    """
    paper, length = np.array(to_rgb(_PAPER)), max(round(0.02 * sampling_rate), 1)
    lines, colours = [], []
    for begin in range(0, len(x) - 1, length):
        strength = float(np.mean(shade[begin : begin + length]))
        if abs(strength) > _FAINTEST:
            lines.append(np.stack([x, y], axis=1)[begin : begin + length + 1])
            full = np.array(_FOR if strength > 0 else _AGAINST)
            colours.append(paper + _MOST * abs(strength) * (full - paper))
    axes.add_collection(
        LineCollection(lines, colors=colours, linewidths=4.5, capstyle="round", joinstyle="round", zorder=1.5),
        autolim=False,
    )


def _words(axes: Axes, paper: tuple[float, float], title: str, statements: Sequence[str], scale: str) -> None:
    top = paper[1] + _HEADER
    axes.text(0.0, top - 6.0, title, fontsize=12, fontweight="bold", color=_INK, va="center")
    for k, statement in enumerate(statements[:12]):
        axes.text(k // 4 * paper[0] / 3, top - 11.0 - k % 4 * 3.7, statement, fontsize=7.5, color=_INK, va="center")
    axes.text(0.0, -4.0, scale, fontsize=7, color=_FAINT, va="center")
    axes.text(paper[0], -4.0, "ecgjax", fontsize=7, color=_FAINT, va="center", ha="right")
