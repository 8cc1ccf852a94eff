"""Job "evaluate": one model on one task in one mode, from the data to intervals; see configs/evaluate.py."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from numpy.typing import NDArray

import ecgjax
from ecgjax import tasks
from ecgjax.data.batches import evaluation_iterator
from ecgjax.data.crops import mean_by_record
from ecgjax.errors import UserError
from ecgjax.evaluation import cell_values, metrics, results
from ecgjax.jobs.evaluate_setting import ABSENT, Setting, announce, check, set_up, size
from ecgjax.models import weights as weights_io
from ecgjax.reporting import evaluation_report
from ecgjax.seen import saw
from ecgjax.training import supervised
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog
from ecgjax.training.progress import ProgressBar
from ecgjax.training.run_directory import RunDirectory
from ecgjax.training.supervised import TrainState


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Trains, tests the best checkpoint, writes results; continues where an earlier process was stopped.

    Raises:
        UserError: config, data, weights or work directory cannot be used, a loss is not finite, the disk is full.
        SystemExit: SIGTERM or Ctrl-C came and everything is saved (143 or 130).
    """
    check(config)
    head_run, reported = tasks.get(config.task)
    directory = RunDirectory.open(workdir, config)
    if directory.done:
        print(f"{directory.path}: done already")
        evaluation_report.show(directory.path)
        return
    with Interrupt() as interrupt:
        with directory.setting_up():
            setting = set_up(config, directory, head_run, reported)
        announce(setting)
        state, best, seconds = _train(setting, interrupt)
        _test(setting, state, best, seconds)
        _save(setting, state)
    directory.finish()
    evaluation_report.show(directory.path)


def _train(setting: Setting, interrupt: Interrupt) -> tuple[TrainState, dict[str, Any], float]:
    """The state of the best epoch, its epoch and score, and the seconds spent."""
    config, program, data = setting.config, setting.program, setting.data
    started = time.monotonic()
    targets, state = jnp.asarray(data.targets), program.state
    total = config.epochs * setting.steps_per_epoch
    meta: dict[str, Any] = {"epoch": 0, "score": None, "losses": []}
    folder = setting.directory.path
    with Checkpoints(folder / "checkpoints") as checkpoints, MetricLog(setting.directory) as log:
        restored = checkpoints.restore(state, setting.batches)
        if restored is not None:
            state, meta = restored.state, restored.meta
            print(f"continuing after step {restored.step} of {total}", flush=True)
        log.truncate(int(state.step))
        pending: list[Any] = list(meta["losses"])
        with ProgressBar(f"{config.mode} {config.task}", total, int(state.step), config.batch_size) as bar:
            for step in range(int(state.step) + 1, total + 1):
                state, loss = program.step(state, program.frozen, setting.cutter, next(setting.batches), targets)
                pending.append(loss)
                epoch, within = divmod(step, setting.steps_per_epoch)
                if within and step % config.log_every == 0:
                    mean = _mean_loss(pending, step)
                    log.write(step, {"train/loss": mean})
                    bar.update(step, {"loss": mean})
                    pending = []
                if not within:
                    values = {"epoch": epoch, "train/loss": _mean_loss(pending, step), **_validate(setting, state)}
                    log.write(step, values)
                    bar.update(step, {"loss": values["train/loss"], "score": values["validation/score"]})
                    pending = []
                    improved = meta["score"] is None or values["validation/score"] > meta["score"]
                    if improved:
                        meta = {"epoch": epoch, "score": values["validation/score"]}
                    meta = {**meta, "losses": []}
                    checkpoints.save(step, state, setting.batches, meta=meta, best=improved)
                if interrupt.signal is not None and step < total:
                    meta = {**meta, "losses": [float(x) for x in pending]}
                    checkpoints.save(step, state, setting.batches, meta=meta, wait=True)
                    print(
                        f"\nstopped after step {step} of {total}; start the same command again to continue",
                        file=sys.stderr,
                    )
                    raise SystemExit(interrupt.exit_code)
        checkpoints.wait()
        best = checkpoints.restore(state, best=True)
    if best is None:
        raise UserError(
            f"{folder / 'checkpoints'}: no best checkpoint; expected one (start again in another --workdir)"
        )
    return best.state, {"epoch": best.meta["epoch"], "score": best.meta["score"]}, time.monotonic() - started


def _mean_loss(pending: Sequence[Any], step: int) -> float:
    mean = float(np.mean([float(x) for x in pending]))
    if not np.isfinite(mean):
        raise UserError(
            f"the training loss is {mean} at step {step}; expected a finite one (try a smaller learning_rate)"
        )
    return mean


def _validate(setting: Setting, state: TrainState) -> dict[str, float]:
    """Record-level validation; the epoch with the largest "validation/score" is tested (protocol 3.3)."""
    data, split = setting.data, setting.data.n_classification
    scores, crops, non_finite = _predict(setting, state, "validation")
    if non_finite == len(crops["crop_record"]):
        raise UserError(
            f"after step {int(state.step)} no output for the validation fold is finite: training has diverged; "
            "expected a smaller config.learning_rate"
        )
    targets = data.targets[data.rows["validation"]]
    values, score = {}, 0.0
    if data.n_classification:
        macro = metrics.macro_auroc(targets[:, :split], scores[:, :split], ABSENT[setting.config.protocol])
        values["validation/macro_auroc"] = macro
        score = macro
    if data.n_regression:
        error = float(metrics.mae(targets[:, split:], scores[:, split:], pooled=True))
        values["validation/mae"] = error
        score = -error if not data.n_classification else -(1 - score + error)
    return {**values, "validation/score": score}


def _predict(setting: Setting, state: TrainState, split: str) -> tuple[NDArray[np.float32], dict[str, NDArray], int]:
    """Scores (records, outputs) averaged over each record's windows, the windows' own, and how many were not finite."""
    rows, program = setting.data.rows[split], setting.program
    found = []
    for item in evaluation_iterator(setting.data.store, rows, setting.cutter, batch_size=setting.config.batch_size):
        scores, finite = program.predict(state, program.frozen, setting.cutter, item)
        found.append((item, scores, finite))  # the device runs ahead; the host waits below
    parts: dict[str, list[NDArray]] = {"crop_record": [], "crop_start": [], "crop_scores": []}
    non_finite = 0
    for item, scores, finite in found:
        valid = np.asarray(item["valid"])
        parts["crop_record"].append(np.searchsorted(rows, np.asarray(item["record"])[valid]))
        parts["crop_start"].append(np.asarray(item["start"])[valid] / setting.data.store.sampling_rate)
        parts["crop_scores"].append(np.asarray(scores)[valid])
        non_finite += int((~np.asarray(finite)[valid]).sum())
    crops = {name: np.concatenate(values) for name, values in parts.items()}
    return mean_by_record(crops["crop_scores"], crops["crop_record"], len(rows)), crops, non_finite


def _test(setting: Setting, state: TrainState, best: dict[str, Any], training_seconds: float) -> None:
    config, data, directory = setting.config, setting.data, setting.directory
    started = time.monotonic()
    rows = data.rows["test"]
    scores, crops, non_finite = _predict(setting, state, "test")
    if non_finite:
        logging.warning("%d of %d test windows have outputs that are not finite", non_finite, len(crops["crop_record"]))
    targets, index = data.targets[rows], data.store.records.iloc[rows]
    results.write_predictions(
        directory.path / results.PREDICTIONS,
        index["record_id"].tolist(),
        targets,
        scores,
        data.classes,
        data.kinds,
        crops if config.save_crops else None,
        patient_id=index["patient_id"].tolist(),
    )
    card = weights_io.load_card(Path(config.weights)) if config.weights else None
    interval = {**config.interval.to_dict(), "seed": config.seed}
    groups = index["patient_id"].to_numpy() if interval.pop("unit") == "patient" else None
    absent = ABSENT[config.protocol]
    summaries = {
        task.name: results.summarise(
            task, data.classes, data.kinds, targets, scores, absent=absent, groups=groups, **interval
        )
        for task in setting.reported
    }
    directory.write_json(
        results.RESULTS,
        {
            "format": results.FORMAT,
            "model": config.model,
            "arguments": dict(setting.model.encoder.arguments),
            "weights": card["sha256"] if card else None,
            "seen": saw(config.model, data.store.meta["source"], str(card.get("source", "")) if card else None),
            "task": config.task,
            "run": setting.head_run.name,
            "mode": config.mode,
            "protocol": config.protocol,
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
            "records": {split: len(selected) for split, selected in data.rows.items()},
            "patients": data.patients(),
            "left_out": data.left_out,
            "windows": len(crops["crop_record"]),
            "non_finite_windows": non_finite,
            "parameters": {
                "trained": size(state.params),
                "total": size(state.params) + size(setting.program.frozen.get("params", {})),
            },
            "seconds": {"training": round(training_seconds, 3), "testing": round(time.monotonic() - started, 3)},
            "best": {**best, "criterion": _CRITERIA[bool(data.n_classification), bool(data.n_regression)]},
            "interval": {**config.interval.to_dict(), "seed": config.seed},
            "tasks": {name: summary for name, summary in summaries.items() if summary is not None},
        },
    )
    cell_values.keep(directory.path)
    evaluation_report.draw(directory.path)


def _save(setting: Setting, state: TrainState) -> None:
    """Weights of a trained encoder with its head: the run's directory is then what `load_model` and the export take."""
    config, params = setting.config, jax.device_get(state.params)
    if "encoder" not in params:  # frozen: its weights are where they came from
        return
    weights_io.save_weights(
        setting.directory.path / "weights",
        setting.model.encoder,
        {"params": params["encoder"], **jax.device_get(state.rest)},
        heads={supervised.get_mode(config.mode).head: params["head"]},
        source=f"trained by ecgjax on {setting.data.store.meta['source']}, mode {config.mode}",
        labels=list(setting.data.classes),
    )


_CRITERIA = {
    (True, False): "macro_auroc",
    (False, True): "-mae",
    (True, True): "-(1 - macro_auroc + mae)",
}
