"""What a report says of a run beyond its values: those of groups of patients, and calibration of single labels."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgjax.errors import UserError
from ecgjax.evaluation import calibration, fairness
from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.evaluation.collect import Cell
from ecgjax.evaluation.predictions import Predictions
from ecgjax.evaluation.resamples import draw_counts


def of_cells(cells: Iterable[Cell | None], settings: Bootstrap) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of `ecgjax.evaluation.fairness.compare` of every run, and why there are none of some, in sentences.

    Args:
        cells: of the report's entries; None: its predictions are not here.
        settings: of the intervals.
    """
    rows: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for cell in {cell.path: cell for cell in cells if cell is not None}.values():
        about = {"model": cell.model, "mode": cell.mode, "protocol": cell.protocol, "seed": cell.seed}
        try:
            found = cell.predictions()
            groups = fairness.groups_of(fairness.store_of(cell).records, found.record_id)
            rows += [{**about, **row} for row in fairness.compare(cell, found, groups, settings)]
        except UserError as error:
            left_out[str(error)] = left_out.get(str(error), 0) + 1
    return rows, [f"No values by sex and age of {count} runs: {reason}." for reason, count in left_out.items()]


def calibration_of(found: Predictions, column: int, settings: Bootstrap) -> dict[str, Any]:
    """The calibration of a label in numbers, on the report's resamples."""
    order = np.argsort(found.record_id, kind="stable")
    patients: NDArray | None = None
    if settings.unit == "patient" and found.patient_id is not None:
        patients = found.patient_id[order]
    key = None if patients is None else "\0".join(patients.tolist())
    counts = _counts(len(order), settings.replicates, settings.seed, key)
    return calibration.numbers(found.targets[order, column], found.scores[order, column], counts, settings.level)


@lru_cache(maxsize=2)
def _counts(records: int, replicates: int, seed: int, patients: str | None) -> NDArray[np.integer]:
    groups = None if patients is None else np.array(patients.split("\0"))
    return draw_counts(records, replicates, seed, groups=groups)
