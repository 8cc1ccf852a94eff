"""Tables of the HTML page for label-efficiency studies: the fitted curves, and the data that each model needs."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ecgjax.reporting import style

NONE = "–"


def label_efficiency(studies: Sequence[Mapping[str, Any]]) -> str:
    """One table for each study: C, alpha, L0 of every model, and r = N*/N with its limits.

    Args:
        studies: of a report's "label_efficiency".
    """
    return "".join(map(_study, studies))


def _study(study: Mapping[str, Any]) -> str:
    models, baseline = study["models"], study.get("baseline")
    needs = list(dict.fromkeys(key for entry in models.values() for key in entry.get("ratio") or {}))
    sizes = {
        key: next(entry["ratio"][key]["n"] for entry in models.values() if key in (entry.get("ratio") or {}))
        for key in needs
    }
    heads = ["Model", "C", "α", "L₀", *(f"r at N = {sizes[key]:,.0f}{' (full)' * (key == 'full')}" for key in needs)]
    head = "".join(f'<th scope="col"{" class=n" if k else ""}>{escape(name)}</th>' for k, name in enumerate(heads))
    lines = []
    for name, entry in models.items():
        fit = entry.get("fit") or {}
        limits = fit.get("limits", {})
        cells = [_limits(fit.get(key), *(limits.get(key) or (None, None))) for key in ("C", "alpha", "L0")]
        cells += [_need((entry.get("ratio") or {}).get(key), name == baseline) for key in needs]
        body = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(style.model_name(name))}</th>{body}</tr>')
    title = f"Label efficiency: {study['task']}"
    words = f"Error (n) = C n^−α + L₀; error: {study.get('error', '1 − macro AUROC')}."
    if baseline:
        words += f" r: share of {style.model_name(baseline)}'s N training records with which a model reaches its error"
        words += "; ~ where that lies outside the sizes that were trained on."
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{table}</div>'
    return f'<h3>{escape(title)}</h3><p class="note">{escape(words)}</p>{region}'


def _need(need: Mapping[str, Any] | None, is_baseline: bool) -> str:
    if need is None:
        return "1 (baseline)" if is_baseline else NONE
    if need["r"] is None:
        return f'not reached<span class="sub">{escape(str(need.get("reason") or ""))}</span>'
    never = need.get("undefined") or 0
    after = f'<span class="sub">not reached in {100 * never:.0f} % of replicates</span>' if never else ""
    return ("~" if need.get("extrapolated") else "") + _limits(need["r"], need["low"], need["high"]) + after


def _limits(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return NONE
    if low is None and high is None:
        return f"{value:.3g}"
    words = "–".join("∞" if limit is None else f"{limit:.3g}" for limit in (low, high))
    return f'{value:.3g}<span class="interval">{words}</span>'
