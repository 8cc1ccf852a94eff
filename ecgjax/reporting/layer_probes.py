"""Layer-wise linear probes: how well a task can be read from each layer of a model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ecgjax.reporting import style

_STEP = 0.22


def plan(task: str, probes: Sequence[Mapping[str, Any]]) -> tuple[str, str, Callable[[], Figure]]:
    """Title, caption and drawing of the probes of one task, of all models.

    Args:
        task: name.
        probes: "model", "layer", "value", "low", "high" of each, layers in their order.
    """
    title = f"Linear probes of layers: {task}"
    records = sorted({f"{probe['records']:,}" for probe in probes if probe.get("records")})
    words = "macro AUROC of a linear model on the mean of each layer's outputs, 95 % intervals"
    caption = f"{style.capital(words)}{f' ({records[0]} records)' if len(records) == 1 else ''}."
    return title, caption, partial(draw, probes, title, words)


def draw(probes: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> Figure:
    """Draws a panel per model, its layers from left to right.

    Args:
        probes: see `plan`.
        title: above.
        subtitle: below the title.
    """
    models = {name: [probe for probe in probes if probe["model"] == name] for name in _order(probes, "model")}
    names = [style.shorten(probe["layer"], 28) for probe in probes]
    widths = [max(1.2, _STEP * len(own) + 0.2) for own in models.values()]
    below = 0.5 + style.text_width(names, 7.5)
    width = style.wide_enough(0.75 + sum(widths) + 0.25 * len(widths), title, subtitle)
    figure = style.sheet(width, 0.95 + 2.4 + below, title, subtitle)
    known = [x for probe in probes for x in (probe["low"], probe["value"], probe["high"]) if x is not None]
    reach = (min(known, default=0.5) - 0.02, max(known, default=1.0) + 0.02)
    left = 0.65
    for (model, own), panel in zip(models.items(), widths, strict=True):
        axes = style.place(figure, left, 0.95, panel, 2.4)
        value, low, high = (
            np.array([np.nan if probe[key] is None else probe[key] for probe in own], float)
            for key in ("value", "low", "high")
        )
        at = np.arange(len(own))
        axes.vlines(at, low, high, color=style.PALETTE[4], linewidth=1.6)
        axes.plot(at, value, "o-", color=style.PALETTE[0], markersize=3.8, linewidth=1.0)
        axes.set_xticks(at, [style.plain(style.shorten(probe["layer"], 28)) for probe in own], rotation=90)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set(xlim=(-0.7, len(own) - 0.3), ylim=reach)
        title_of_panel = style.plain(style.shorten(style.model_name(model), round(panel / 0.085)))
        axes.set_title(title_of_panel, loc="left", fontsize=8.5, fontweight="bold", pad=4)
        axes.grid(axis="y", color=style.FAINT, linewidth=0.4)
        if left < 0.7:
            axes.set_ylabel("macro AUROC")
        else:
            axes.tick_params(labelleft=False)
        left += panel + 0.25
    figure.text(0.65 / width, 0.1 / figure.get_size_inches()[1], "layers, the first at the left", fontsize=8.5)
    return figure


def _order(probes: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(probe[key] for probe in probes))
