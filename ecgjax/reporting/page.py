"""A report as one HTML file that needs nothing else: no network, no server, no build step.

Tables and figures are plain HTML. A short script filters and sorts them and opens what is behind a number, from data
that the file carries compressed. A content security policy forbids the page to load anything.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ecgjax.atomic import write_text
from ecgjax.reporting import page_data, page_studies, page_tables, style
from ecgjax.reporting.figure_plans import rank_rule
from ecgjax.reporting.report_figures import Figure
from ecgjax.reporting.schema import SCRATCH

_SECTIONS = {
    "summary": "Summary",
    "overview": "Values",
    "ranks": "Ranks",
    "results": "All results",
    "efficiency": "Label efficiency",
    "figures": "Figures",
    "paper": "Published values",
    "excluded": "Not included",
    "settings": "Method",
}
_OPTIONAL = ("overview", "ranks", "efficiency", "figures", "paper", "excluded")
_KINDS = {
    "ranks": "Ranks of every model on every task",
    "critical difference": "Which models differ",
    "forest": "Values with their intervals",
    "label efficiency": "Label efficiency",
    "similarity": "Similarity of layers",
    "curves": "ROC and calibration",
}


def write_page(report: Mapping[str, Any], figures: Sequence[Figure], out: Path) -> None:
    """Writes the page.

    Args:
        report: see `ecgjax.reporting.schema`; "title", and a row's "flag" (a remark on its value), are shown if there.
        figures: in the order in which they are to be read; their SVG files are put into the page.
        out: the HTML file.

    Raises:
        UserError: the disk is full or the file may not be written.
    """
    files = resources.files("ecgjax.reporting") / "page"
    template, css, script = ((files / f"page.{end}").read_text("utf-8") for end in ("html", "css", "js"))
    tables = {
        "overview": page_tables.overview(report),
        "ranks": page_tables.ranks(report),
        "results": page_tables.results(report),
        "efficiency": page_studies.label_efficiency(report["label_efficiency"]),
        "figures": "".join(page_tables.figure_list(_figures(figures))),
        "paper": page_tables.paper(report["paper"]),
        "excluded": page_tables.excluded(report["excluded"]),
        "summary": _summary(report),
        "settings": _settings(report),
    }
    page = Template(template).substitute(
        **tables,
        **{f"{name}_hidden": "" if tables[name] else " hidden" for name in _OPTIONAL},
        title=escape(report.get("title") or _title(report)),
        notices="".join(f'<p class="notice">{escape(note)}</p>' for note in report["notes"]),
        navigation="".join(f'<a href="#{key}">{name}</a>' for key, name in _SECTIONS.items() if tables[key]),
        overview_note=escape(_overview_note(report)),
        ranks_note=escape(_ranks_note(report)),
        filters=page_tables.filters(report),
        shown=f"{len(report['rows']):,} results",
        csv=page_data.as_csv(report),
        data=page_data.embedded(report),
        style=css,
        style_hash=_hash(css),
        script=script,
        script_hash=_hash(script),
        version=escape(report["ecgjax"]),
    )
    write_text(out, page)


def _title(report: Mapping[str, Any]) -> str:
    models, tasks = _distinct(report, "model"), _distinct(report, "task")
    if len(models) == 1 and len(tasks) == 1:
        return f"{style.model_name(models[0])} on {tasks[0]}"
    return f"{len(models)} ECG model{'s' * (len(models) != 1)} on {len(tasks)} task{'s' * (len(tasks) != 1)}"


def _summary(report: Mapping[str, Any]) -> str:
    counts = {
        "models": len(_distinct(report, "model")),
        "tasks": len(_distinct(report, "task")),
        "results": len(report["rows"]),
        "runs": len({run for row in report["rows"] for run in row["runs"]}),
        "not included": len(report["excluded"]),
    }
    items = "".join(f"<li><b>{count:,}</b> {name}</li>" for name, count in counts.items() if count)
    modes = ", ".join(map(style.mode_name, _distinct(report, "mode")))
    sources = ", ".join(dict.fromkeys(row["data"]["source"] for row in report["rows"]))
    absent = {"skip": "classes without a value are left out", "half": "classes without a value count 0.5"}
    protocols = ", ".join(f"{name} ({absent.get(rule, rule)})" for name, rule in report["settings"]["absent"].items())
    words = [("Modes", modes), ("Data", sources), ("Protocols", protocols), ("Intervals", _intervals(report))]
    return f'<ul class="counts">{items}</ul>{page_tables.facts(words)}'


def _intervals(report: Mapping[str, Any]) -> str:
    settings = report["settings"]
    if not settings["replicates"]:
        return f"{100 * settings['level']:g} %, {settings['kind']}"
    return (
        f"{100 * settings['level']:g} %, {settings['kind']} bootstrap of {settings['unit']}s, "
        f"{settings['replicates']:,} replicates"
        + ("" if settings["rank_rule"] == "value" else ", the same resamples for all models of a task")
    )


def _overview_note(report: Mapping[str, Any]) -> str:
    rows = report["rows"]
    words = ["Bold on blue: first rank, alone or shared; the raised number is the rank, below is the interval."]
    if any(row["metric"] == "mae" for row in rows):
        words.append("↓: lower is better.")
    if any(row["seen"] for row in rows):
        words.append(f"† {style.SEEN}.")
    if any(row.get("flag") for row in rows):
        words.append("‡ a value with a remark.")
    if any(row["mode"] == SCRATCH for row in rows):
        words.append("Models trained from scratch stand beside every mode.")
    return " ".join([*words, "Open a value to see what is behind it."])


def _ranks_note(report: Mapping[str, Any]) -> str:
    how = report["settings"]["aggregation"]
    return f"{rank_rule(report)} Over the tasks of a category: the {how}. A model that lacks a task of it has no rank."


def _settings(report: Mapping[str, Any]) -> str:
    settings = report["settings"]
    tests = {"none": "no adjustment", "holm": "Holm, over the pairs of a comparison"}
    words = [
        ("Metrics", "; ".join(style.metric_name(metric) for metric in _distinct(report, "metric"))),
        ("Intervals", _intervals(report)),
        ("Seed of the bootstrap", str(settings["seed"])),
        ("Multiplicity", tests.get(settings["multiplicity"])),
        ("Ranks on a task", rank_rule(report)),
        ("Numbering", settings["numbering"]),
        ("Ranks of a category", settings["aggregation"]),
        ("Collected from", ", ".join(report["sources"])),
    ]
    return page_tables.facts(words)


def _figures(figures: Sequence[Figure]) -> Iterator[tuple[str, str]]:
    for (kind,), members in page_tables.grouped([figure._asdict() for figure in figures], "kind").items():
        yield f"{_KINDS.get(kind, kind)} ({len(members)})", "".join(map(_figure, members))


def _figure(figure: Mapping[str, Any]) -> str:
    title, name = escape(figure["title"]), escape(figure["name"])
    address = "data:image/svg+xml;base64," + base64.b64encode(figure["svg"].read_bytes()).decode("ascii")
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<img src="{address}" alt="{title}" loading="lazy" decoding="async"></div>'
        f"<figcaption><b>{title}.</b> {escape(figure['caption'])} "
        f'<button type="button" class="save screen" data-name="{name}.svg" disabled>Save as SVG</button>'
        "</figcaption></figure>"
    )


def _distinct(report: Mapping[str, Any], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in report["rows"]))


def _hash(text: str) -> str:
    """For the content security policy: only this very script and style are run and used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
