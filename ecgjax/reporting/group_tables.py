"""Markdown tables of groups of patients and of calibration."""

from collections.abc import Mapping
from typing import Any

from ecgjax.evaluation.calibration import BINS, NAMES
from ecgjax.evaluation.fairness import LEAST, SMALL
from ecgjax.reporting import style
from ecgjax.reporting.markdown import escaped, table

NONE = "–"


def fairness(report: Mapping[str, Any]) -> str:
    """Every run's values by sex and age band, a table for each task, mode and protocol.

    Args:
        report: with "fairness", see `ecgjax.reporting.schema`.
    """
    settings = report["settings"]
    lines = [
        "### Values by sex and age",
        "",
        f"Each group against everybody else, {100 * settings['level']:g} % intervals, {settings['replicates']:,} "
        f"resamples of {settings['unit']}s. Group and rest are other records: the difference is not paired by record. "
        f"Averages are over the labels of which both have at least {LEAST} positive and {LEAST} negative records (of "
        "measurements: known ones), so they are not those of the other tables. Bold: the interval of the difference "
        f"excludes 0, without adjustment for the number of groups. small: below {SMALL} records on one side.",
        "",
    ]
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in report["fairness"]:
        grouped.setdefault(tuple(row[key] for key in ("task", "metric", "mode", "protocol")), []).append(row)
    seeds = len({row["seed"] for row in report["fairness"]}) > 1
    for (task, metric, mode, protocol), rows in grouped.items():
        lines += [f"**{task}, {style.metric_name(metric)}, {style.mode_name(mode)}, protocol {protocol}**", ""]
        cells = []
        for row in rows:
            model = style.model_name(row["model"]) + (f", seed {row['seed']}" if seeds else "")
            cells.append(
                [
                    escaped(model),
                    _group(row) + (" (small)" if row["small"] else ""),
                    f"{row['records']:,}",
                    f"{row['labels']}",
                    _side(row),
                    _side(row, "rest_"),
                    _difference(row),
                ]
            )
        lines += [*table(["model", "group", "records", "labels", "value", "rest", "difference"], cells, "llr"), ""]
    return "\n".join(lines)


def calibration(report: Mapping[str, Any]) -> str:
    """Calibration of the labels whose curves were asked for.

    Args:
        report: with "curves", see `ecgjax.reporting.schema`.
    """
    settings = report["settings"]
    lines = [
        "### Calibration",
        "",
        f"{100 * settings['level']:g} % percentile intervals, {settings['replicates']:,} resamples of "
        f"{settings['unit']}s. ECE: {BINS} bins of equally many records; positive by chance alone, and its interval "
        "lies too high. Intercept: of a logistic regression with the logit as offset (calibrated: 0; below: predicted "
        "too often). Slope: on the logit (calibrated: 1; below: overconfident).",
        "",
    ]
    rows = []
    for curve in report["curves"]:
        if curve.get("numbers"):
            words = [
                style.mode_name(curve["mode"]),
                f"protocol {curve['protocol']}",
                *map("seed {}".format, curve["seeds"]),
            ]
            cells = [
                escaped(f"{curve['task']} / {curve['label']}"),
                escaped(f"{style.model_name(curve['model'])} ({', '.join(words)})"),
                f"{curve['positives']:,} of {curve['known']:,}",
                *(_limits(curve["numbers"][name]) for name in NAMES),
            ]
            rows.append(cells)
    head = ["task / label", "model", "positives", "ECE", "Brier score", "intercept", "slope"]
    return "\n".join([*lines, *table(head, rows, "llr"), ""])


def calibration_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same, a row for each label and run, every figure with its limits."""
    keys = ("task", "label", "model", "mode", "protocol", "seeds", "positives", "known")
    rows = []
    for curve in report["curves"]:
        if curve.get("numbers"):
            own = {key: curve[key] for key in keys} | {"seeds": " ".join(map(str, curve["seeds"]))}
            for name in NAMES:
                limits = curve["numbers"][name]
                own |= {name: limits["value"], f"{name}_low": limits["low"], f"{name}_high": limits["high"]}
            rows.append(own)
    return rows


def _group(row: Mapping[str, Any]) -> str:
    return escaped(row["group"] if row["attribute"] == "sex" else f"{row['attribute']} {row['group']}")


def _side(row: Mapping[str, Any], prefix: str = "") -> str:
    return _limits({key: row.get(f"{prefix}{key}") for key in ("value", "low", "high")})


def _difference(row: Mapping[str, Any]) -> str:
    low, high = row.get("difference_low"), row.get("difference_high")
    text = _limits({"value": row.get("difference"), "low": low, "high": high}, "+")
    return text if low is None or high is None or low <= 0 <= high else f"**{text}**"


def _limits(found: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (NONE if (x := found[key]) is None else f"{x:{sign}.3f}" for key in ("value", "low", "high"))
    return NONE if found["value"] is None else f"{value} [{low}, {high}]"
