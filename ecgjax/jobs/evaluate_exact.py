"""Mode "linear_exact": a linear head fitted to the optimum on features of the frozen encoder; see docs/exact_probes.md.

Training reads every record's evaluation windows (those that fit, one after the other from its first sample on), each
with a weight of one by their number, so that a record counts once as in the protocol's epochs. The encoder sees every
window once; its features lie in the run's directory until the run is done, from where a killed one goes on.

Beside the files of every evaluation the run leaves probe.npz:

    kernel, bias    (channels, outputs), (outputs,): logits, or standardised values, are pooled features @ kernel + bias
    labels, kinds   of the outputs
    strengths       (strengths,) that were tried; chosen (outputs,): number of the one that was taken
    validation      (strengths, outputs) AUROC, or mean absolute error, of the validation records
    gradient        (strengths, outputs) largest derivative left, which is how exact "exact" is
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from numpy.typing import NDArray

from ecgjax.atomic import replacing
from ecgjax.data.crops import window_samples
from ecgjax.data.feature_cache import FeatureCache
from ecgjax.evaluation import exact_linear, metrics
from ecgjax.evaluation.exact_linear import Path as Models
from ecgjax.jobs import evaluate_outcome as outcome
from ecgjax.jobs.evaluate_outcome import Scores
from ecgjax.jobs.evaluate_setting import Parts, Subject, announce_data, cutter_of, load, size
from ecgjax.models.weights import load_card
from ecgjax.sweep import features
from ecgjax.sweep.features import Windows
from ecgjax.tasks import HeadRun, Task
from ecgjax.training import supervised
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog
from ecgjax.training.mesh import batch_sharding, make_mesh
from ecgjax.training.run_directory import RunDirectory

PROBE, FEATURES = "probe.npz", "features"


def run(
    config: ConfigDict, directory: RunDirectory, head_run: HeadRun, reported: tuple[Task, ...], interrupt: Interrupt
) -> None:
    """Obtains features, fits, tests and writes; DONE is left to the caller.

    Raises:
        UserError: weights, data or task cannot be used together, or the disk is full.
        SystemExit: SIGTERM or Ctrl-C came while features were computed (143 or 130).
    """
    with directory.setting_up():
        subject = load(config, directory, head_run, reported, Parts())
        directory.write_environment(seed=config.seed, data={"fingerprint": subject.data.store.fingerprint})
    announce_data(subject, f"{len(config.probe.strengths)} strengths")
    folder = directory.path / FEATURES
    started = time.monotonic()
    cache = obtain([subject], folder, interrupt)
    fit(subject, cache, time.monotonic() - started)
    shutil.rmtree(folder, ignore_errors=True)


def obtain(subjects: Sequence[Subject], folder: str | Path | None, interrupt: Interrupt) -> FeatureCache:
    """Pooled features of all windows of subjects that share model and store.

    Args:
        subjects: one or more.
        folder: where features are kept, see `ecgjax.sweep.features.obtain`.
        interrupt: likewise.
    """
    first = subjects[0]
    rows = {
        split: np.unique(np.concatenate([subject.data.rows[split] for subject in subjects]))
        for split in first.data.rows
    }
    sharding = batch_sharding(make_mesh(1, first.config.batch_size))
    cutter = cutter_of(first._replace(data=replace(first.data, rows=rows)), sharding)
    weights = load_card(Path(first.config.weights))["sha256"] if first.config.weights else None
    store = first.data.store
    return features.obtain(
        first.model,
        features.identity_of(first.model, weights, first.config.seed, store, cutter),
        store,
        cutter,
        features.windows_of(store, np.concatenate(list(rows.values())), cutter.window),
        kinds=("pooled",),
        batch_size=first.config.batch_size,
        folder=folder,
        interrupt=interrupt,
        sharding=sharding,
    )


def fit(subject: Subject, cache: FeatureCache, feature_seconds: float) -> None:
    """Fits the head on cached features, tests it and writes all files of the run but DONE.

    Args:
        subject: what is evaluated on what.
        cache: with all of its windows.
        feature_seconds: spent on its features.
    """
    data, probe = subject.data, subject.config.probe
    started = time.monotonic()
    x, windows = _read(subject, cache, "train")
    count = np.bincount(windows.record, minlength=len(data.targets))
    weight, y = 1 / count[windows.record], data.targets[windows.record]
    split, strengths = data.n_classification, tuple(map(float, probe.strengths))
    models = _join(
        _classify(x, y[:, :split], strengths, weight, probe), exact_linear.ridge(x, y[:, split:], strengths, weight)
    )
    del x, y
    found = [_scores(subject, cache, "validation", models.kernel[i], models.bias[i]) for i in range(len(strengths))]
    values = np.array([_values(subject, scores) for scores in found])
    chosen = _choose(values, split, strengths, probe.choose, subject)
    outputs = np.arange(len(chosen))
    kernel, bias = models.kernel[chosen, :, outputs].T, models.bias[chosen, outputs]
    with MetricLog(subject.directory) as log:
        log.truncate(0)
        for i, scores in enumerate(found):
            log.write(i + 1, {"strength": strengths[i], **outcome.validate(subject, scores, i + 1)})
    best = _scores(subject, cache, "validation", kernel, bias)
    score = outcome.validate(subject, best, len(strengths))["validation/score"]
    _write(subject, models, values, chosen, kernel, bias)
    seconds, tested = feature_seconds + time.monotonic() - started, time.monotonic()
    trained = kernel.size + bias.size
    outcome.write(
        subject,
        _scores(subject, cache, "test", kernel, bias),
        best={
            "epoch": None,
            "score": score,
            "strength": {data.classes[k]: strengths[chosen[k]] for k in outputs},
            "gradient": float(models.gradient[chosen, outputs].max()),
        },
        parameters={"trained": trained, "total": trained + size(subject.model.variables["params"])},
        training_seconds=seconds,
        started=tested,
    )


def _classify(x: NDArray, y: NDArray, strengths: Sequence[float], weight: NDArray, probe: ConfigDict) -> Models:
    if probe.classification == "logistic":
        return exact_linear.logistic(x, y, strengths, weight, solver=probe.solver)
    # As a logit that has value and slope of the fitted line where this is 1/2, so that windows are averaged alike.
    fitted = exact_linear.ridge(x, y, strengths, weight)
    return Models(4 * fitted.kernel, 4 * (fitted.bias - 0.5), fitted.gradient)


def _join(one: Models, other: Models) -> Models:
    return Models(*(np.concatenate(parts, axis=-1) for parts in zip(one, other, strict=True)))


def _read(subject: Subject, cache: FeatureCache, split: str) -> tuple[NDArray[np.float32], Windows]:
    store = subject.data.store
    window = window_samples(subject.model.spec.seconds, store.sampling_rate)
    windows = features.windows_of(store, subject.data.rows[split], window)
    return cache.rows("pooled", cache.find(*windows)).astype(np.float32), windows


def _scores(subject: Subject, cache: FeatureCache, split: str, kernel: NDArray, bias: NDArray) -> Scores:
    x, windows = _read(subject, cache, split)
    logits = jnp.asarray(x.astype(np.float64) @ kernel + bias, jnp.float32)
    item = {"record": windows.record, "start": windows.start, "valid": np.ones(len(x), bool)}
    return outcome.gather(subject.data, split, [(item, *supervised.scores_of(logits, subject.data.n_classification))])


def _values(subject: Subject, scores: Scores) -> NDArray[np.float64]:
    """(outputs,) AUROC, or mean absolute error, of the validation records; NaN where undefined."""
    data, split = subject.data, subject.data.n_classification
    targets = data.targets[data.rows["validation"]]
    parts = []
    if data.n_classification:
        parts.append(metrics.auroc(targets[:, :split], scores.records[:, :split]))
    if data.n_regression:
        parts.append(metrics.mae(targets[:, split:], scores.records[:, split:]))
    return np.concatenate(parts)


def _choose(
    values: NDArray[np.float64], split: int, strengths: Sequence[float], how: str, subject: Subject
) -> NDArray[np.intp]:
    """(outputs,) numbers of strengths: by the mean over the kind's labels, or by each label's own where it is defined.

    Of equal ones the largest strength. A regression target's error counts by how often it is known, as the pooled
    error does.
    """
    data = subject.data
    known = np.count_nonzero(~np.isnan(data.targets[data.rows["validation"]]), axis=0)
    order = np.argsort(strengths)[::-1]
    chosen = np.zeros(values.shape[1], np.intp)
    for kind, columns, sign in (("classification", slice(split), 1), ("regression", slice(split, None), -1)):
        own = sign * values[order][:, columns]
        if not own.shape[1]:
            continue
        share = known[columns] if kind == "regression" else np.ones(own.shape[1])
        defined = ~np.isnan(own).any(axis=0)
        best = int(np.argmax((own[:, defined] * share[defined]).sum(axis=1)))
        each = np.where(defined & (how == "each"), np.argmax(np.nan_to_num(own), axis=0), best)
        chosen[columns] = order[each]
        if how == "together" and best in (0, len(order) - 1) and len(order) > 1:
            logging.warning(
                "%s: the best strength, %g, is the %s that was tried; config.probe.strengths can be extended",
                kind, strengths[order[best]], "largest" if best == 0 else "smallest",
            )  # fmt: skip
    return chosen


def _write(subject: Subject, models: Models, values: NDArray, chosen: NDArray, kernel: NDArray, bias: NDArray) -> None:
    data = subject.data
    with replacing(subject.directory.path / PROBE) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            kernel=kernel.astype(np.float32),
            bias=bias.astype(np.float32),
            labels=np.array(data.classes, str),
            kinds=np.array(data.kinds, str),
            strengths=np.array(subject.config.probe.strengths, float),
            chosen=chosen,
            validation=values,
            gradient=models.gradient,
        )
