"""What a label-efficiency study shows of itself: its table in the terminal, its figure."""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ecgjax.errors import disk_errors
from ecgjax.reporting import label_curves
from ecgjax.reporting.figures import save_figure
from ecgjax.reporting.style import mode_name, model_name

RESULTS = "label_efficiency.json"


def show(folder: Path, console: Console | None = None) -> None:
    """Prints a study's errors, curves and data needs, and where its files are.

    Args:
        folder: the study's directory.
        console: where to; None is standard output, 100 columns wide.
    """
    console = console or Console(width=100, highlight=False)
    found = read(folder)
    synthetic = " (synthetic, not real patients)" if found["data"]["synthetic"] else ""
    interval = found["interval"]
    console.print(f"\nlabel efficiency on {found['task']}{synthetic}, protocol {found['protocol']}")
    console.print(
        f"subsets {found['subset']}, validation {found['validation']}, {len(found['seeds'])} seed(s), "
        f"{found['records']:,} test records"
    )
    console.print(
        f"{100 * interval['level']:g} % limits from {interval['defined']:,} bootstrap replicates of "
        f"{interval['unit']}s: of the test set, not of other training records"
    )
    console.print(errors_table(found))
    console.print(curves_table(found))
    console.print(needs_table(found))
    for name, what in ((RESULTS, "all values"), ("figures", "PNG and SVG"), ("cells", "one run each")):
        if (folder / name).exists():
            console.print(f"{what:14s}{folder / name}", soft_wrap=True)


def draw(folder: Path) -> None:
    """Draws figures/label_efficiency.

    Raises:
        UserError: the disk is full.
    """
    _, _, figure = label_curves.plan(read(folder))
    with disk_errors(folder / "figures"):
        (folder / "figures").mkdir(exist_ok=True)
    save_figure(figure(), folder / "figures" / "label_efficiency")


def read(folder: Path) -> dict[str, Any]:
    """Content of a study's label_efficiency.json."""
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))


def share(ratio: float) -> str:
    """A ratio as people write it, e.g. 1/128."""
    return str(Fraction(ratio).limit_denominator(1_000_000))


def errors_table(found: Mapping[str, Any]) -> Table:
    """Error of each model after training on each share."""
    table = _table(f"error: {found['error']}", ["ratio"])
    names = list(found["models"])
    for name in names:
        entry = found["models"][name]
        table.add_column("records", justify="right")
        table.add_column(f"{model_name(entry['model'])}, {mode_name(entry['mode'])}", justify="right")
    for k, ratio in enumerate(found["ratios"]):
        row = [share(ratio)]
        for name in names:
            entry = found["models"][name]
            row += [f"{entry['n'][k]:,.0f}", _limits(*(entry[key][k] for key in ("value", "low", "high")))]
        table.add_row(*row)
    return table


def curves_table(found: Mapping[str, Any]) -> Table:
    """Parameters of the fitted curves."""
    table = _table("error = C n^-alpha + L0", ["model"])
    for column in ("C", "alpha: speed", "L0: floor"):
        table.add_column(column, justify="right")
    for name, entry in found["models"].items():
        fit = entry["fit"]
        table.add_row(name, *(_limits(fit[key], *fit["limits"][key]) for key in ("C", "alpha", "L0")))
    return table


def needs_table(found: Mapping[str, Any]) -> Table:
    """Share of the baseline's records that each model needs for the baseline's error."""
    baseline = found["baseline"]
    others = {name: entry for name, entry in found["models"].items() if name != baseline}
    keys = next(iter(others.values()))["ratio"] if others else {}
    table = _table(f"r = N*/N: records needed for the error of {baseline} with N (~: extrapolated)", ["model"])
    for key, need in keys.items():
        table.add_column(f"N = {need['n']:,.0f}" + (" (full)" if key == "full" else ""), justify="right")
    for name, entry in others.items():
        table.add_row(name, *(_need(need) for need in entry["ratio"].values()))
    return table


def _need(need: Mapping[str, Any]) -> str:
    undefined = f"\nnever in {100 * need['undefined']:.0f} %" if need["undefined"] else ""
    if need["r"] is None:
        return f"never reached{undefined}"
    return ("~" if need["extrapolated"] else "") + _limits(need["r"], need["low"], need["high"], "no limit") + undefined


def _limits(value: float, low: float | None, high: float | None, missing: str = "-") -> str:
    low_text, high_text = (missing if limit is None else f"{limit:.3g}" for limit in (low, high))
    return f"{value:.3g} [{low_text}, {high_text}]"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
