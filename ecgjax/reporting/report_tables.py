"""Tables of a report in the paper's form, for LaTeX and Markdown: tasks by category, models side by side.

One table of values and one of intervals for each mode and protocol, and one of the categories' ranks. The best value is
bold; the raised number is the rank, which models share that do not differ significantly; a dagger marks values on data
whose recordings the model's released weights saw in pretraining.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecgjax.reporting import markdown, style, unseen
from ecgjax.reporting.markdown import escaped
from ecgjax.reporting.schema import HIGHER_IS_BETTER, SCRATCH

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        text: number, or number and interval.
        bold: the best of its row.
        rank: shown raised; None shows none.
        seen: whether the model's weights saw the data.
    """

    text: str
    bold: bool = False
    rank: float | None = None
    seen: bool = False


@dataclass(frozen=True)
class ReportTable:
    """A table, independent of how it is written.

    Attributes:
        label: for references; unique.
        caption: sentences.
        models: column heads.
        sections: (head, rows) of each category; a row is its name and one cell for each model, None where there is
            none.
    """

    label: str
    caption: str
    models: list[str]
    sections: list[tuple[str, list[tuple[str, list[Cell | None]]]]] = field(default_factory=list)


def tables(report: Mapping[str, Any]) -> list[ReportTable]:
    """All tables of a report.

    Args:
        report: see `ecgjax.reporting.schema`.
    """
    found = []
    for (mode, protocol), pairs in _grouped(report["pairs"]).items():
        found.append(_values(report, mode, protocol, pairs, with_intervals=False))
        found.append(_values(report, mode, protocol, pairs, with_intervals=True))
    for (mode, protocol), entries in _grouped(report["ranks"]).items():
        found.append(_ranks(report, mode, protocol, entries))
    for (mode, protocol), pairs in _grouped(report["pairs"]).items():
        if any("rank_unseen" in pair and unseen.matters(report, pair) for pair in pairs):
            categories = _grouped(report["ranks"]).get((mode, protocol), [])
            found.append(_ranks_unseen(report, mode, protocol, pairs, categories))
    return found


def as_markdown(report: Mapping[str, Any]) -> str:
    """All tables as GitHub Markdown."""
    return "\n".join(_markdown(table) for table in tables(report))


def as_latex(report: Mapping[str, Any]) -> str:
    r"""All tables as LaTeX, to be \input; needs the packages booktabs and graphicx."""
    head = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    return head + "\n".join(_latex(table) for table in tables(report))


def _values(
    report: Mapping[str, Any], mode: str, protocol: str, pairs: Sequence[Mapping[str, Any]], *, with_intervals: bool
) -> ReportTable:
    models = _models(report, pairs)
    sections: dict[str, list[tuple[str, list[Cell | None]]]] = {}
    for pair in pairs:
        cells = {}
        for model, i, rank in zip(pair["models"], pair["rows"], pair["rank"], strict=True):
            row = report["rows"][i]
            if row["value"] is not None:
                best = row["ranks"][pair["mode"]]["best"]
                text = _with_interval(row) if with_intervals else f"{row['value']:.3f}"
                cells[model] = Cell(text, best, None if with_intervals else rank, bool(row["seen"]))
        arrow = "" if HIGHER_IS_BETTER[pair["metric"]] else " (MAE ↓)"
        name = (pair["row"] or pair["task"]) + arrow
        sections.setdefault(pair["category"], []).append((name, [cells.get(model) for model in models]))
    settings = report["settings"]
    used = [report["rows"][i] for pair in pairs for i in pair["rows"]]
    what = f"{100 * settings['level']:g} % intervals" if with_intervals else "Values"
    caption = [f"{what}, {style.mode_name(mode)}, protocol {protocol}.", _metrics({pair["metric"] for pair in pairs})]
    if with_intervals:
        made = f"{_KINDS[settings['kind']]} bootstrap of {settings['unit']}s, {settings['replicates']:,} replicates"
        caption.append(f"{made}. Bold: best.")
    else:
        caption.append(
            f"Bold: best. Raised: rank; models that share it do not differ significantly ({_test(settings)})."
        )
    if any(row["seen"] for row in used):
        caption.append(f"†: {style.SEEN}.")
    if any(row["role"] == "mean" for row in used):
        caption.append("Cells run with several seeds hold their mean.")
    if any(row["data"]["synthetic"] for row in used):
        caption.append("Synthetic data, not real patients, are among them.")
    label = f"tab:{'intervals' if with_intervals else 'values'}-{mode}-{protocol}"
    return ReportTable(label, " ".join(caption), [style.model_name(model) for model in models], _named(sections))


def _ranks(report: Mapping[str, Any], mode: str, protocol: str, entries: Sequence[Mapping[str, Any]]) -> ReportTable:
    models = _models(report, entries)
    rows: list[tuple[str, list[Cell | None]]] = []
    how = report["settings"]["aggregation"]
    for entry in entries:
        known = [(rank, mean) for rank, mean in zip(entry["rank"], entry["mean"], strict=True) if rank is not None]
        best = min(known, default=None)
        cells: dict[str, Cell] = {}
        for model, rank, mean in zip(entry["models"], entry["rank"], entry["mean"], strict=True):
            if rank is not None:
                text = f"{rank:g}" if how == "mean" or len(entry["tasks"]) == 1 else f"{rank:g} ({mean:.2f})"
                cells[model] = Cell(f"{rank:.2f}" if how == "mean" else text, (rank, mean) == best)
        count = len(entry["tasks"])
        name = f"{style.capital(style.category_name(entry['category']))} ({count} task{'s' if count > 1 else ''})"
        rows.append((name, [cells.get(model) for model in models]))
    settings = report["settings"]
    brackets = "; in brackets the mean, which breaks ties for bold" if how == "median" else ""
    caption = (
        f"Ranks by category, {style.mode_name(mode)}, protocol {protocol}. The {how} over the tasks{brackets}. "
        f"On a task {_RULES[settings['rank_rule']]} ({_test(settings)}; {settings['numbering']} numbering). "
        "A model without a result on every task of a category has no rank in it."
    )
    return ReportTable(
        f"tab:ranks-{mode}-{protocol}", caption, [style.model_name(model) for model in models], [("", rows)]
    )


def _ranks_unseen(
    report: Mapping[str, Any],
    mode: str,
    protocol: str,
    pairs: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> ReportTable:
    """Ranks on every task, then of the categories, among the models that never saw the data."""
    models = _models(report, pairs)
    sections: dict[str, list[tuple[str, list[Cell | None]]]] = {}
    marks = {"saw": "†", "unknown": "?", "never": MISSING}
    for pair in pairs:
        cells = {}
        known = [rank for rank in pair["rank_unseen"] if rank is not None]
        for model, i, rank in zip(pair["models"], pair["rows"], pair["rank_unseen"], strict=True):
            state = unseen.pretraining(report["rows"][i])
            cells[model] = Cell(marks[state] if rank is None else f"{rank:g}", rank is not None and rank == min(known))
        name = (pair["row"] or pair["task"]) + ("" if HIGHER_IS_BETTER[pair["metric"]] else " (MAE)")
        sections.setdefault(pair["category"], []).append((name, [cells.get(model) for model in models]))
    how = report["settings"]["aggregation"]
    of_categories = []
    for entry in categories:
        known = [rank for rank in entry["rank_unseen"] if rank is not None]
        ranked = dict(zip(entry["models"], entry["rank_unseen"], strict=True))
        shown = [
            (None if (rank := ranked.get(model)) is None else Cell(f"{rank:g}", rank == min(known))) for model in models
        ]
        of_categories.append((style.capital(style.category_name(entry["category"])), shown))
    caption = (
        f"Ranks among models that never saw the data, {style.mode_name(mode)}, protocol {protocol}. On each task only "
        "models whose weights did not see its recordings in pretraining are compared, by the rule of the other ranks "
        f"({_test(report['settings'])}). †: saw them; ?: not known. Below: the {how} over the "
        "tasks of a category, of models that saw none of them."
    )
    named = [*_named(sections), (f"Categories ({how})", of_categories)]
    return ReportTable(f"tab:unseen-{mode}-{protocol}", caption, [style.model_name(model) for model in models], named)


_KINDS = {"percentile": "Percentile", "basic": "Basic", "bca": "BCa"}
_RULES = {
    "groups": "the best model left opens a group that all models join that are not significantly worse than it",
    "wins": "a model's rank is 1 + the number of models that are significantly better",
}


def _test(settings: Mapping[str, Any]) -> str:
    level = f"{100 * settings['level']:g} %"
    if settings["multiplicity"] == "holm":
        return f"paired bootstrap, p below {1 - settings['level']:.3g} after Holm's adjustment over the row's pairs"
    return f"paired bootstrap, {level} interval of the difference, no adjustment for multiplicity"


def _metrics(metrics: set[str]) -> str:
    auroc, mae = (
        "macro AUROC (higher is better)",
        "mean absolute error in standard deviations, pooled (lower is better)",
    )
    if metrics == {"auroc"}:
        return f"{style.capital(auroc)}."
    return f"{style.capital(mae)}." if metrics == {"mae"} else f"{style.capital(auroc)}; where marked MAE, {mae}."


def _with_interval(row: Mapping[str, Any]) -> str:
    low, high = (MISSING if row[key] is None else f"{row[key]:.3f}" for key in ("low", "high"))
    return f"{row['value']:.3f} [{low}, {high}]"


def _named(sections: Mapping[str, list[tuple[str, list[Cell | None]]]]) -> list[tuple[str, Any]]:
    return [(style.capital(style.category_name(category)), rows) for category, rows in sections.items()]


def _models(report: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of compared models, pretrained ones first."""
    scratch = {
        model
        for pair in report["pairs"]
        for model, i in zip(pair["models"], pair["rows"], strict=True)
        if report["rows"][i]["mode"] == SCRATCH
    }
    every = dict.fromkeys(model for entry in entries for model in entry["models"])
    return sorted(every, key=lambda model: (model in scratch, model))


def _grouped(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault((entry["mode"], entry["protocol"]), []).append(entry)
    return groups


def _markdown(table: ReportTable) -> str:
    def write(cell: Cell | None) -> str:
        if cell is None:
            return MISSING
        text = f"**{cell.text}**" if cell.bold else cell.text
        return text + ("" if cell.rank is None else f"<sup>{cell.rank:g}</sup>") + ("†" if cell.seen else "")

    lines = [f"### {_first_sentence(table.caption)}", "", table.caption, ""]
    rows: list[list[str]] = []
    for head, members in table.sections:
        if head:
            rows.append([f"**{escaped(head)}**"])
        rows += [[escaped(name), *map(write, cells)] for name, cells in members]
    lines += markdown.table(["", *map(escaped, table.models)], rows)
    return "\n".join(lines) + "\n"


def _latex(table: ReportTable) -> str:
    def write(cell: Cell | None) -> str:
        if cell is None:
            return "--"
        value, bracket, interval = cell.text.replace(MISSING, "--").partition(" [")
        # Below the value: side by side, ten models would be too small to read on a page.
        text = f"\\shortstack[r]{{{value}\\\\{{\\scriptsize [{interval}}}}}" if bracket else value
        text = f"\\textbf{{{text}}}" if cell.bold else text
        raised = ("" if cell.rank is None else f"{cell.rank:g}") + ("\\dagger" if cell.seen else "")
        return text + (f"$^{{{raised}}}$" if raised else "")

    columns = len(table.models)
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{_escape_latex(table.caption)}}}"]
    # The class leaves no space below a caption that stands above.
    lines += [f"\\label{{{table.label}}}", "\\vspace{\\abovecaptionskip}", "\\resizebox{\\textwidth}{!}{%"]
    lines += [f"\\begin{{tabular}}{{l{'r' * columns}}}", "\\toprule"]
    lines += [" & ".join(["", *map(_escape_latex, table.models)]) + " \\\\"]
    for head, rows in table.sections:
        lines.append("\\midrule")
        if head:
            lines.append(f"\\multicolumn{{{columns + 1}}}{{l}}{{\\textit{{{_escape_latex(head)}}}}} \\\\")
        for name, cells in rows:
            stacked = any(cell is not None and " [" in cell.text for cell in cells)
            lines.append(" & ".join([_escape_latex(name), *map(write, cells)]) + " \\\\" + "[3pt]" * stacked)
    lines += ["\\bottomrule", "\\end{tabular}}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def _first_sentence(text: str) -> str:
    return text.split(". ", maxsplit=1)[0]


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "†": "$\\dagger$",
    "↓": "$\\downarrow$",
    MISSING: "--",
}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
