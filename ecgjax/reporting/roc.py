"""ROC and calibration curves of one label, drawn on request for the models of a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgjax.reporting import style

_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))


def plan_roc(curves: Sequence[Mapping[str, Any]], where: str) -> tuple[str, str, Callable[[], Figure]]:
    """Title, caption and drawing of the ROC curves of several models in one square.

    Args:
        curves: of a report's "curves", all of one label.
        where: label, task and mode, for the title.
    """
    title = f"ROC: {where}"
    caption = f"{_counts(curves)}. The area under each curve as drawn; its interval is in the table of labels."
    return title, caption, partial(_draw_roc, curves, title, _counts(curves))


def _draw_roc(curves: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> Figure:
    names = [_name(curve, curves) for curve in curves]
    looks = style.look(names)
    areas = [float(np.trapezoid(curve["roc"]["tpr"], curve["roc"]["fpr"])) for curve in curves]
    legend = 0.7 + style.text_width(names) + 0.5
    figure = style.sheet(style.wide_enough(4.6 + legend, title, subtitle), 5.0, title, subtitle)
    axes = style.place(figure, 0.65, 0.75, 3.65, 3.65)
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.8, linestyle="--")
    for i in np.argsort(-np.array(areas), kind="stable"):
        dash = _DASHES[int(i) // len(style.PALETTE) % len(_DASHES)]
        words = f"{areas[i]:.3f}  {style.plain(style.shorten(names[i], 40))}"
        axes.plot(*_points(curves[i]), color=looks[names[i]][0], linewidth=1.4, linestyle=dash, label=words)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_xlabel("1 − specificity (share of negatives called positive)")
    axes.set_ylabel("sensitivity (share of positives found)")
    axes.grid(color=style.FAINT, linewidth=0.4)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, title="AUROC", alignment="left", fontsize=8)
    return figure


def plan_calibration(curves: Sequence[Mapping[str, Any]], where: str) -> tuple[str, str, Callable[[], Figure]]:
    """Title, caption and drawing of reliability curves, a panel for each model, the records of every bin below.

    Args:
        curves: of a report's "curves", all of one label.
        where: label, task and mode, for the title.
    """
    title = f"Calibration: {where}"
    caption = (
        f"{_counts(curves)}. Share of positives against the mean predicted probability in bins of predictions, with "
        "95 % intervals; on the dashed line predictions mean what they say. Below: records in each bin. ECE, Brier "
        "score and calibration slope with their intervals: calibration.md."
    )
    subtitle = f"{_counts(curves)}; bins of predictions with 95 % intervals"
    return title, caption, partial(_draw_calibration, curves, title, subtitle)


def _draw_calibration(curves: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> Figure:
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    size, gap, high = 1.75, 0.25, 3.05
    width = style.wide_enough(0.7 + columns * (size + gap), title, subtitle)
    figure = style.sheet(width, 0.75 + lines * high, title, subtitle)
    most = 1.15 * max(max(curve["calibration"]["count"], default=1) for curve in curves)
    for k, curve in enumerate(curves):
        line, column = divmod(k, columns)
        left, top = 0.65 + column * (size + gap), 0.85 + line * high
        axes, below = (
            style.place(figure, left, top, size, size),
            style.place(figure, left, top + size + 0.1, size, 0.45),
        )
        name = style.plain(style.shorten(_name(curve, curves), 26))
        axes.set_title(name, loc="left", fontsize=8.5, fontweight="bold", pad=4)
        _reliability(axes, below, curve["calibration"], most)
        if curve.get("numbers"):
            axes.text(0.04, 0.96, _numbers(curve["numbers"]), transform=axes.transAxes, va="top", fontsize=7)
        if column == 0:
            axes.set_ylabel("share of positives")
            below.set_ylabel("records")
        else:
            for panel in (axes, below):
                panel.tick_params(labelleft=False)
    return figure


def _numbers(found: Mapping[str, Mapping[str, float | None]]) -> str:
    names = {"ece": "ECE", "brier": "Brier", "slope": "slope"}
    values = {words: found[name]["value"] for name, words in names.items()}
    return "\n".join(f"{words} {value:.3f}" for words, value in values.items() if value is not None)


def _reliability(axes: Axes, below: Axes, found: Mapping[str, Any], most: float) -> None:
    predicted, observed, low, high = (
        np.array([np.nan if x is None else x for x in found[key]], float)
        for key in ("predicted", "observed", "low", "high")
    )
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.8, linestyle="--")
    axes.vlines(predicted, low, high, color=style.PALETTE[4], linewidth=1.4)
    axes.plot(predicted, observed, "o-", color=style.PALETTE[0], markersize=3.2, linewidth=1.1)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.tick_params(labelbottom=False)
    below.vlines(predicted, 0, found["count"], color=style.PALETTE[0], linewidth=2.5)
    below.set(xlim=(-0.03, 1.03), ylim=(0, most), xticks=[0, 0.5, 1])
    below.set_xlabel("predicted probability", labelpad=2)
    for panel in (axes, below):
        panel.grid(color=style.FAINT, linewidth=0.4)
        panel.set_axisbelow(True)


def _points(curve: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    return curve["roc"]["fpr"], curve["roc"]["tpr"]


def _name(curve: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> str:
    """The model, with its seeds where it is there more than once."""
    again = sum(other["model"] == curve["model"] for other in curves) > 1
    seeds = ", ".join(map(str, curve.get("seeds", ())))
    return style.model_name(curve["model"]) + (f" (seed {seeds})" if again else "")


def _counts(curves: Sequence[Mapping[str, Any]]) -> str:
    return f"{curves[0]['positives']:,} of {curves[0]['known']:,} test records positive"
