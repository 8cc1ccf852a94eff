"""Job "report": finished runs, compared; see configs/report.py.

Writes results.json (see `ecgjax.reporting.schema`), results.csv (its rows), labels.csv (every label of every row),
tables.tex and tables.md, compare_paper.csv and .md where rows are in the paper, fairness and calibration likewise
where they are asked for, figures/, index.html, and cells/, the
replicates, by which a second report is quick and reports can be merged.
"""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import Progress

from ecgjax import atomic
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import curves
from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.evaluation.collect import REPORT_CELLS, Cell, Collection, collect
from ecgjax.evaluation.metrics import check_choice
from ecgjax.evaluation.results import RESULTS
from ecgjax.reporting import clashes, group_tables, group_values, markdown, report_tables, rows
from ecgjax.reporting.assemble import Rules, assemble, plain
from ecgjax.sweep.bucket import is_url
from ecgjax.sweep.bucket_sweep import local_copy

FAIRNESS, CALIBRATION = "fairness", "calibration"
CSV, LABELS, LATEX, MARKDOWN, PAPER = "results.csv", "labels.csv", "tables.tex", "tables.md", "compare_paper"
_BESIDE = (
    "task",
    "model",
    "mode",
    "protocol",
    "here",
    "published",
    "difference",
    "intervals overlap",
    "published cell",
)


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Collects, compares, writes, and prints what was found.

    Raises:
        UserError: no finished run, clashing fingerprints, config or folders that cannot be used.
    """
    sources = _listed(config.runs)
    settings, rules = _settings(config)
    if not sources:
        raise UserError("config.runs is empty; expected a folder with finished runs: --config.runs=DIR")
    rename = dict(_pair(item) for item in _listed(config.rename))
    if workdir is None and is_url(sources[0]):
        raise UserError(f"--workdir is missing; expected a folder for the report of {sources[0]}")
    folders = [local_copy(source) if is_url(source) else Path(source) for source in sources]
    found = collect(*folders, exclude=_listed(config.exclude), rename=rename)
    if not (found.cells or found.reports):
        raise UserError(_nothing(found, config.runs))
    folder = workdir or Path(sources[0]) / "report"
    report = _build(found, settings, rules, folder, config, sources)
    write(report, folder)
    if config.figures:
        _draw(report, folder, config.workers or _processors())
    show(report, folder)


def write(report: dict[str, Any], folder: Path) -> None:
    """Writes the files of a report, except figures and page.

    Args:
        report: see `ecgjax.reporting.schema`.
        folder: where to; it exists.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    atomic.write_text(folder / RESULTS, as_lines(report))
    _write_table(folder / CSV, pd.DataFrame([_flat(row) for row in report["rows"]]))
    keys = ("task", "model", "mode", "protocol", "metric", "role", "seeds", "run")
    labels = []
    for row in report["rows"]:
        about = {key: _cell(row[key]) for key in keys}
        labels += [{**about, "label": name, **label} for name, label in row["labels"].items()]
    _write_table(folder / LABELS, pd.DataFrame(labels))
    atomic.write_text(folder / LATEX, report_tables.as_latex(report))
    atomic.write_text(folder / MARKDOWN, report_tables.as_markdown(report))
    for name, end in itertools.product((PAPER, FAIRNESS, CALIBRATION), ("csv", "md")):  # of an earlier report
        (folder / f"{name}.{end}").unlink(missing_ok=True)
    if report.get("fairness"):
        _write_table(folder / f"{FAIRNESS}.csv", pd.DataFrame(report["fairness"]))
        atomic.write_text(folder / f"{FAIRNESS}.md", group_tables.fairness(report))
    if any(curve.get("numbers") for curve in report["curves"]):
        _write_table(folder / f"{CALIBRATION}.csv", pd.DataFrame(group_tables.calibration_rows(report)))
        atomic.write_text(folder / f"{CALIBRATION}.md", group_tables.calibration(report))
    if report["paper"]:
        cells = pd.DataFrame(report["paper"]["cells"])
        _write_table(folder / f"{PAPER}.csv", cells)
        atomic.write_text(folder / f"{PAPER}.md", paper_markdown(cells, report["paper"]["counts"]))


def as_lines(report: dict[str, Any]) -> str:
    """JSON with one entry of each list on a line: quick to write, and a diff of two reports can be read."""
    parts = []
    for key, value in report.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
        else:
            text = json.dumps(value, allow_nan=False)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def paper_markdown(cells: pd.DataFrame, counts: dict[str, int]) -> str:
    """Results beside the published ones, with the counts at the end."""
    lines = ["### Beside the published values (arXiv 2509.25095)", ""]
    beside = []
    for cell in cells.to_dict("records"):
        here, there = (
            f"{_number(cell[value])} [{_number(cell[low])}, {_number(cell[high])}]"
            for value, low, high in (("value", "low", "high"), ("published", "published_low", "published_high"))
        )
        overlap = "yes" if cell["overlap"] else "no"
        texts = cell["row"], cell["model"], cell["mode"], cell["protocol"], here, there
        beside.append([*texts, _number(cell["difference"], "+"), overlap, cell["flag"] or ""])
    lines += markdown.table(_BESIDE, beside, "llllrrrll")
    lines += ["", f"{paper_counts(counts)}", ""]
    return "\n".join(lines)


def paper_counts(counts: dict[str, int]) -> str:
    """One sentence."""
    return (
        f"{counts['cells']} cells are in the paper: {counts['overlap']} with overlapping intervals, {counts['close']} "
        f"within 0.01; {counts['flagged']} published cells are suspicious, {counts['unflagged_apart']} of the others "
        "are apart."
    )


def show(report: dict[str, Any], folder: Path, console: Console | None = None) -> None:
    """Prints what was compared, what was left out, and where the files are."""
    console = console or Console(width=100, highlight=False)
    compared = [row for row in report["rows"] if row["role"] != "seed"]
    counts = [len({row[key] for row in compared}) for key in ("model", "task", "mode")]
    console.print(
        f"{len(report['runs']):,} runs: {counts[0]} models, {counts[1]} tasks, {counts[2]} modes; "
        f"{len(compared):,} values in {len(report['pairs'])} comparisons"
    )
    for note in report["notes"]:
        console.print(f"note      {note}", soft_wrap=True)
    for entry in report["excluded"][:_MOST_SHOWN]:
        console.print(f"left out  {entry['path']}: {entry['reason']}", soft_wrap=True)
    if len(report["excluded"]) > _MOST_SHOWN:
        console.print(f"left out  {len(report['excluded']) - _MOST_SHOWN} more, see {RESULTS}")
    if report["paper"]:
        console.print(f"paper     {paper_counts(report['paper']['counts'])}", soft_wrap=True)
    named = {RESULTS: "all values", CSV: "rows", LABELS: "labels", MARKDOWN: "tables", LATEX: "tables"}
    named |= {f"{FAIRNESS}.md": "by sex and age", f"{CALIBRATION}.md": "of the labels that were asked for"}
    named |= {"figures": "PNG and SVG", "index.html": "the page"}
    for name, what in named.items():
        if (folder / name).exists():
            console.print(f"{what:12s}{folder / name}", soft_wrap=True)


_MOST_SHOWN = 20
_PARTS = {"spread": ("min", "max", "sd"), "delong": ("se", "low", "high")}  # columns also where a row has none


def _settings(config: ConfigDict) -> tuple[Bootstrap, Rules]:
    for name, choices in (
        ("interval.kind", ("percentile", "basic", "bca")),
        ("interval.unit", ("record", "patient")),
        ("multiplicity", ("none", "holm")),
        ("rank_rule", ("groups", "wins")),
        ("numbering", ("dense", "competition")),
        ("aggregation", ("median", "mean")),
    ):
        first, _, rest = name.partition(".")
        check_choice(f"config.{name}", config[first][rest] if rest else config[first], choices)
    interval = config.interval
    if interval.replicates < 2:
        raise UserError(f"config.interval.replicates is {interval.replicates}; expected 2 or more")
    if not 0 < interval.level < 1:
        raise UserError(f"config.interval.level is {interval.level}; expected a coverage such as 0.95")
    if interval.seed < 0:
        raise UserError(f"config.interval.seed is {interval.seed}; expected 0 or more")
    rules = Rules(config.multiplicity, config.rank_rule, config.numbering, config.aggregation)
    return Bootstrap(**interval.to_dict()), rules


def _build(
    found: Collection, settings: Bootstrap, rules: Rules, folder: Path, config: ConfigDict, sources: list[str]
) -> dict[str, Any]:
    kept = folder / REPORT_CELLS
    with disk_errors(folder):
        kept.mkdir(parents=True, exist_ok=True)
    workers = config.workers or _processors()
    with _progress(len(found.cells)) as tick:
        entries, excluded = rows.of_runs(found.cells, settings, kept, workers=workers, tick=tick)
    for source in found.reports:
        more, further = rows.of_report(source, settings, kept)
        entries, excluded = entries + more, excluded + further
    entries, copies = clashes.without_copies(entries)
    clashes.refuse_clashes(entries, weights_by_seed=config.weights_by_seed)
    entries, others = clashes.without_other_records(entries)
    excluded = [*found.excluded, *excluded, *copies, *others]
    if not entries:
        raise UserError(f"config.runs: no run can be used; the first: {excluded[0][0]}: {excluded[0][1]}")
    used = {name for entry in entries for name in entry.row["cells"]}
    for path in kept.iterdir():
        if path.name not in used:
            path.unlink()
    cells = [entry.cell for entry in entries]
    fairness, reasons = group_values.of_cells(cells, settings) if config.fairness else ([], [])
    report = assemble(
        entries,
        settings,
        rules,
        sources=sources,
        excluded=excluded,
        others=found.others,
        curves=_curves(cells, _listed(config.curves), settings),
    )
    return {**report, "fairness": plain(fairness), "notes": [*report["notes"], *reasons]}


def _curves(cells: list[Cell | None], wanted: list[str], settings: Bootstrap) -> list[dict[str, Any]]:
    chosen = [item.partition("/")[::2] for item in wanted]
    result = []
    used: set[tuple[str, str]] = set()
    for cell in {cell.path: cell for cell in cells if cell is not None}.values():
        mine = [(task, label) for task, label in chosen if label in _labels(cell, task)]
        found = cell.predictions() if mine else None
        for task, label in mine:
            assert found is not None
            used.add((task, label))
            column = found.labels.index(label)
            drawn = curves.curve(f"{task}/{label}", found.targets[:, column], found.scores[:, column])
            about = {"model": cell.model, "mode": cell.mode, "protocol": cell.protocol, "seeds": [cell.seed]}
            numbers = group_values.calibration_of(found, column, settings)
            result.append({"task": task, "label": label, **about, **drawn, "numbers": numbers})
    unused = [item for item, pair in zip(wanted, chosen, strict=True) if pair not in used]
    if unused:
        raise UserError(f"config.curves: {unused[0]!r}: no run with such a label at hand; expected TASK/LABEL")
    return result


def _labels(cell: Cell, task: str) -> dict[str, Any]:
    return cell.results["tasks"].get(task, {}).get("auroc", {}).get("labels", {})


def _draw(report: dict[str, Any], folder: Path, workers: int) -> None:
    # Matplotlib takes a second to import: only where it is wanted.
    from ecgjax.reporting.page import write_page
    from ecgjax.reporting.report_figures import write_figures

    figures = write_figures(report, folder / "figures", workers)
    current = {path for figure in figures for path in (figure.png, figure.svg)}
    for path in (folder / "figures").iterdir():
        if path.suffix in (".png", ".svg") and path not in current:  # of an earlier report
            path.unlink()
    write_page(report, figures, folder / "index.html")


def _nothing(found: Collection, where: str) -> str:
    if not found.excluded:
        return f"config.runs: {where}: no run below it; expected folders with config.json, results.json and DONE"
    path, reason = found.excluded[0]
    return f"config.runs: {where}: none of {len(found.excluded)} runs below it can be used; the first: {path}: {reason}"


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row's fields side by side; what does not fit a table is left out."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("labels", "arguments", "population", "cells", "ranks"):
            continue
        if value is None and key in _PARTS:
            value = dict.fromkeys(_PARTS[key])
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}_")
        else:
            flat[f"{prefix}{key}"] = _cell(value)
    return flat


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None or value != value else f"{value:{sign}.3f}"


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic.replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _pair(text: str) -> tuple[str, str]:
    path, equals, name = text.partition("=")
    if not (path and equals and name):
        raise UserError(f"config.rename: {text!r}; expected PATH=NAME")
    return path, name


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("runs", total=total)
        yield lambda: progress.advance(task)
