"""Tests the models of a study of transfer: their best checkpoints, on the test folds of the other places."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ecgjax import tasks
from ecgjax.data.crops import split_short, window_samples
from ecgjax.data.store import Store, open_store
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import results
from ecgjax.evaluation.labelled import Labelled
from ecgjax.jobs import evaluate, evaluate_setting
from ecgjax.jobs.evaluate_setting import Parts, Subject
from ecgjax.jobs.transfer_setting import COMMON, Place
from ecgjax.models.model import Model
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.mesh import batch_sharding, make_mesh
from ecgjax.training.run_directory import RunDirectory


def training_path(folder: Path, name: str) -> Path:
    """The evaluation of the model that was trained on a place."""
    return folder / "trainings" / name


def predictions_path(folder: Path, train: str, test: str) -> Path:
    """Where the predictions of a model for a place's test fold are; of its own place they are its evaluation's."""
    if train == test:
        return training_path(folder, train) / results.PREDICTIONS
    return folder / "tests" / f"{train}_on_{test}.npz"


def predict(cell: ConfigDict, folder: Path, place: Place, others: Sequence[Place], stores: Mapping[str, Path]) -> None:
    """Writes predictions of the best checkpoint of a place for the test folds of the others, where there are none yet.

    Args:
        cell: config of the evaluation that trained it.
        folder: of the study.
        place: that it was trained on.
        others: to test on; the place itself is left to its evaluation.
        stores: name -> store in common terms.

    Raises:
        UserError: no checkpoint, no test record that is long enough, or the disk is full.
    """
    todo = [b for b in others if b.name != place.name and not predictions_path(folder, place.name, b.name).is_file()]
    if not todo:
        return
    path = training_path(folder, place.name)
    head_run, reported = tasks.get(cell.task)
    parts = Parts()
    model = parts.model(cell)
    moments = parts.moments(cell, open_store(cell.data.store))  # derived leads follow the training's
    mesh = make_mesh(1, cell.batch_size)
    sharding = batch_sharding(mesh)
    program = best = None
    for other in todo:
        data = _test_data(open_store(stores[other.name]), place, other, model)
        subject = Subject(cell, RunDirectory(path), head_run, reported, model, data, moments)
        if program is None or best is None:
            program = evaluate_setting.build(subject, mesh)
            with Checkpoints(path / "checkpoints") as checkpoints:
                best = checkpoints.restore(program.state, best=True)
            if best is None:
                raise UserError(
                    f"{path / 'checkpoints'}: no best checkpoint; expected one (remove {path} to train again)"
                )
        cutter = evaluate_setting.cutter_of(subject, sharding)
        print(f"testing {place.name} on {other.name}: {len(data.rows['test']):,} records", flush=True)
        scores = evaluate.predict(subject, program, cutter, best.state, "test", sharding)
        columns = [i for i, term in enumerate(data.classes) if term in other.mapped.terms]
        index, rows = data.store.records.iloc[data.rows["test"]], data.rows["test"]
        target = predictions_path(folder, place.name, other.name)
        with disk_errors(target):
            target.parent.mkdir(exist_ok=True)
        results.write_predictions(
            target,
            index["record_id"].tolist(),
            data.targets[rows][:, columns],
            scores.records[:, columns],
            [data.classes[i] for i in columns],
            ["classification"] * len(columns),
            patient_id=index["patient_id"].tolist(),
        )


def _test_data(store: Store, place: Place, other: Place, model: Model) -> Labelled:
    """The test fold of a place with the outputs of a model that was trained on another."""
    classes = place.mapped.terms
    own = store.classes(COMMON)
    targets = np.full((len(store), len(classes)), np.nan, np.float32)
    for i, term in enumerate(classes):
        if term in own:
            targets[:, i] = store.targets(COMMON)[:, own.index(term)]
    window = window_samples(model.spec.seconds, store.sampling_rate)
    rows, short = split_short(store.rows("test"), store.records["samples"].to_numpy(), window)
    if not len(rows):
        raise UserError(
            f"{other.store.path} ({other.name}): no test record of {model.spec.seconds:g} s, the window of the model"
        )
    kinds = ("classification",) * len(classes)
    return Labelled(store, COMMON, classes, kinds, targets, {"test": rows}, {"test": len(short)})
