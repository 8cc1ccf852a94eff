"""Figures of runs: learning curves, and values with their intervals side by side."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgjax.atomic import replacing

_INK, _FAINT, _BLUE, _ORANGE = "#14171c", "#c9ced6", "#1f5fa8", "#c8641b"


class Interval(NamedTuple):
    """A value, its interval, and the group it is drawn with (in order of appearance)."""

    name: str
    value: float
    low: float
    high: float
    group: str = ""


def plot_curves(
    rows: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]], title: str = "", over: str = "step"
) -> Figure:
    """Draws columns of metrics.jsonl over the training step, or over another column.

    Args:
        rows: lines of metrics.jsonl; a column may be absent from some of them.
        panels: label of each panel's vertical axis and the columns drawn in it.
        title: one line above.
        over: column of the horizontal axis; anything but "step" has a logarithmic scale.
    """
    figure = Figure(figsize=(4.2 * len(panels) + 0.6, 3.2), layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    for axes, (label, columns) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for column, colour in zip(columns, (_BLUE, _ORANGE, _INK), strict=False):
            known = [(row[over], row[column]) for row in rows if row.get(column) is not None]
            if known:
                axes.plot(*np.array(sorted(known), float).T, color=colour, linewidth=1.5, label=column)
        axes.set_xlabel(over)
        if over != "step":
            axes.set_xscale("log")
        axes.set_ylabel(label)
        axes.grid(axis="y", color=_FAINT, linewidth=0.5)
        if len(columns) > 1 and axes.lines:
            axes.legend(frameon=False, fontsize=8)
        _plain(axes)
    return figure


def plot_intervals(
    intervals: Sequence[Interval], label: str, title: str = "", reference: float | None = None
) -> Figure:
    """Draws values with their intervals, one row each (a forest plot).

    Args:
        intervals: from top to bottom; a change of group leaves a gap and prints the group's name.
        label: of the horizontal axis.
        title: one line above.
        reference: where a dashed line is drawn, e.g. 0.5 for an AUROC.
    """
    rows: list[tuple[float, Interval]] = []
    heads: list[tuple[float, str]] = []
    y = 0.0
    for k, interval in enumerate(intervals):
        if interval.group and (k == 0 or interval.group != intervals[k - 1].group):
            y += 0.4 if k else 0.0
            heads.append((y, interval.group))
            y += 0.9
        rows.append((y, interval))
        y += 1.0
    figure = Figure(figsize=(7.2, 1.3 + 0.24 * y), layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    axes = figure.subplots()
    if reference is not None:
        axes.axvline(reference, color=_FAINT, linewidth=1.0, linestyle="--")
    for at, interval in rows:
        axes.plot([interval.low, interval.high], [at, at], color=_BLUE, linewidth=1.6, solid_capstyle="butt")
        axes.plot(interval.value, at, "o", color=_BLUE, markersize=4.5)
        words = f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
        axes.text(1.02, at, words, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=_INK)
    names = [(at, interval.name) for at, interval in rows] + heads
    axes.set_yticks([at for at, _ in names], [name for _, name in names], fontsize=8.5)
    for label_text in axes.get_yticklabels()[len(rows) :]:
        label_text.set_fontweight("bold")
    axes.set_ylim(y - 0.3, -0.8)
    axes.set_xlabel(label)
    axes.grid(axis="x", color=_FAINT, linewidth=0.5)
    axes.tick_params(axis="y", length=0)
    _plain(axes)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: float = 150.0) -> tuple[Path, Path]:
    """Writes `path` with the suffixes .png and .svg, each whole or not at all.

    Args:
        figure: what is drawn.
        path: where to, without suffix.
        dpi: resolution of the PNG.

    Returns:
        The two paths.
    """
    stem = Path(path)
    targets = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    options: dict[str, dict[str, Any]] = {".png": {"dpi": dpi}, ".svg": {"metadata": {"Date": None}}}
    for target in targets:
        with replacing(target) as temporary:
            figure.savefig(temporary, format=target.suffix[1:], **options[target.suffix])
    return targets


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8.5)
