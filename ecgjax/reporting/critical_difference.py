"""Critical-difference diagrams: models on a line of ranks, bars over those that do not differ significantly.

The form is Demsar's (JMLR 7, 2006); the bars do not come from his test over data sets but from the stored paired
comparisons on each task.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ecgjax.reporting import style

_LINE, _BAR = 0.24, 0.13


def differing(tasks: Sequence[tuple[NDArray, NDArray]]) -> NDArray[np.bool_]:
    """Which models differ over several tasks: one is significantly better on more than half of them.

    Args:
        tasks: for each, significance (models, models) and whether the model of the row is better, (models, models).

    Returns:
        (models, models), symmetric.
    """
    wins = sum(np.asarray(significant, int) * np.asarray(better, bool) for significant, better in tasks)
    more = np.asarray(wins) * 2 > len(tasks)
    return more | more.T


def groups(rank: ArrayLike, differ: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """The longest runs of models, in the order of their ranks, of which no two differ.

    Args:
        rank: of each model; those with NaN are in no run.
        differ: (models, models).

    Returns:
        Indices of each run of two or more, none contained in another.
    """
    place = np.asarray(rank, float)
    order = [int(i) for i in np.argsort(place, kind="stable") if not np.isnan(place[i])]
    found: list[tuple[int, ...]] = []
    end = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and not differ[order[stop], order[start:stop]].any():
            stop += 1
        if stop - start > 1 and stop > end:
            found.append(tuple(order[start:stop]))
            end = stop
    return found


def draw(
    models: Sequence[str],
    position: Sequence[float],
    labels: Mapping[str, str],
    differ: NDArray[np.bool_],
    title: str,
    subtitle: str,
    axis: str = "mean rank over the tasks (1 is best)",
) -> Figure:
    """Draws the diagram.

    Args:
        models: names; those without a rank are left out and named below.
        position: rank of each on the line, NaN for none.
        labels: what is written after a model's name.
        differ: (models, models), see `differing`.
        title: above.
        subtitle: below the title.
        axis: label of the line.
    """
    place = np.asarray(position, float)
    ranked = [i for i in np.argsort(place, kind="stable") if not np.isnan(place[i])]
    half = math.ceil(len(ranked) / 2)
    bars = groups(place, differ)
    names = {i: f"{style.model_name(models[i])}  {labels.get(models[i], '')}".strip() for i in range(len(models))}
    side = style.text_width([names[i] for i in ranked], 8.5) + 0.15
    missing = [style.model_name(models[i]) for i in range(len(models)) if np.isnan(place[i])]
    width = style.wide_enough(max(7.6, 2 * side + 3.6), title, subtitle)
    depth = 0.3 + _BAR * len(bars) + _LINE * half
    figure = style.sheet(width, 1.2 + depth + (0.25 if missing else 0), title, subtitle)
    axes = style.place(figure, side, 1.15, width - 2 * side, depth)
    first, last = 1.0, max(2.0, math.ceil(place[ranked].max()) if ranked else 2.0)
    axes.set_xlim(first - 0.04 * (last - first), last + 0.04 * (last - first))
    axes.set_ylim(depth, 0)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(np.arange(first, last + 0.5))
    axes.set_xlabel(axis, labelpad=5)
    axes.spines["top"].set_visible(True)
    for name in ("left", "bottom"):
        axes.spines[name].set_visible(False)
    axes.set_yticks([])
    for k, run in enumerate(bars):
        line = 0.12 + _BAR * k
        low, high = place[run[0]], place[run[-1]]
        reach = 0.012 * (last - first)
        axes.plot([low - reach, high + reach], [line, line], color=style.INK, linewidth=3.2, solid_capstyle="butt")
    base = 0.2 + _BAR * len(bars)
    ends = axes.get_xlim()
    for k, i in enumerate(ranked):
        left = k < half
        y = base + _LINE * (k if left else len(ranked) - 1 - k) + 0.06
        end = ends[0] if left else ends[1]
        colour = style.PALETTE[0] if place[i] == place[ranked[0]] else style.GREY
        axes.plot([place[i], place[i], end], [0, y, y], color=colour, linewidth=0.9, clip_on=False)
        axes.plot(place[i], 0, "o", color=colour, markersize=4.5, clip_on=False, zorder=3)
        axes.annotate(
            style.plain(names[i]),
            (end, y),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8.5,
            annotation_clip=False,
        )
    if missing:
        words = "no result on every task: " + ", ".join(missing)
        figure.text(0.1 / width, 0.1 / figure.get_size_inches()[1], style.plain(words), fontsize=8, color=style.GREY)
    return figure
