"""What an evaluation leaves behind: results.json and predictions.npz.

results.json (format 1):

    format              1
    model, arguments    registry name and what the encoder was built with
    weights             SHA-256 of the weights, null for random initialisation
    seen                whether they saw recordings of the data's source in pretraining; null: not known (ecgjax.seen)
    task, run, mode     names; `run` is the head run that was trained
    protocol, absent    "fixed" or "paper", with the switches that are set against it ("fixed, last_crop_start=never");
                        what an undefined class does to a macro average, "skip" or "half"
    seed, ecgjax        of the run; version
    data                source, fingerprint, label_set, sampling_rate; synthetic: true if it is not real data; ratio,
                        subset, validation: share of the training records and how it was taken (ecgjax.data.subsets),
                        and whether validation records were "cut" as well or are "full"
    signal              what was done to the recordings, null: nothing (ecgjax.data.conditions.describe): leads that
                        were there, what stood for the others, noise with its signal-to-noise ratio in dB, swaps, losses
    records, left_out   per split: used, and shorter than the window or the task's minimum
    patients            per split: of the records used
    windows             test windows whose predictions were averaged per record
    non_finite_windows  test windows with a NaN or infinite output, which counted as 0 or the largest number
    parameters          trained, total
    seconds             wall clock of training (with validation) and of testing, in the process that finished the run;
                        of a run that was trained with others in one program (ecgjax.sweep.units), its equal share
    best                epoch (from 1) and validation score (criterion) of the checkpoint that was tested; in mode
                        linear_exact epoch is null, strength: label -> the L2 penalty that was chosen, and gradient:
                        the largest derivative that is left
    interval            kind, level, replicates, unit, seed of the bootstrap
    tasks               name -> row, category, and per metric ("auroc": macro average, "mae": pooled over all entries):
                        value, low, high, defined (labels in the value), labels: name -> value, low, high, known,
                        positives (null for "mae")

Numbers that are not defined are null. predictions.npz holds record_id, patient_id, targets, scores (probabilities, or
standardised values), labels, kinds; with crops: crop_record (index into record_id), crop_start (seconds), crop_scores.
replicates/ holds the values on the resamples that reports share (`ecgjax.evaluation.cell_values`), so that a report
need not compute them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ecgjax.atomic import replacing
from ecgjax.evaluation import bootstrap
from ecgjax.evaluation.metrics import Absent
from ecgjax.tasks import Task

FORMAT = 1
_METRICS: dict[str, bootstrap.Metric] = {"classification": "auroc", "regression": "mae"}
RESULTS, PREDICTIONS = "results.json", "predictions.npz"


def summarise(
    task: Task,
    classes: Sequence[str],
    kinds: Sequence[str],
    targets: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    absent: Absent,
    **interval: Any,
) -> dict[str, Any] | None:
    """A task's values with intervals, as results.json holds them; None if none of the classes is the task's.

    Args:
        task: from the task table.
        classes: names of the columns.
        kinds: "classification" or "regression" of each.
        targets: (records, classes) of the test set.
        scores: (records, classes).
        absent: see `ecgjax.metrics.macro_auroc`.
        **interval: further arguments of `ecgjax.bootstrap.intervals`.
    """
    selected = task.select(classes, kinds)
    metrics: dict[str, Any] = {}
    for kind, metric in _METRICS.items():
        columns = [i for i in selected if kinds[i] == kind]
        if columns:
            found = bootstrap.intervals(targets[:, columns], scores[:, columns], metric, absent=absent, **interval)
            metrics[metric] = _as_json(found, [classes[i] for i in columns], targets[:, columns])
    return {"row": task.row, "category": task.category, **metrics} if metrics else None


def write_predictions(
    path: Path,
    record_id: Sequence[str],
    targets: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: Sequence[str],
    kinds: Sequence[str],
    crops: Mapping[str, NDArray] | None = None,
    *,
    patient_id: Sequence[str],
) -> None:
    """Writes predictions.npz atomically; see above for what is in it."""
    names = {"record_id": record_id, "patient_id": patient_id, "labels": labels, "kinds": kinds}
    arrays: dict[str, Any] = {name: np.array(value, dtype=str) for name, value in names.items()}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, targets=targets, scores=scores, **cast(dict[str, Any], crops or {}))


def _as_json(found: bootstrap.Intervals, labels: Sequence[str], targets: NDArray[np.float32]) -> dict[str, Any]:
    known = np.count_nonzero(~np.isnan(targets), axis=0).tolist()
    positives = np.count_nonzero(targets == 1, axis=0).tolist() if found.metric == "auroc" else [None] * len(labels)
    return {
        "value": found.macro_value,
        "low": found.macro_low,
        "high": found.macro_high,
        "defined": int(np.count_nonzero(~np.isnan(found.value))),
        "labels": {
            label: {
                "value": float(found.value[i]),
                "low": float(found.low[i]),
                "high": float(found.high[i]),
                "known": known[i],
                "positives": positives[i],
            }
            for i, label in enumerate(labels)
        },
    }
