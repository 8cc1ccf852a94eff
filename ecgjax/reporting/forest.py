"""Forest plots: the values of all models on each task, with their intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecgjax.reporting import style

_ROW, _PANEL_WIDTH, _GAP, _HEAD, _BETWEEN = 0.2, 2.3, 0.26, 0.62, 0.74
_LONGEST_NAME = 24


class Panel(NamedTuple):
    """A task: its title, its metric, and for each model (rank, value, low, high); limits may be None."""

    title: str
    metric: str
    values: Mapping[str, tuple[float | None, float, float | None, float | None]]


def draw(panels: Sequence[Panel], models: Sequence[str], title: str, subtitle: str) -> Figure:
    """Draws one panel per task, with the models in the same order in each.

    Args:
        panels: the tasks; a model may be absent from some.
        models: from top to bottom.
        title: above the figure.
        subtitle: below the title.
    """
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    names = [style.shorten(style.model_name(model), _LONGEST_NAME) for model in models]
    left, height = 0.2 + style.text_width(names), _ROW * len(models)
    width = style.wide_enough(left + columns * (_PANEL_WIDTH + _GAP), title, subtitle)
    figure = style.sheet(width, _HEAD + lines * (height + _BETWEEN), title, subtitle)
    for k, panel in enumerate(panels):
        line, column = divmod(k, columns)
        top = _HEAD + 0.22 + line * (height + _BETWEEN)
        axes = style.place(figure, left + column * (_PANEL_WIDTH + _GAP), top, _PANEL_WIDTH, height)
        axes.set_title(style.plain(style.shorten(panel.title, 34)), loc="left", fontsize=8.5, fontweight="bold", pad=4)
        _fill(axes, panel, {model: y for y, model in enumerate(models)})
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.set_yticks(range(len(models)), [style.plain(name) for name in names] if column == 0 else [])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.grid(axis="x", color=style.FAINT, linewidth=0.4)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=7.5, pad=2)
        axes.set_xlabel(style.metric_name(panel.metric), fontsize=7.5, labelpad=1.5, color=style.GREY)
    return figure


def _fill(axes: Axes, panel: Panel, at: Mapping[str, int]) -> None:
    """Intervals and values; those that share the first rank are blue with filled marks."""
    for first, colour, face in ((False, style.GREY, "white"), (True, style.PALETTE[0], style.PALETTE[0])):
        bars: list[Any] = []
        points: list[tuple[float, float]] = []
        for model, (rank, value, low, high) in panel.values.items():
            if (rank == 1) == first:
                points.append((value, at[model]))
                bars.append([(value if limit is None else limit, at[model]) for limit in (low, high)])
        if points:
            axes.add_collection(LineCollection(bars, colors=colour, linewidths=1.6))
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=4.2, markeredgewidth=1.1)
    axes.autoscale_view(scaley=False)
