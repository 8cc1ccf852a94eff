"""Label-efficiency curves: error over the number of training records, with the fitted power laws."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ecgjax.reporting import style


def draw(models: Mapping[str, Mapping[str, Any]], title: str, subtitle: str, error: str, unit: str) -> Figure:
    """Draws the measured errors with their intervals, and the fitted curves with their bands.

    Args:
        models: name -> "n", "value", "low", "high" (lists), and "fit" (null, or "C", "alpha", "L0" and "band": "n",
            "low", "high").
        title: above.
        subtitle: below the title.
        error: label of the vertical axis.
        unit: what is counted on the horizontal axis.
    """
    looks = style.look(list(models))
    names = {name: style.shorten(style.model_name(name), 30) for name in models}
    words = {name: names[name] + _formula(models[name].get("fit")) for name in models}
    width = style.wide_enough(5.6 + style.text_width(list(words.values())) + 0.5, title, subtitle)
    figure = style.sheet(width, 4.5, title, subtitle)
    axes = style.place(figure, 0.7, 0.7, 4.7, 3.2)
    for k, (name, found) in enumerate(models.items()):
        shift = 1.025 ** (k - (len(models) - 1) / 2)
        colour, marker = looks[name]
        n, value, low, high = (_array(found[key]) for key in ("n", "value", "low", "high"))
        axes.vlines(n * shift, low, high, color=colour, linewidth=1.0)
        axes.plot(n * shift, value, marker, color=colour, markersize=4.5, label=style.plain(words[name]))
        fit = found.get("fit")
        if fit and fit.get("C") is not None:
            x = np.geomspace(n.min(), n.max(), 100)
            axes.plot(x, fit["C"] * x ** -fit["alpha"] + fit["L0"], color=colour, linewidth=1.3)
            if fit.get("band"):
                at, lower, upper = (_array(fit["band"][key]) for key in ("n", "low", "high"))
                axes.fill_between(at, lower, upper, color=colour, alpha=0.13, linewidth=0)
    axes.set_xscale("log", base=2)
    sizes = np.unique(np.concatenate([_array(found["n"]) for found in models.values()]))
    axes.set_xticks(_apart(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(unit)
    axes.set_ylabel(error)
    axes.grid(color=style.FAINT, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=8)
    return figure


def plan(entry: Mapping[str, Any]) -> tuple[str, str, Callable[[], Figure]]:
    """Title, caption and drawing of an entry of a report's "label_efficiency"."""
    synthetic = entry.get("data", {}).get("synthetic", False)
    title = f"Label efficiency: {entry['task']}" + (" (synthetic data)" if synthetic else "")
    error = entry.get("error", "1 − macro AUROC")
    unit = f"training {entry.get('unit', 'record')}s (logarithmic)"
    subtitle = "points: measured, with intervals; lines: C·N⁻ᵅ + L₀, with bands"
    caption = (
        "Error after training on subsets of the training records, with intervals; lines are the fitted curves "
        "C·N⁻ᵅ + L₀ with their confidence bands. Points of one size are shifted a little. The test set is "
        "always the full one."
    )
    return title, caption, partial(draw, entry["models"], title, subtitle, error, unit)


def _formula(fit: Mapping[str, Any] | None) -> str:
    if not fit or fit.get("C") is None:
        return "  (no fit)"
    return f"  C {fit['C']:.3g}, α {fit['alpha']:.2f}, L₀ {fit['L0']:.3g}"


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if x is None else x for x in values], float)


def _apart(sizes: np.ndarray) -> list[float]:
    """Sizes at least a factor of 1.6 apart, so that their labels do not touch."""
    kept: list[float] = []
    for size in sizes[::-1]:
        if not kept or kept[-1] / size > 1.6:
            kept.append(float(size))
    return kept
