"""Metrics of groups of patients, by sex and age band, against those of everybody else on the same resamples.

Group and rest are other records, so that a difference between them is not paired by record; both are computed in every
resample of the whole test set (whole patients where these are resampled, who may be in several age bands), and the
difference's interval comes from the resamples' differences.

A macro average over labels that only one side defines would compare other labels. So a label counts, on both sides,
where each has at least `LEAST` positive and `LEAST` negative records, or for measurements `LEAST` known ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgjax.data.store import Store, open_store
from ecgjax.data.subsets import BANDS, sexes_and_ages
from ecgjax.errors import UserError
from ecgjax.evaluation import cell_bootstrap, replicated
from ecgjax.evaluation.bootstrap import replicate_values
from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.evaluation.collect import Cell
from ecgjax.evaluation.predictions import Predictions
from ecgjax.evaluation.replicated import Replicated
from ecgjax.evaluation.resamples import Resamples, draw_counts

LEAST = 5
SMALL = 100
"""Records below which a group is marked as small, whatever its interval says."""
GROUPS = {"sex": ("female", "male"), "age": BANDS}


def store_of(cell: Cell) -> Store:
    """The store that a run was tested on.

    Raises:
        UserError: it is not here, or holds other data now.
    """
    from ecgjax.data import embedded

    path = cell.config.get("data", {}).get("store")
    if path is None and cell.data["source"] != "synthetic":
        raise UserError("its config names no store")
    store = open_store(embedded.synthetic_store() if path is None else path)
    if store.fingerprint != cell.data["fingerprint"]:
        raise UserError(f"{path} holds other data now (fingerprint {store.fingerprint})")
    return store


def groups_of(records: pd.DataFrame, record_id: NDArray[np.str_]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(attribute, group) -> which of some records belong to it; those of unknown sex or age belong to none.

    A group of all records is left out: there is no rest.

    Args:
        records: of a store.
        record_id: (records,) of the test set.

    Raises:
        UserError: the store has neither sexes nor ages of them, or not all of the records.
    """
    index = records.set_index("record_id").reindex(record_id)
    if index["patient_id"].isna().any():
        raise UserError("the store lacks test records")
    found: dict[tuple[str, str], NDArray[np.bool_]] = {}
    for attribute, values in zip(("sex", "age"), sexes_and_ages(index), strict=True):
        members = {name: np.array([value == name for value in values]) for name in GROUPS[attribute]}
        found |= {(attribute, name): own for name, own in members.items() if own.any() and not own.all()}
    if not found:
        raise UserError("the store has no sex or age of the test records")
    return found


def compare(
    cell: Cell, found: Predictions, groups: Mapping[tuple[str, str], NDArray[np.bool_]], settings: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Rows of a run: task, metric, attribute, group, records, labels, value and rest with limits, their difference.

    Args:
        cell: the run.
        found: its predictions.
        groups: by attribute and name, (records,) in the predictions' order.
        settings: of the intervals; "bca" needs influences that groups do not have and becomes percentile.

    Yields:
        One row for each task, metric and group; "small" marks groups below `SMALL` records. Values are None where no
        label counts.
    """
    order = np.argsort(found.record_id, kind="stable")
    targets, scores = found.targets[order], found.scores[order]
    patients = None
    if settings.unit == "patient":
        if found.patient_id is None:
            raise UserError("predictions.npz has no patient_id; expected config.interval.unit=record for it")
        patients = found.patient_id[order]
    counts = draw_counts(len(order), settings.replicates, settings.seed, groups=patients)
    for (task, metric), columns in cell_bootstrap.task_columns(cell, found).items():
        for (attribute, name), members in groups.items():
            mine = members[order]
            known = [_counted(targets[side][:, columns], metric) for side in (mine, ~mine)]
            chosen = [column for column, *both in zip(columns, *known, strict=True) if all(both)]
            row: dict[str, Any] = {
                "task": task,
                "metric": metric,
                "attribute": attribute,
                "group": name,
                "records": int(mine.sum()),
                "labels": len(chosen),
                "small": bool(min(mine.sum(), (~mine).sum()) < SMALL),
            }
            if chosen:
                sides = [_replicated(targets, scores, chosen, metric, side, counts) for side in (mine, ~mine)]
                row |= _limits(sides, settings)
            yield row


def _counted(targets: NDArray, metric: str) -> NDArray[np.bool_]:
    if metric == "mae":
        return np.count_nonzero(~np.isnan(targets), axis=0) >= LEAST
    return np.minimum(np.count_nonzero(targets == 1, axis=0), np.count_nonzero(targets == 0, axis=0)) >= LEAST


def _replicated(
    targets: NDArray, scores: NDArray, columns: Sequence[int], metric: str, side: NDArray[np.bool_], counts: NDArray
) -> Replicated:
    known, predicted = targets[side][:, columns], scores[side][:, columns]
    value, samples = replicate_values(known, predicted, metric, Resamples(counts[:, side]), "skip")  # type: ignore[arg-type]
    return Replicated(float(value[-1]), samples[:, -1])


def _limits(sides: Sequence[Replicated], settings: Bootstrap) -> dict[str, Any]:
    kind = "percentile" if settings.kind == "bca" else settings.kind
    result: dict[str, Any] = {}
    for name, side in zip(("", "rest_"), sides, strict=True):
        low, high = side.limits(settings.level, kind)
        result |= {f"{name}value": side.value, f"{name}low": low, f"{name}high": high}
    difference = replicated.differences(sides, settings.level, kind)
    parts = {"difference": difference.value, "difference_low": difference.low, "difference_high": difference.high}
    return result | {key: float(value[0, 1]) for key, value in parts.items()} | {"p": float(difference.p[0, 1])}
