"""What each switch of the protocol does to a value by itself: which evaluations that takes, and their differences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ecgjax import models, switches, tasks
from ecgjax.evaluation import replicated
from ecgjax.evaluation.cell_bootstrap import Bootstrap, CellValue
from ecgjax.training.supervised import get_mode

BASE = "fixed"


class Variant(NamedTuple):
    """An evaluation of an audit.

    Attributes:
        name: such as "fixed", "last_crop_start=never", "paper", "paper, contract=authors".
        fields: of configs/evaluate.py that make it, beside model, task and mode.
    """

    name: str
    fields: dict[str, str]


def variants(model: str, task: str, mode: str) -> list[Variant]:
    """The evaluations that an audit of a model takes, the one that all are compared with first.

    Switches that cannot matter are left out: learning-rate groups where there is but one or the published ones are the
    intended ones, the composite score of tasks without measurements, and what exact probes do not have.

    Args:
        model: registry name.
        task: name in the task table.
        mode: see `ecgjax.training.supervised.MODES`.

    Raises:
        UserError: there is no such model, task or mode.
    """
    encoder, how, reported = models.create(model), get_mode(mode), tasks.get(task)[1]
    idle = set()
    if not how.trains_encoder or how.one_rate or encoder.spec.paper_lr_groups is None:
        idle.add("rate_groups")
    if how.exact or all(task.metric == "auroc" for task in reported):
        idle.add("composite")
    if how.exact:
        idle.add("last_crop_start")
    found = [Variant(BASE, {"protocol": BASE})]
    for name, choices in switches.CHOICES.items():
        if name not in idle:
            found.append(Variant(f"{name}={choices[1]}", {"protocol": BASE, f"switches.{name}": choices[1]}))
    found.append(Variant("paper", {"protocol": "paper"}))
    if "contract" in encoder.arguments:
        authors = {"model_arguments.contract": "authors"}
        found.append(Variant("contract=authors", {"protocol": BASE, **authors}))
        found.append(Variant("paper, contract=authors", {"protocol": "paper", **authors}))
    return found


def compare(values: Mapping[str, Sequence[Sequence[CellValue]]], settings: Bootstrap) -> list[dict[str, Any]]:
    """Every variant's value of every task and metric, and its difference from the base.

    Args:
        values: variant -> values of each of its seeds, by task and metric in one order. The base is `BASE`.
        settings: of the intervals.

    Returns:
        Rows: variant, task, metric; seeds; value, low, high; difference (None of the base), difference_low,
        difference_high, p; sd: of the seeds' values (None of one seed), that of a difference is the seeds' own
        differences' sd; comparable: False where the test records are others than the base's, which has no difference;
        basic_low, basic_high: limits of the basic bootstrap.
    """
    rows = []
    base = values[BASE]
    for name, runs in values.items():
        for k, first in enumerate(runs[0]):
            mine, theirs = [run[k] for run in runs], [run[k] for run in base]
            own = replicated.mean([value.replicated for value in mine])
            low, high = own.limits(settings.level, settings.kind)
            basic = own.limits(settings.level, "basic")
            row: dict[str, Any] = {
                "variant": name,
                "task": first.task,
                "metric": first.metric,
                "seeds": len(mine),
                "value": own.value,
                "low": low,
                "high": high,
                "sd": _sd([value.replicated.value for value in mine]),
                "basic_low": basic[0],
                "basic_high": basic[1],
                "comparable": {value.population for value in (*mine, *theirs)} == {theirs[0].population},
                **dict.fromkeys(("difference", "difference_low", "difference_high", "p", "difference_sd")),
            }
            if name != BASE and row["comparable"]:
                pair = [own, replicated.mean([value.replicated for value in theirs])]
                found = replicated.differences(pair, settings.level, settings.kind)
                by_seed = [a.replicated.value - b.replicated.value for a, b in zip(mine, theirs, strict=True)]
                row |= {
                    "difference": float(found.value[0, 1]),
                    "difference_low": float(found.low[0, 1]),
                    "difference_high": float(found.high[0, 1]),
                    "p": float(found.p[0, 1]),
                    "difference_sd": _sd(by_seed),
                }
            rows.append(row)
    return rows


def _sd(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)
