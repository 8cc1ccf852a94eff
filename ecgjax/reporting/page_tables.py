"""The tables of the HTML page, as static HTML: they are there without JavaScript, which only filters and sorts them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ecgjax.reporting import style, unseen
from ecgjax.reporting.schema import MODES

NONE = "–"
_METRICS = {"auroc": "AUROC", "mae": "MAE"}
_FILTERS = ("category", "task", "mode", "model", "protocol", "metric", "pretraining")

Row = Mapping[str, Any]


def overview(report: Mapping[str, Any]) -> str:
    """Tasks by models with intervals, one table for each mode and protocol; the first is open."""
    parts: list[str] = []
    for (mode, protocol), pairs in grouped(report["pairs"], "mode", "protocol").items():
        models = list(dict.fromkeys(model for pair in pairs for model in pair["models"]))
        body = []
        for category, members in grouped(pairs, "category").items():
            name = style.capital(style.category_name(category[0]))
            body.append(f'<tr class="group"><th scope="colgroup" colspan="{len(models) + 1}">{escape(name)}</th></tr>')
            for pair in members:
                cells = dict(zip(pair["models"], zip(pair["rows"], pair["rank"], strict=True), strict=True))
                shown = [_value_cell(report, cells.get(model), pair["mode"]) for model in models]
                body.append(f'<tr><th scope="row">{escape(_task(pair))}{_arrow(pair)}</th>{"".join(shown)}</tr>')
        heads = "".join(f'<th scope="col" class="n">{escape(style.model_name(model))}</th>' for model in models)
        title = _setting(mode, protocol)
        table = f"<table><thead><tr><th>Task</th>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        parts.append(_folded(title, _scroll(title, table), opened=not parts))
    return "".join(parts)


def ranks(report: Mapping[str, Any]) -> str:
    """Categories by models, one table for each mode and protocol; then among models that never saw the data."""
    parts: list[str] = []
    among = {"": ("rank", "mean"), ", among models that never saw the data": ("rank_unseen", "mean_unseen")}
    for words, (of_rank, of_mean) in among.items():
        for (mode, protocol), entries in grouped(report["ranks"], "mode", "protocol").items():
            if words and all(entry.get(of_rank, entry["rank"]) == entry["rank"] for entry in entries):
                continue
            models = list(dict.fromkeys(model for entry in entries for model in entry["models"]))
            body = []
            for entry in entries:
                ranked = dict(zip(entry["models"], zip(entry[of_rank], entry[of_mean], strict=True), strict=True))
                known = [rank for rank, _ in ranked.values() if rank is not None]
                name, count = style.capital(style.category_name(entry["category"])), len(entry["tasks"])
                tasks = f'<span class="sub">{count} task{"s" if count != 1 else ""}</span>'
                cells = "".join(_rank_cell(ranked.get(model, (None, None)), known, count) for model in models)
                body.append(f'<tr><th scope="row">{escape(name)}{tasks}</th>{cells}</tr>')
            heads = "".join(f'<th scope="col" class="n">{escape(style.model_name(model))}</th>' for model in models)
            title = _setting(mode, protocol) + words
            table = f"<table><thead><tr><th>Category</th>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            parts.append(_folded(title, _scroll(f"Ranks, {title}", table), opened=not parts))
    return "".join(parts)


def results(report: Mapping[str, Any]) -> str:
    """All rows of the report; those of narrow screens have fewer columns."""
    shown = _columns(report)
    heads = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in shown.items())
    ordered = sorted(enumerate(report["rows"]), key=_place(report))
    body = "".join(_result(index, row, shown) for index, row in ordered)
    table = f'<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="full">{table}</div>'


def _columns(report: Mapping[str, Any]) -> dict[str, str]:
    """Heads of the table and their classes; a column that says the same everywhere is left out."""
    columns = {
        "Task": "task",
        "Model": "model",
        "Mode": "wide",
        "Protocol": "wide",
        "Metric": "wide",
        "Value": "n value",
    }
    columns |= {"Rank": "n rank", "Rank, unseen": "n rank", "Seed": "n wide", "Records": "n wide", "Labels": "n wide"}
    columns |= {"Parameters": "n wide", "Seconds": "n wide"}
    rows = report["rows"]
    same = {"Mode": "mode", "Protocol": "protocol", "Metric": "metric", "Records": "records", "Labels": "classes"}
    left_out = {name for name, key in same.items() if len({row[key] for row in rows}) == 1}
    shown = [row for row in rows if row["rank"] is not None]
    left_out |= {"Rank, unseen"} if all(row["rank"] == row.get("rank_unseen", row["rank"]) for row in shown) else set()
    left_out |= {"Seed"} if all(row["role"] == "single" for row in rows) else set()
    left_out |= {"Parameters"} if not any(row["parameters"].get("total") for row in rows) else set()
    left_out |= {"Seconds"} if not any(map(_seconds, rows)) else set()
    return {name: kind for name, kind in columns.items() if name not in left_out}


def _result(index: int, row: Row, columns: Iterable[str]) -> str:
    data = "".join(f' data-{key}="{escape(str(_filtered(row, key)))}"' for key in _FILTERS)
    seeds = ", ".join(str(seed) for seed in row["seeds"])
    seed = f"mean of {len(row['seeds'])}" if row["role"] == "mean" else seeds
    metric = str(_METRICS.get(row["metric"], row["metric"]))
    own = " · ".join(
        [style.mode_name(row["mode"]), row["protocol"], metric, *([seed] if row["role"] != "single" else [])]
    )
    category = escape(style.category_name(row["category"]))
    task = f'{escape(_task(row))}<span class="sub">{category}, {escape(row["data"]["source"])}</span>'
    parameters = row["parameters"].get("total")
    model = f'{escape(style.model_name(row["model"]))}{_marks(row)}<span class="narrow">{escape(own)}</span>'
    best = " best" if row["rank"] == 1 else ""
    cells = {
        "Task": f'<th scope="row">{task}</th>',
        "Model": f"<td>{model}</td>",
        "Mode": f'<td class="wide mode">{escape(style.mode_name(row["mode"]))}</td>',
        "Protocol": f'<td class="wide">{escape(row["protocol"])}</td>',
        "Metric": f'<td class="wide">{escape(metric)}{_arrow(row)}</td>',
        "Value": f'<td class="n{best}" data-v="{_plain(row["value"])}">{_value(row, index)}</td>',
        "Rank": f'<td class="n" data-v="{_plain(row["rank"])}">{_general(row["rank"])}</td>',
        "Rank, unseen": f'<td class="n" data-v="{_plain(row.get("rank_unseen"))}">'
        f"{_general(row.get('rank_unseen'))}</td>",
        "Seed": f'<td class="n wide">{escape(seed) or NONE}</td>',
        "Records": _count(row["records"], f"{row['records']:,}"),
        "Labels": _count(row["classes"], f"{row['defined']} of {row['classes']}"),
        "Parameters": _count(parameters, _short(parameters or 0)),
        "Seconds": _count(_seconds(row), f"{_seconds(row) or 0:,.0f}"),
    }
    return f"<tr{data}>{''.join(cells[name] for name in columns)}</tr>"


def filters(report: Mapping[str, Any]) -> str:
    """A select for every column that has more than one value."""
    names: dict[str, Callable[[str], str]] = {
        "category": style.category_name,
        "mode": style.mode_name,
        "model": style.model_name,
        "metric": lambda metric: _METRICS.get(metric, metric),
        "pretraining": lambda state: unseen.WORDS[state],
    }
    parts = []
    for key in _FILTERS:
        values = dict.fromkeys(_filtered(row, key) for row in report["rows"])
        if len(values) < 2:
            continue
        shown = {value: names.get(key, str)(value) for value in values}
        if key == "task":
            shown = {row["task"]: _task(row) for row in report["rows"]}
        options = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in shown.items())
        parts.append(
            f'<label>{key.capitalize()} <select name="{key}"><option value="">all</option>{options}</select></label>'
        )
    return "".join(parts)


def _filtered(row: Row, key: str) -> str:
    return unseen.pretraining(row) if key == "pretraining" else row[key]


def paper(found: Mapping[str, Any] | None) -> str:
    """Results beside the published values."""
    if not found or not found["cells"]:
        return ""
    counts = found["counts"]
    words = (
        f"Results with a published value: {counts['cells']}. Differing by at most 0.01: {counts['close']}; with "
        f"intervals that overlap: {counts['overlap']}. Published values not to be taken at face value: "
        f"{counts['flagged']}; others with intervals apart from those here: {counts['unflagged_apart']}."
    )
    heads = ("Task", "Model", "Mode", "Protocol", "Here", "Published", "Difference", "Intervals", "Remark")
    kinds = ("", "", "", "wide", "n", "n", "n", "", "wide")
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in zip(heads, kinds, strict=True))
    lines = []
    for cell in found["cells"]:
        theirs = {"value": cell["published"], "low": cell["published_low"], "high": cell["published_high"]}
        difference = NONE if cell["difference"] is None else f"{cell['difference']:+.3f}"
        lines.append(
            f'<tr><th scope="row">{escape(_task(cell))}</th><td>{escape(style.model_name(cell["model"]))}</td>'
            f'<td>{escape(style.mode_name(cell["mode"]))}</td><td class="wide">{escape(cell["protocol"])}</td>'
            f'<td class="n" data-v="{_plain(cell["value"])}">{_number(cell)}</td>'
            f'<td class="n" data-v="{_plain(theirs["value"])}">{_number(theirs)}</td>'
            f'<td class="n" data-v="{_plain(cell["difference"])}">{difference}</td>'
            f"<td>{'overlap' if cell['overlap'] else 'apart'}{' ‡' if cell['flag'] else ''}</td>"
            f'<td class="wide small">{escape(cell["flag"])}</td></tr>'
        )
    table = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    note = '<p class="note">‡: the published value is suspicious, see the remark.</p>' if counts["flagged"] else ""
    return f"<p>{escape(words)}</p>{note}{_scroll('Results beside the published values', table)}"


def excluded(entries: Sequence[Row]) -> str:
    """What was found and is not in the report, and why."""
    lines = "".join(
        f'<tr><td class="wrap">{escape(entry["path"])}</td><td class="wrap">{escape(entry["reason"])}</td></tr>'
        for entry in entries
    )
    head = '<thead><tr><th scope="col">What</th><th scope="col">Why</th></tr></thead>'
    return _scroll("Not in this report", f"<table>{head}<tbody>{lines}</tbody></table>") if entries else ""


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """A list of names and values; those without a value are left out."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs if value)
    return f"<dl>{lines}</dl>"


def grouped(entries: Iterable[Any], *keys: str) -> dict[tuple[str, ...], list[Any]]:
    """Entries by the values of some keys, modes in the order of tables."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for entry in entries:
        found.setdefault(tuple(entry[key] for key in keys), []).append(entry)
    if "mode" not in keys:
        return found
    at = keys.index("mode")
    return dict(sorted(found.items(), key=lambda item: MODES.index(item[0][at]) if item[0][at] in MODES else 99))


def _place(report: Mapping[str, Any]) -> Callable[[tuple[int, Row]], Any]:
    """Rows in the order of tasks as they come, then mode, then rank; seeds below their mean."""
    tasks = {key: i for i, key in enumerate(dict.fromkeys((row["category"], row["task"]) for row in report["rows"]))}
    categories = {key: i for i, key in enumerate(dict.fromkeys(row["category"] for row in report["rows"]))}

    def place(item: tuple[int, Row]) -> Any:
        _, row = item
        mode = MODES.index(row["mode"]) if row["mode"] in MODES else len(MODES)
        rank = float("inf") if row["rank"] is None else row["rank"]
        task = tasks[row["category"], row["task"]]
        return categories[row["category"]], task, row["protocol"], mode, row["role"] == "seed", rank, row["model"]

    return place


def _value_cell(report: Mapping[str, Any], found: tuple[int, float | None] | None, mode: str) -> str:
    if found is None:
        return f'<td class="n">{NONE}</td>'
    index, rank = found
    row = report["rows"][index]
    raised = "" if rank is None else f"<sup>{rank:g}</sup>"
    return f'<td class="n{" best" if rank == 1 else ""}">{_value(row, index, raised + _marks(row))}</td>'


def _rank_cell(own: tuple[float | None, float | None], known: Sequence[float], count: int) -> str:
    rank, mean = own
    if rank is None:
        return f'<td class="n">{NONE}</td>'
    below = "" if count == 1 or mean is None else f'<span class="sub">mean {mean:.2f}</span>'
    return f'<td class="n{" best" if rank == min(known) else ""}">{_general(rank)}{below}</td>'


def _value(row: Row, index: int, after: str = "") -> str:
    shown = "not defined" if row["value"] is None else f"{row['value']:.3f}"
    name = escape(f"{style.model_name(row['model'])}, {_task(row)}, {style.mode_name(row['mode'])}: {shown}, details")
    button = f'<button type="button" class="open" data-row="{index}" aria-label="{name}" disabled>{shown}</button>'
    return f"{button}{after}{_interval(row)}"


def _number(row: Row) -> str:
    return NONE if row["value"] is None else f"{row['value']:.3f}{_interval(row)}"


def _interval(row: Row) -> str:
    if row["value"] is None:
        return ""
    known = row["low"] is not None and row["high"] is not None
    words = f"{row['low']:.3f}–{row['high']:.3f}" if known else "no interval"
    return f'<span class="interval">{words}</span>'


def _marks(row: Row) -> str:
    seen = '<span title="the weights saw these recordings in pretraining">†</span>' if row["seen"] else ""
    return seen + (f'<span title="{escape(row["flag"])}">‡</span>' if row.get("flag") else "")


def _seconds(row: Row) -> float | None:
    return row.get("device_seconds", row["seconds"].get("train"))


def _count(value: float | None, shown: str) -> str:
    return f'<td class="n wide" data-v="{_plain(value)}">{shown if value else NONE}</td>'


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _general(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"


def _task(entry: Row) -> str:
    return entry.get("row") or entry["task"]


def _arrow(entry: Row) -> str:
    return "" if entry["metric"] != "mae" else " ↓" if "value" in entry else ' <span class="small">MAE ↓</span>'


def _setting(mode: str, protocol: str) -> str:
    return f"{style.capital(style.mode_name(mode))}, protocol {protocol}"


def _folded(title: str, content: str, *, opened: bool) -> str:
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{content}</details>"


def _scroll(name: str, content: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{content}</div>'


def figure_list(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Folded groups of figures: (heading, HTML); the first is open."""
    for k, (heading, content) in enumerate(items):
        yield _folded(heading, content, opened=k == 0)
