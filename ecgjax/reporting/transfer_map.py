"""Train x test matrices as heat maps: what a model that was trained on the row's data is worth on the column's."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgjax.reporting import style

_WIDTH, _HEIGHT, _GAP = 1.25, 0.78, 0.45
_TOP, _BELOW, _MOST_ACROSS = 1.1, 0.75, 4


def draw(matrices: Mapping[str, Sequence[Mapping[str, Any]]], title: str, subtitle: str) -> Figure:
    """Draws the matrices beside each other.

    Args:
        matrices: heading -> cells as in transfer.json.
        title: above.
        subtitle: below the title.
    """
    cells = next(iter(matrices.values()))
    rows = list(dict.fromkeys(cell["train"] for cell in cells))
    columns = list(dict.fromkeys(cell["test"] for cell in cells))
    left = 0.5 + style.text_width([style.shorten(name, 24) for name in rows])
    body = _WIDTH * len(columns), _HEIGHT * len(rows)
    # Many columns would make a figure that no page holds: then the matrices lie below each other.
    across, down = (0.0, body[1] + _BELOW) if len(columns) > _MOST_ACROSS else (body[0] + _GAP, 0.0)
    others = len(matrices) - 1
    total = left + body[0] + others * across + 1.2
    height = _TOP + body[1] + others * down + 0.2
    figure = style.sheet(style.wide_enough(total, title, subtitle), height, title, subtitle)
    values = [cell["value"] for own in matrices.values() for cell in own if cell["value"] is not None]
    low = min(0.5, np.floor(10 * min(values, default=0.5)) / 10)
    image: Any = None
    for number, (heading, own) in enumerate(matrices.items()):
        axes = style.place(figure, left + number * across, _TOP + number * down, *body)
        image = _matrix(axes, own, rows, columns, heading, low, first=number == 0 or not across)
    bar = style.place(figure, left + body[0] + others * across + 0.2, _TOP, 0.14, min(body[1], 2.4))
    figure.colorbar(image, cax=bar, label="macro AUROC")
    return figure


def _matrix(
    axes: Axes,
    cells: Sequence[Mapping[str, Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    heading: str,
    low: float,
    *,
    first: bool,
) -> Any:
    table = np.full((len(rows), len(columns)), np.nan)
    for cell in cells:
        if cell["value"] is not None:
            table[rows.index(cell["train"]), columns.index(cell["test"])] = cell["value"]
    colours = matplotlib.colormaps["cividis"]
    image = axes.pcolormesh(
        np.ma.masked_invalid(table), cmap=colours, vmin=low, vmax=1, edgecolors="white", linewidth=1.2
    )
    axes.set_ylim(len(rows), 0)
    for cell in cells:
        y, x = rows.index(cell["train"]), columns.index(cell["test"])
        if cell["value"] is None:
            axes.text(x + 0.5, y + 0.5, "no common\nterm", ha="center", va="center", fontsize=7, color=style.GREY)
            continue
        red, green, blue, _ = colours((cell["value"] - low) / (1 - low))
        colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else style.INK
        lines = [f"[{_limit(cell['low'])}, {_limit(cell['high'])}]", style.counted(cell["defined"], "term")]
        drop = cell["drop"]
        if drop is not None and drop["value"] is not None:
            clear = drop["low"] is not None and (drop["low"] > 0 or drop["high"] < 0)
            lines[1] += f", drop {drop['value']:.3f}" + ("*" if clear else "")
        mark = "†" if cell["seen"] else ""
        axes.text(
            x + 0.5, y + 0.34, f"{cell['value']:.3f}{mark}", ha="center", va="center", fontsize=10, color=colour,
            fontweight="bold",
        )  # fmt: skip
        axes.text(x + 0.5, y + 0.7, "\n".join(lines), ha="center", va="center", fontsize=6.3, color=colour)
        if cell["train"] == cell["test"]:
            axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=style.INK, linewidth=1.4, zorder=3))
    shown = [style.plain(style.shorten(name, 24)) for name in rows]
    axes.set_yticks(np.arange(len(rows)) + 0.5, shown if first else [""] * len(rows))
    axes.set_xticks(np.arange(len(columns)) + 0.5, [style.plain(style.shorten(name, 18)) for name in columns])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    if first:
        axes.set_ylabel("trained on")
    axes.set_title(f"{style.capital(heading)}, tested on", fontsize=8.5, fontweight="bold", pad=5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _limit(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
