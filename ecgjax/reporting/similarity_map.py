"""Maps of representation similarity: CKA of every layer of one model with every layer of another, or its own."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgjax.reporting import style

_CELL, _MOST_LABELS = 0.3, 26


def draw(
    model_x: str,
    model_y: str,
    layers_x: Sequence[str],
    layers_y: Sequence[str],
    matrix: Sequence[Sequence[float | None]],
    title: str,
    subtitle: str,
) -> Figure:
    """Draws one matrix; values are written into the cells where there is room.

    Args:
        model_x: whose layers are the rows.
        model_y: whose layers are the columns.
        layers_x: names of the rows, first layer first.
        layers_y: names of the columns.
        matrix: (layers_x, layers_y), None where undefined.
        title: above.
        subtitle: below the title.
    """
    values = np.array([[np.nan if x is None else x for x in row] for row in matrix], float)
    row_names, column_names = _thin(layers_x), _thin(layers_y)
    cell = min(_CELL, 7.5 / max(len(layers_x), len(layers_y)))
    # The axes' own labels need some length too.
    width, height = max(cell * len(layers_y), 1.5), max(cell * len(layers_x), 1.7)
    left = 0.55 + style.text_width([name for _, name in row_names], 7.5)
    below = 0.35 + style.text_width([name for _, name in column_names], 7.5)
    total = style.wide_enough(left + width + 1.0, title, subtitle)
    figure = style.sheet(total, 0.75 + height + below, title, subtitle)
    axes = style.place(figure, left, 0.65, width, height)
    # Unbiased estimates may lie a little below 0 or above 1: they are written as they are and drawn as 0 or 1.
    image = axes.pcolormesh(np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=1)
    axes.set_ylim(len(layers_x), 0)
    axes.set_facecolor("#e5e7eb")
    axes.set_yticks([at + 0.5 for at, _ in row_names], [style.plain(name) for _, name in row_names])
    axes.set_xticks([at + 0.5 for at, _ in column_names], [style.plain(name) for _, name in column_names])
    axes.tick_params(labelsize=7.5, length=2)
    for text in axes.get_xticklabels():
        text.set_rotation(90)
    axes.set_ylabel(f"layers of {style.plain(style.model_name(model_x))}")
    axes.set_xlabel(f"layers of {style.plain(style.model_name(model_y))}")
    if cell > 0.27:
        _write(axes, values)
    bar = style.place(figure, left + width + 0.18, 0.65, 0.14, min(height, 2.6))
    figure.colorbar(image, cax=bar, label="linear CKA (no unit)")
    return figure


def _write(axes: Axes, values: np.ndarray) -> None:
    for (y, x), value in np.ndenumerate(values):
        if value == value:
            colour = style.INK if value > 0.55 else "white"
            words = f"{value:.2f}".replace("0.", ".") if abs(value) < 0.995 else f"{value:.0f}"
            axes.text(x + 0.5, y + 0.5, words, ha="center", va="center", fontsize=6, color=colour)


def _thin(names: Sequence[str]) -> list[tuple[int, str]]:
    """Every so-manieth name, so that they do not overlap; with their positions."""
    step = -(-len(names) // _MOST_LABELS)
    return [(i, style.shorten(name, 28)) for i, name in enumerate(names) if i % step == 0]


def plan(entry: Mapping[str, Any]) -> tuple[str, str, Callable[[], Figure]]:
    """Title, caption and drawing of an entry of a report's "similarity"."""
    x, y = entry["model_x"], entry["model_y"]
    names = style.model_name(x), style.model_name(y)
    title = f"Similarity of layers: {names[0]}" + ("" if x == y else f" and {names[1]}")
    words = [f"{entry['estimator']} linear CKA"]
    words += [f"{entry['records']:,} records"] if entry.get("records") else []
    caption = f"Centred kernel alignment, 0 (unrelated) to 1 (the same up to rotation and scale); {', '.join(words)}."
    layers = entry["layers_x"], entry["layers_y"]
    return title, caption, partial(draw, x, y, *layers, entry["matrix"], title, ", ".join(words))
