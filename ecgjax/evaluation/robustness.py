"""Finished evaluations that differ in what was done to the recordings, side by side, on the same resamples.

A row is one model, mode and condition, averaged over its seeds. Its difference is that of the very same seeds from the
row's reference: the same leads without disturbance, and for these, twelve leads as they are (of a model trained with
random leads, twelve leads of such a model).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgjax.data.conditions import Condition
from ecgjax.data.leads import CANONICAL
from ecgjax.errors import UserError
from ecgjax.evaluation.bootstrap import Metric
from ecgjax.evaluation.collect import Cell
from ecgjax.evaluation.joint import joint
from ecgjax.evaluation.limits import Kind, percentile
from ecgjax.training.run_directory import FREE_FIELDS

KINDS = ("baseline_wander", "powerline", "electrode_motion", "missing", "swap")
AXES = ("leads", *KINDS, "combined")
# Of a config, what may differ between the points of one curve.
_UNCOMPARED = {*FREE_FIELDS, "signal", "seed", "weights", "interval", "save_crops", "task"}
_UNCOMPARED_OF_DATA = {"store", "placement", "labels", "seed"}
_METRICS: tuple[Metric, ...] = ("auroc", "mae")


def axis_of(signal: Mapping[str, Any]) -> str:
    """What a condition is a point of: "leads" where nothing else is done, one of `KINDS`, or "combined"."""
    found = [kind for kind in KINDS if kind in signal]
    return "leads" if not found else found[0] if len(found) == 1 else "combined"


def rows(
    cells: Sequence[Cell], *, level: float, replicates: int, seed: int, unit: str, kind: Kind
) -> list[dict[str, Any]]:
    """A row for each task, metric, model, mode and condition, as the columns of robustness.csv.

    Args:
        cells: finished evaluations, those on recordings as they are among them.
        level: coverage of the intervals.
        replicates: of the bootstrap.
        seed: of that.
        unit: what is resampled, "record" or "patient".
        kind: of the intervals of single runs; those of means and differences are percentile intervals.

    Raises:
        UserError: two runs of one model, mode, condition and seed, runs of one model and mode that were trained
            differently, or runs of a task on other data or records.
    """
    found: list[dict[str, Any]] = []
    for (task, metric, _), members in _by_task(cells).items():
        found += _of_task(task, metric, members, level, replicates, seed, unit, kind)
    return found


def _by_task(cells: Iterable[Cell]) -> dict[tuple[str, Metric, str], list[Cell]]:
    grouped: dict[tuple[str, Metric, str], list[Cell]] = {}
    for cell in cells:
        for task, summary in cell.results["tasks"].items():
            for metric in _METRICS:
                if metric in summary:
                    grouped.setdefault((task, metric, cell.protocol), []).append(cell)
    return grouped


def _of_task(
    task: str, metric: Metric, cells: list[Cell], level: float, replicates: int, seed: int, unit: str, kind: Kind
) -> list[dict[str, Any]]:
    first = cells[0]
    trained: dict[tuple[str, str], Cell] = {}
    by_run: dict[str, Cell] = {}
    scores: dict[str, NDArray[np.float32]] = {}
    reference = first.predictions()
    labels = first.results["tasks"][task][metric]["labels"]
    columns = [reference.labels.index(label) for label in labels]
    order = np.argsort(reference.record_id)
    for cell in cells:
        for what in ("fingerprint", "label_set"):
            if cell.data[what] != first.data[what]:
                raise UserError(
                    f"{first.key} and {cell.key} are both task {task}, but on other data ({what} {first.data[what]} "
                    f"and {cell.data[what]}); leave one out (config.exclude)"
                )
        other = trained.setdefault(_line(cell), cell)
        if changed := _trained_otherwise(other, cell):
            raise UserError(
                f"{other.key} and {cell.key} are both {cell.model}, mode {cell.mode}, but with other {changed}; leave "
                "one out (config.exclude)"
            )
        name = json.dumps([*_line(cell), _signal(cell), cell.seed], sort_keys=True)
        predictions = cell.predictions()
        own = np.argsort(predictions.record_id)
        same = np.array_equal(predictions.record_id[own], reference.record_id[order])
        if not same or predictions.labels != reference.labels:
            raise UserError(f"{first.key} and {cell.key}: other test records or labels; leave one out (config.exclude)")
        found = predictions.scores[own][:, columns]
        if name in by_run and np.array_equal(scores[name], found):
            continue  # one cell of two sweeps, such as the undisturbed one
        if name in by_run:
            raise UserError(
                f"{by_run[name].key} and {cell.key} are both {cell.model}, mode {cell.mode}, seed {cell.seed}, on the "
                "same signals; leave one out (config.exclude)"
            )
        by_run[name], scores[name] = cell, found
    patients = reference.patient_id
    if unit == "patient" and patients is None:
        raise UserError(f"{first.key}: has no patients; expected config.interval.unit=record")
    together = joint(
        reference.targets[order][:, columns],
        scores,
        metric,
        replicates=replicates,
        level=level,
        seed=seed,
        absent=first.results["absent"],
        kind=kind,
        groups=patients[order] if unit == "patient" else None,  # type: ignore[index]
    )
    place = {name: i for i, name in enumerate(together.names)}
    points: dict[str, dict[Any, int]] = {}  # line and condition -> draws -> which run
    for name, cell in by_run.items():
        points.setdefault(_point(_line(cell), _signal(cell)), {})[_draw(cell)] = place[name]
    made = []
    for members in points.values():
        runs = list(members.values())
        cell = by_run[together.names[runs[0]]]
        signal = _signal(cell)
        value, samples = together.value[runs].mean(), together.samples[:, runs].mean(axis=1)
        low, high = (
            (together.low[runs[0]], together.high[runs[0]])
            if len(runs) == 1
            else percentile(samples[:, None], level)[:, 0]
        )
        row = {
            "task": task,
            "metric": metric,
            "model": cell.model,
            "mode": cell.mode,
            "axis": axis_of(signal),
            **_about(signal),
            "value": float(value),
            "low": float(low),
            "high": float(high),
            **_difference(_reference(_line(cell), signal, points), members, together.value, together.samples, level),
            "records": len(order),
            "seeds": sorted({by_run[together.names[run]].seed for run in runs}),
            "protocol": cell.protocol,
            "synthetic": cell.data["synthetic"],
            "runs": [by_run[together.names[run]].key for run in runs],
        }
        made.append(row)
    return sorted(made, key=_place)


def _trained_otherwise(a: Cell, b: Cell) -> str | None:
    """What differs between two runs beside their signals and seeds."""
    if a.weights != b.weights:
        return "weights"
    configs = [
        {key: value for key, value in cell.config.items() if key not in _UNCOMPARED}
        | {"data": {k: v for k, v in cell.config.get("data", {}).items() if k not in _UNCOMPARED_OF_DATA}}
        for cell in (a, b)
    ]
    # A field that only one has is of another version of ecgjax.
    changed = [key for key in configs[0] if key in configs[1] and configs[0][key] != configs[1][key]]
    return f"config.{changed[0]}" if changed else None


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    worse = -row["level"] if row["axis"] in ("baseline_wander", "powerline", "electrode_motion") else row["level"] or 0
    worse = -row["level"] if row["axis"] == "leads" else worse
    return AXES.index(row["axis"]), row["model"], row["mode"], row["policy"] or "", worse, row["leads"], row["swap"]


def _about(signal: Mapping[str, Any]) -> dict[str, Any]:
    """The condition in columns; "level" is the number that an axis has."""
    axis = axis_of(signal)
    leads = signal.get("leads", list(CANONICAL))
    level = len(leads) if axis == "leads" else None if axis in ("swap", "combined") else signal[axis]
    return {
        "level": level,
        "leads": " ".join(leads),
        "policy": signal.get("policy"),
        **{kind: signal.get(kind) for kind in KINDS if kind != "swap"},
        "swap": " ".join(signal.get("swap", [])),
        "disturbed": signal.get("disturbed"),
    }


def _difference(
    reference: Mapping[Any, int] | None,
    members: Mapping[Any, int],
    value: NDArray[np.float64],
    samples: NDArray[np.float64],
    level: float,
) -> dict[str, Any]:
    pairs = [(run, reference[draw[0]]) for draw, run in members.items() if draw[0] in reference] if reference else []
    if not pairs:
        return dict.fromkeys(("difference", "difference_low", "difference_high"))
    own, other = (list(runs) for runs in zip(*pairs, strict=True))
    low, high = percentile((samples[:, own] - samples[:, other]).mean(axis=1)[:, None], level)[:, 0]
    found = float((value[own] - value[other]).mean())
    return {"difference": found, "difference_low": float(low), "difference_high": float(high)}


def _reference(
    line: tuple[str, str], signal: Mapping[str, Any], points: Mapping[str, Mapping[Any, int]]
) -> dict[Any, int] | None:
    """Runs by the seed of their training; None: there are none, or it is the reference."""
    own = {key: signal[key] for key in ("leads", "policy") if key in signal}
    wanted: list[Mapping[str, Any]] = [{}]
    if signal.get("policy") == "dropout":
        wanted.insert(0, {"leads": list(CANONICAL), "policy": "dropout"})
    if axis_of(signal) != "leads":
        wanted = [own]
    for candidate in wanted:
        members = points.get(_point(line, candidate))
        if members is not None and _point(line, candidate) != _point(line, signal):
            return {draw[0]: run for draw, run in members.items()}
        if members is not None:
            return None
    return None


def _line(cell: Cell) -> tuple[str, str]:
    return cell.model, cell.mode


def _signal(cell: Cell) -> dict[str, Any]:
    """The condition without what follows from it."""
    signal = cell.results.get("signal") or {}
    return {key: value for key, value in signal.items() if key not in ("derivation", "hum_frequencies")}


def _draw(cell: Cell) -> tuple[int, int]:
    """What may differ between the runs of one row: seeds of training and of noise."""
    return cell.seed, _signal(cell).get("seed", Condition().seed)


def _point(line: tuple[str, str], signal: Mapping[str, Any]) -> str:
    return json.dumps([*line, {key: value for key, value in signal.items() if key != "seed"}], sort_keys=True)
