"""The program of a unit, from what its cells are: its batches, what cuts them, and where on the devices they go."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import numpy as np
from numpy.typing import NDArray

from ecgjax import switches
from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.batches import iterate
from ecgjax.data.cutter import Cutter
from ecgjax.data.feature_cache import Kind
from ecgjax.data.stacked_plan import RoundsPlan
from ecgjax.jobs.evaluate_setting import Subject, cutter_of, stream, stream_seed
from ecgjax.models.weights import load_card
from ecgjax.sweep.kept_features import Kept, keep
from ecgjax.training import fused_heads, stacked, supervised
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.mesh import batch_sharding, make_mesh
from ecgjax.training.together import Source, Together


class Started(NamedTuple):
    """A program that can start.

    Attributes:
        program: its functions and initial state.
        source: what items of training are read with.
        batches: of training.
        steps: of an epoch.
        sharding: of evaluation batches.
        said: how a cell is trained, in words.
        kept: features from the cache, which evaluation reads; None: it reads signals as training does.
    """

    program: Together
    source: Source
    batches: grain.DatasetIterator
    steps: int
    sharding: jax.sharding.Sharding | None
    said: str
    kept: Kept | None = None


def start(
    kind: str, subjects: Sequence[Subject], kept: Sequence[Kind], folder: str | None, interrupt: Interrupt
) -> Started:
    """Builds the program of a unit's cells.

    Args:
        kind: of the unit, "fused" or "stacked"; one cell may be left of it.
        subjects: of the cells; without kept features, their records are the same.
        kept: which features of a frozen encoder are kept, those that others of the sweep read among them.
        folder: where; None: beside the store.
        interrupt: ends the computation of features.

    Raises:
        UserError: features cannot be kept there.
        SystemExit: SIGTERM or Ctrl-C came while features were computed (143 or 130).
    """
    if kind == "stacked":
        return _stacked(subjects)
    return _fed(subjects, kept, folder, interrupt) if kept else _fused(subjects)


def _fused(subjects: Sequence[Subject]) -> Started:
    _check_same_records(subjects)
    sharding = batch_sharding(make_mesh(1, subjects[0].config.batch_size))
    source, batches, steps = stream(subjects[0], sharding)
    program = fused_heads.build(subjects[0].model, [_head(subject) for subject in subjects], sharding)
    return Started(program, source, batches, steps, sharding, _said(subjects))


def _fed(subjects: Sequence[Subject], kinds: Sequence[Kind], folder: str | None, interrupt: Interrupt) -> Started:
    """As `_fused`, with features from the cache; what is not there yet is computed first."""
    config, data, model = subjects[0].config, subjects[0].data, subjects[0].model
    sharding = batch_sharding(make_mesh(1, config.batch_size))
    rows = {split: _union(subject.data.rows[split] for subject in subjects) for split in data.rows}
    cutter = cutter_of(subjects[0]._replace(data=replace(data, rows=rows)), sharding)
    plans = [_plan(subject, cutter) for subject in subjects]
    weights = load_card(Path(config.weights))["sha256"] if config.weights else None
    kept = keep(
        model,
        weights,
        config.seed,
        data.store,
        cutter,
        plans if _differ(subjects) else plans[:1],
        [rows["validation"], rows["test"]],
        kinds=kinds,
        batch_size=config.batch_size,
        placement=config.data.placement,
        folder=folder,
        interrupt=interrupt,
        sharding=sharding,
    )
    program = fused_heads.build(model, [_head(subject) for subject in subjects], sharding)
    source: Source = kept.source if kept.trained else cutter
    plan = RoundsPlan(plans) if _differ(subjects) else plans[0]
    batches = kept.training(plan) if kept.trained else iterate(data.store, plan, cutter, sharding)
    said = f"{_said(subjects)}, features from {kept.cache.folder}"
    return Started(program, source, batches, plan.steps_per_epoch, sharding, said, kept)


def _check_same_records(subjects: Sequence[Subject]) -> None:
    first = subjects[0].data.rows
    for subject in subjects:
        for split, rows in subject.data.rows.items():
            if not np.array_equal(rows, first[split]):
                raise ValueError(f"{subject.directory.path}: other {split} records than {subjects[0].directory.path}")


def _differ(subjects: Sequence[Subject]) -> bool:
    """Whether batches are others from cell to cell."""
    streams = {(stream_seed(subject.config), subject.data.rows["train"].tobytes()) for subject in subjects}
    return len(streams) > 1


def _union(rows: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(list(rows)))


def _said(subjects: Sequence[Subject]) -> str:
    return f"trained with {len(subjects) - 1} other heads on one frozen encoder"


def _head(subject: Subject) -> fused_heads.Head:
    config, data = subject.config, subject.data
    return fused_heads.Head(
        supervised.get_mode(config.mode),
        data.n_classification,
        data.n_regression,
        config.learning_rate,
        config.weight_decay,
        config.seed,
        data.targets,
    )


def _stacked(subjects: Sequence[Subject]) -> Started:
    _check_same_records(subjects)
    config, data = subjects[0].config, subjects[0].data
    mesh = make_mesh(len(subjects), config.batch_size)
    cutter = cutter_of(subjects[0], batch_sharding(mesh))
    plans = [_plan(subject, cutter) for subject in subjects]
    program = stacked.build(
        [_run(subject) for subject in subjects],
        supervised.get_mode(config.mode),
        n_classification=data.n_classification,
        n_regression=data.n_regression,
        mesh=mesh,
        paper_groups=switches.of(config).rate_groups == "published",
    )
    rows, columns = mesh.devices.shape
    said = f"trained with {len(subjects) - 1} other runs on {rows} x {columns} devices"
    batches = stacked.batches(data.store, plans, cutter, mesh)
    return Started(program, cutter, batches, plans[0].steps_per_epoch, stacked.evaluation_sharding(mesh), said)


def _run(subject: Subject) -> stacked.Run:
    config = subject.config
    return stacked.Run(
        subject.model,
        config.learning_rate,
        config.rate_factor,
        config.weight_decay,
        config.seed,
        subject.data.targets,
    )


def _plan(subject: Subject, cutter: Cutter) -> BatchPlan:
    config, data = subject.config, subject.data
    return BatchPlan(
        data.rows["train"],
        data.store.records["samples"].to_numpy(np.int64),
        window=cutter.window,
        batch_size=config.batch_size,
        seed=stream_seed(config),
        epochs=config.epochs,
        last_start=switches.of(config).last_crop_start == "drawn",
        crops=config.data.crops,
    )
