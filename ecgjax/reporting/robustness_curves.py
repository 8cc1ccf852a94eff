"""Curves of models against the leads that are there, and against what disturbs the recordings."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgjax.data.lead_sets import SETS
from ecgjax.data.leads import CANONICAL
from ecgjax.reporting import style

Row = Mapping[str, Any]

NAMES = {
    "baseline_wander": "baseline wander",
    "powerline": "power line",
    "electrode_motion": "electrode motion",
    "missing": "all leads lost",
    "swap": "electrodes swapped",
}
POLICIES = {"zero": "others zero", "repeat": "others repeated", "derive": "others derived", "dropout": "random leads"}
_JOINED = {" ".join(leads) for leads in SETS.values()} | {"I"}
"""What lines join: the named sets and lead I, by their number of leads."""


def set_name(leads: str) -> str:
    """How a set of leads is called on an axis: its number, or its only lead, or its leads."""
    for name, members in SETS.items():
        if leads == " ".join(members):
            return {"12": "12", "6": "6 limb"}.get(name, f"{name}: {', '.join(members)}")
    return ", ".join(leads.split())


def plans(rows: Sequence[Row]) -> dict[str, Callable[[], Figure]]:
    """File names of the figures of `ecgjax.evaluation.robustness.rows`, and what draws them."""
    found: dict[str, Callable[[], Figure]] = {}
    for task, metric, protocol in dict.fromkeys((row["task"], row["metric"], row["protocol"]) for row in rows):
        own = [row for row in rows if (row["task"], row["metric"], row["protocol"]) == (task, metric, protocol)]
        end = f"{task}_{metric}" + ("" if protocol == "fixed" else f"_{protocol}")
        synthetic = " (synthetic data)" if own[0]["synthetic"] else ""
        leads = [row for row in own if row["axis"] == "leads"]
        if len({row["leads"] for row in leads}) > 1:
            title = f"Fewer leads: {task}{synthetic}"
            found[f"leads_{end}"] = partial(_draw_leads, leads, title, metric)
        noisy = [row for row in own if row["axis"] in NAMES]
        if noisy:
            title = f"Worse signals: {task}{synthetic}"
            found[f"noise_{end}"] = partial(_draw_noise, noisy, leads, title, metric)
    return found


def _draw_leads(rows: Sequence[Row], title: str, metric: str) -> Figure:
    looks = style.look(_models(rows))
    sets = sorted({row["leads"] for row in rows}, key=lambda leads: (len(leads.split()), _order(leads)))
    lines = _lead_lines(rows)
    panels = [policy for policy in POLICIES if any(policy == own for _, own in lines)]
    subtitle = "trained, validated and tested on these leads; bars: intervals"
    wide = max(0.42 * len(sets), 1.8)
    width = style.wide_enough(0.75 + (wide + 0.25) * len(panels) + 0.3 + style.text_width(list(looks)), title, subtitle)
    figure = style.sheet(width, 3.4, title, subtitle)
    limits = _limits(rows)
    for number, policy in enumerate(panels):
        axes = style.place(figure, 0.75 + number * (wide + 0.25), 0.85, wide, 1.9)
        for k, (model, (colour, marker)) in enumerate(looks.items()):
            points = lines.get((model, policy), [])
            shift = 0.4 * ((k + 0.5) / len(looks) - 0.5)
            at = {row["leads"]: sets.index(row["leads"]) + shift for row in points}
            joined = sorted((row for row in points if row["leads"] in _JOINED), key=lambda row: row["level"])
            x, y = [at[row["leads"]] for row in joined], [row["value"] for row in joined]
            axes.plot(x, y, color=colour, linewidth=1.1)
            _points(axes, [(at[row["leads"]], row) for row in points], colour, marker)
        axes.set_xticks(range(len(sets)), [_short(leads) for leads in sets])
        axes.set_xlim(-0.6, len(sets) - 0.4)
        axes.set_xlabel("leads")
        _finish(axes, metric, POLICIES[policy], limits, number)
    _legend(axes, looks)
    return figure


def _draw_noise(rows: Sequence[Row], clean: Sequence[Row], title: str, metric: str) -> Figure:
    names = list(dict.fromkeys(_series(row) for row in rows))
    looks, clean = style.look(names), [row for row in clean if _series(row) in names]
    panels = [axis for axis in NAMES if any(row["axis"] == axis for row in rows)]
    subtitle = "ratio of signal to noise in each window and lead; dashed: undisturbed; bars: intervals"
    wide = 2.3
    width = style.wide_enough(0.75 + (wide + 0.25) * len(panels) + 0.3 + style.text_width(names), title, subtitle)
    figure = style.sheet(width, 3.4, title, subtitle)
    limits = _limits([*rows, *clean])
    for number, axis in enumerate(panels):
        axes = style.place(figure, 0.75 + number * (wide + 0.25), 0.85, wide, 1.9)
        own = [row for row in rows if row["axis"] == axis]
        ticks = list(dict.fromkeys(row["swap"] if axis == "swap" else row["level"] for row in own))
        if axis != "swap":
            ticks.sort(reverse=axis != "missing")
        for k, name in enumerate(names):
            points = [row for row in own if _series(row) == name]
            colour, marker = looks[name]
            shift = 0.4 * ((k + 0.5) / len(names) - 0.5)
            at = [(ticks.index(row["swap"] if axis == "swap" else row["level"]) + shift, row) for row in points]
            if axis != "swap":
                at.sort(key=lambda point: point[0])
                axes.plot([x for x, _ in at], [row["value"] for _, row in at], color=colour, linewidth=1.1)
            _points(axes, at, colour, marker)
            for row in clean:
                if points and _series(row) == name:
                    axes.axhline(row["value"], color=colour, linewidth=0.9, linestyle=(0, (5, 3)))
        factor = 100 if axis == "missing" else 1
        texts = [tick.replace(" ", "\n") if axis == "swap" else f"{factor * tick:g}" for tick in ticks]
        axes.set_xticks(range(len(ticks)), texts)
        axes.set_xlim(-0.6, len(ticks) - 0.4)
        axes.set_xlabel({"swap": "", "missing": "% of the time"}.get(axis, "signal-to-noise ratio (dB)"))
        _finish(axes, metric, NAMES[axis], limits, number)
    _legend(axes, looks)
    return figure


def _points(axes: Axes, points: Sequence[tuple[float, Row]], colour: str, marker: str) -> None:
    for x, row in points:
        axes.vlines(x, row["low"], row["high"], color=colour, linewidth=1.0)
        axes.plot([x], [row["value"]], marker, color=colour, markersize=4)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Of the vertical axis of all panels."""
    values = [row[key] for row in rows for key in ("value", "low", "high") if row[key] == row[key]] or [0.0, 1.0]
    room = 0.05 * (max(values) - min(values) or 1.0)
    return min(values) - room, max(values) + room


def _finish(axes: Axes, metric: str, title: str, limits: tuple[float, float], number: int) -> None:
    axes.set_title(style.capital(title), loc="left")
    axes.set_ylim(*limits)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.4)
    axes.set_axisbelow(True)
    if number:
        axes.tick_params(labelleft=False)
    else:
        axes.set_ylabel(style.metric_name(metric))


def _legend(axes: Axes, names: Mapping[str, tuple[str, str]]) -> None:
    """Beside the last panel."""
    for name, (colour, marker) in names.items():
        axes.plot([], [], "-", marker=marker, color=colour, markersize=4, label=style.plain(name))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.03), frameon=False, fontsize=8)


def _lead_lines(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Points of each model and policy; what twelve leads give belongs to all policies but training with random ones."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["policy"]:
            lines.setdefault((_model(row), row["policy"]), []).append(row)
    for row in rows:
        if not row["policy"]:
            own = [points for (model, policy), points in lines.items() if model == _model(row) and policy != "dropout"]
            for points in own or [lines.setdefault((_model(row), "zero"), [])]:
                points.append(row)
    return lines


def _order(leads: str) -> list[int]:
    return [CANONICAL.index(lead) for lead in leads.split()]


def _models(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(_model(row) for row in rows))


def _model(row: Row) -> str:
    return f"{style.model_name(row['model'])}, {style.mode_name(row['mode'])}"


def _short(leads: str) -> str:
    """On a tick: the number of a named set, else the leads one below the other."""
    return next((name for name, members in SETS.items() if leads == " ".join(members)), leads.replace(" ", "\n"))


def _series(row: Row) -> str:
    """A line of the noise's panels."""
    leads = f", on {set_name(row['leads'])}, {POLICIES[row['policy']]}" if row["policy"] else ""
    return _model(row) + leads + (", on disturbed training data" if row["disturbed"] == "all" else "")
