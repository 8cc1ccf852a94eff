"""Rank heat maps: models beside each other, tasks below each other under their categories."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgjax.reporting import style

_CELL_WIDTH, _CELL_HEIGHT, _BAR = 0.5, 0.23, 1.3


def draw(
    models: Sequence[str],
    categories: Mapping[str, tuple[Sequence[float | None], Mapping[str, Sequence[float | None]]]],
    title: str,
    subtitle: str,
    how: str = "median",
    marks: Mapping[tuple[str, str], str] | None = None,
) -> Figure:
    """Draws the map.

    Args:
        models: columns.
        categories: name -> the models' aggregated ranks, and task -> the models' ranks on it; None is no rank.
        title: above.
        subtitle: below the title.
        how: aggregation of the ranks over a category's tasks.
        marks: (task, model) -> a character written after the rank, e.g. for data that the model saw.
    """
    # A category of one task needs no line of its own ranks: only its name, as a heading.
    lines: list[tuple[str, Sequence[float | None] | None, bool]] = []
    for category, (overall, tasks) in categories.items():
        name = style.category_name(category)
        lines.append((f"{name} ({how})", overall, True) if len(tasks) > 1 else (name, None, True))
        lines += [(task, ranks, False) for task, ranks in tasks.items()]
    names = [style.shorten(style.model_name(model), 22) for model in models]
    labels = [style.shorten(label, 46) for label, _, _ in lines]
    left, top = 0.2 + style.text_width(labels), 0.55 + 0.72 * style.text_width(names) + 0.1
    body = _CELL_WIDTH * len(models), _CELL_HEIGHT * len(lines)
    width = style.wide_enough(left + body[0] + 1.3, title, subtitle)
    figure = style.sheet(width, top + max(body[1], _BAR) + 0.2, title, subtitle)
    axes = style.place(figure, left, top, *body)
    blank = [None] * len(models)
    table = np.array([[np.nan if x is None else x for x in ranks or blank] for _, ranks, _ in lines], float)
    most = max(2, int(np.ceil(np.nanmax(table)))) if np.isfinite(table).any() else 2
    norm = BoundaryNorm(np.arange(0.5, most + 1), 256)
    colours = matplotlib.colormaps["cividis"]
    image = axes.pcolormesh(np.ma.masked_invalid(table), cmap=colours, norm=norm, edgecolors="white", linewidth=0.8)
    axes.set_ylim(len(lines), 0)
    for y, (label, ranks, head) in enumerate(lines):
        for x, rank in enumerate(ranks or ()):
            if rank is None or rank != rank:
                axes.text(x + 0.5, y + 0.5, "–", ha="center", va="center", fontsize=8, color=style.GREY)
                continue
            red, green, blue, _ = colours(norm(rank))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            words = f"{rank:g}" + ("" if head or marks is None else marks.get((label, models[x]), ""))
            weight = "bold" if head else "normal"
            colour = "white" if dark else style.INK
            axes.text(x + 0.5, y + 0.52, words, ha="center", va="center", fontsize=8, color=colour, fontweight=weight)
        if head and ranks is not None:
            axes.add_patch(Rectangle((0, y), len(models), 1, fill=False, edgecolor=style.INK, linewidth=1.0, zorder=3))
    axes.set_yticks(np.arange(len(lines)) + 0.5, [style.plain(label) for label in labels])
    axes.set_xticks(np.arange(len(models)) + 0.5, [style.plain(name) for name in names])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for text, (_, _, head) in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if head else "normal")
    for text in axes.get_xticklabels():
        text.set(rotation=45, ha="left", rotation_mode="anchor")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = style.place(figure, left + body[0] + 0.25, top, 0.16, min(2.4, max(body[1], _BAR)))
    figure.colorbar(image, cax=bar, ticks=np.arange(1, most + 1), label="rank (1 is best)")
    bar.invert_yaxis()
    return figure
