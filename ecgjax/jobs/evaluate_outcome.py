"""What comes of an evaluation: mean losses, validation, scores of a split, and the files that a finished run leaves."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from numpy.typing import NDArray

import ecgjax
from ecgjax import switches
from ecgjax.data import conditions
from ecgjax.data.crops import mean_by_record
from ecgjax.data.cutter import Item
from ecgjax.errors import UserError
from ecgjax.evaluation import cell_values, metrics, results
from ecgjax.evaluation.labelled import Labelled
from ecgjax.jobs.evaluate_setting import Subject
from ecgjax.models import weights as weights_io
from ecgjax.reporting import evaluation_report
from ecgjax.seen import saw
from ecgjax.training import supervised


class Scores(NamedTuple):
    """What a model says of a split.

    Attributes:
        records: (records, outputs), averaged over each record's windows.
        crops: "crop_record" (windows,), "crop_start" (windows,) in seconds, "crop_scores" (windows, outputs).
        non_finite: windows with an output that is not finite.
    """

    records: NDArray[np.float32]
    crops: dict[str, NDArray]
    non_finite: int


def mean_loss(losses: Sequence[Any], step: int) -> float:
    """Mean of the losses up to a step.

    Raises:
        UserError: it is not finite.
    """
    mean = float(np.mean([float(x) for x in losses]))
    if not np.isfinite(mean):
        raise UserError(
            f"the training loss is {mean} at step {step}; expected a finite one (try a smaller learning_rate)"
        )
    return mean


def gather(data: Labelled, split: str, found: Iterable[tuple[Item, Any, Any]]) -> Scores:
    """Scores of a split, from its batches.

    Args:
        data: whose split.
        split: its name.
        found: of each batch the item, scores (batch, outputs) and (batch,) whether outputs were finite. Other records
            may be among them.
    """
    rows = data.rows[split]
    parts: dict[str, list[NDArray]] = {"crop_record": [], "crop_start": [], "crop_scores": []}
    non_finite = 0
    for item, scores, finite in found:
        record = np.asarray(item["record"])
        place = np.minimum(np.searchsorted(rows, record), len(rows) - 1)
        valid = np.asarray(item["valid"]) & (rows[place] == record)
        parts["crop_record"].append(place[valid])
        parts["crop_start"].append(np.asarray(item["start"])[valid] / data.store.sampling_rate)
        parts["crop_scores"].append(np.asarray(scores)[valid])
        non_finite += int((~np.asarray(finite)[valid]).sum())
    crops = {name: np.concatenate(values) for name, values in parts.items()}
    return Scores(mean_by_record(crops["crop_scores"], crops["crop_record"], len(rows)), crops, non_finite)


def validate(subject: Subject, scores: Scores, step: int) -> dict[str, float]:
    """Record-level validation; the epoch with the largest "validation/score" is tested (protocol 3.3).

    Raises:
        UserError: no output is finite.
    """
    data, split = subject.data, subject.data.n_classification
    if scores.non_finite == len(scores.crops["crop_record"]):
        raise UserError(
            f"after step {step} no output for the validation fold is finite: training has diverged; "
            "expected a smaller config.learning_rate"
        )
    targets = data.targets[data.rows["validation"]]
    chosen = switches.of(subject.config)
    values, score = {}, 0.0
    if data.n_classification:
        macro = metrics.macro_auroc(targets[:, :split], scores.records[:, :split], chosen.undefined_classes)
        values["validation/macro_auroc"] = macro
        score = macro
    if data.n_regression:
        errors = targets[:, split:], scores.records[:, split:]
        error = float(metrics.mae(*errors, pooled=True))
        values["validation/mae"] = error
        if chosen.composite == "mean":
            values["validation/mean_of_mae"] = error = float(np.nanmean(metrics.mae(*errors)))
        score = -error if not data.n_classification else -(1 - score + error)
    return {**values, "validation/score": score}


def write(
    subject: Subject,
    scores: Scores,
    *,
    best: dict[str, Any],
    parameters: dict[str, int],
    training_seconds: float,
    started: float,
) -> None:
    """Writes predictions.npz, results.json and figures of a run; DONE is left to the caller.

    Args:
        subject: what was evaluated on what.
        scores: of the test split.
        best: epoch and validation score of the checkpoint that was tested; of an exact probe, its strengths.
        parameters: trained, total.
        training_seconds: spent on training and validation.
        started: when the test began, by `time.monotonic`.

    Raises:
        UserError: the disk is full.
    """
    config, data, directory = subject.config, subject.data, subject.directory
    crops, non_finite = scores.crops, scores.non_finite
    rows = data.rows["test"]
    if non_finite:
        logging.warning("%d of %d test windows have outputs that are not finite", non_finite, len(crops["crop_record"]))
    targets, index = data.targets[rows], data.store.records.iloc[rows]
    results.write_predictions(
        directory.path / results.PREDICTIONS,
        index["record_id"].tolist(),
        targets,
        scores.records,
        data.classes,
        data.kinds,
        crops if config.save_crops else None,
        patient_id=index["patient_id"].tolist(),
    )
    card = weights_io.load_card(Path(config.weights)) if config.weights else None
    interval = {**config.interval.to_dict(), "seed": config.seed}
    groups = index["patient_id"].to_numpy() if interval.pop("unit") == "patient" else None
    absent = switches.of(config).undefined_classes
    summaries = {
        task.name: results.summarise(
            task, data.classes, data.kinds, targets, scores.records, absent=absent, groups=groups, **interval
        )
        for task in subject.reported
    }
    directory.write_json(
        results.RESULTS,
        {
            "format": results.FORMAT,
            "model": config.model,
            "arguments": dict(subject.model.encoder.arguments),
            "weights": card["sha256"] if card else None,
            "seen": saw(config.model, data.store.meta["source"], str(card.get("source", "")) if card else None),
            "task": config.task,
            "run": subject.head_run.name,
            "mode": config.mode,
            "protocol": switches.name_of(config),
            "absent": absent,
            "seed": config.seed,
            "ecgjax": ecgjax.__version__,
            "data": {
                "source": data.store.meta["source"],
                "fingerprint": data.store.fingerprint,
                "label_set": data.label_set,
                "sampling_rate": data.store.sampling_rate,
                "synthetic": data.store.meta["source"] == "synthetic",
                "ratio": config.data.ratio,
                "subset": config.data.subset,
                "validation": config.data.validation,
            },
            "signal": _signal(subject),
            "records": {split: len(selected) for split, selected in data.rows.items()},
            "patients": data.patients(),
            "left_out": data.left_out,
            "windows": len(crops["crop_record"]),
            "non_finite_windows": non_finite,
            "parameters": parameters,
            "seconds": {"training": round(training_seconds, 3), "testing": round(time.monotonic() - started, 3)},
            "best": {**best, "criterion": _CRITERIA[bool(data.n_classification), bool(data.n_regression)]},
            "interval": {**config.interval.to_dict(), "seed": config.seed},
            "tasks": {name: summary for name, summary in summaries.items() if summary is not None},
        },
    )
    cell_values.keep(directory.path)
    if config.figures:
        evaluation_report.draw(directory.path)


def _signal(subject: Subject) -> dict[str, Any] | None:
    """What was done to the recordings; None: nothing."""
    condition = subject.condition
    rates = subject.data.store.sampling_rate, subject.model.spec.sampling_rate
    return None if condition.plain else conditions.describe(condition, min(rates) / 2, subject.moments)


def save_weights(subject: Subject, params: dict[str, Any], rest: dict[str, Any]) -> None:
    """Weights of a trained encoder with its head: the run's directory is then what `load_model` and the export take."""
    config, params = subject.config, jax.device_get(params)
    if "encoder" not in params:  # frozen: its weights are where they came from
        return
    weights_io.save_weights(
        subject.directory.path / "weights",
        subject.model.encoder,
        {"params": params["encoder"], **jax.device_get(rest)},
        heads={supervised.get_mode(config.mode).head: params["head"]},
        source=f"trained by ecgjax on {subject.data.store.meta['source']}, mode {config.mode}",
        labels=list(subject.data.classes),
    )


_CRITERIA = {
    (True, False): "macro_auroc",
    (False, True): "-mae",
    (True, True): "-(1 - macro_auroc + mae)",
}
