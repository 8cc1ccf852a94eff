"""The program of a unit, from what its cells are: its batches, what cuts them, and where on the devices they go."""

from collections.abc import Sequence
from typing import NamedTuple

import grain
import jax
import numpy as np

from ecgjax.data.batches import BatchPlan
from ecgjax.data.cutter import Cutter
from ecgjax.jobs.evaluate_setting import Subject, cutter_of, stream
from ecgjax.training import fused_heads, stacked, supervised
from ecgjax.training.mesh import batch_sharding, make_mesh
from ecgjax.training.together import Together


class Started(NamedTuple):
    """A program that can start.

    Attributes:
        program: its functions and initial state.
        source: what items are read with.
        batches: of training.
        steps: of an epoch.
        sharding: of evaluation batches.
        said: how a cell is trained, in words.
    """

    program: Together
    source: Cutter
    batches: grain.DatasetIterator
    steps: int
    sharding: jax.sharding.Sharding | None
    said: str


def start(kind: str, subjects: Sequence[Subject]) -> Started:
    """Builds the program of a unit's cells.

    Args:
        kind: of the unit, "fused" or "stacked"; one cell may be left of it.
        subjects: of the cells; their records are the same.
    """
    return {"fused": _fused, "stacked": _stacked}[kind](subjects)


def _fused(subjects: Sequence[Subject]) -> Started:
    source, batches, steps = stream(subjects[0])
    program = fused_heads.build(subjects[0].model, [_head(subject) for subject in subjects])
    said = f"trained with {len(subjects) - 1} other heads on one frozen encoder"
    return Started(program, source, batches, steps, None, said)


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
        paper_groups=config.protocol == "paper",
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
        seed=config.seed if config.data.seed is None else config.data.seed,
        epochs=config.epochs,
        last_start=cutter.protocol != "paper",
        crops=config.data.crops,
    )
