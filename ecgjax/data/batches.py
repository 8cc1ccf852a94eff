"""Batches for training and evaluation: iterators over plans, read ahead and moved to the devices."""

import json
from functools import partial

import grain
import jax
import numpy as np
from absl import logging

from ecgjax import distributed
from ecgjax.data.batch_plans import BatchPlan, Crops, EvaluationPlan, Plan
from ecgjax.data.crops import window_samples
from ecgjax.data.cutter import Cutter, HostCrops, Item, Placement, Protocol, make_cutter
from ecgjax.data.prefetch import prefetch_to_device
from ecgjax.data.store import Store


def training_iterator(
    store: Store,
    rows: np.ndarray,
    *,
    seconds: float,
    batch_size: int,
    seed: int,
    epochs: int,
    sampling_rate: float | None = None,
    placement: Placement = "auto",
    protocol: Protocol = "default",
    crops: Crops = "random",
    last_start: bool | None = None,
    cutter: Cutter | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> tuple[grain.DatasetIterator, Cutter]:
    """Training batches and what turns them into signals.

        batches, cutter = training_iterator(
            store, rows, seconds=2.5, sampling_rate=240, batch_size=64, seed=0, epochs=50
        )
        step = jax.jit(lambda state, cutter, item: update(state, cutter(item), targets[item["record"]]))
        for item in batches:
            state = step(state, cutter, item)

    The batches are the same wherever the signals lie. `iterator.get_state()` is a step number: save the iterator with
    `grain.checkpoint.CheckpointSave`, and `CheckpointRestore` continues with the very next batch.

    Args:
        store: the data.
        rows: row numbers in `store.records` to train on.
        seconds: length of a crop.
        batch_size: of the global batch; each process yields its share.
        seed: of order and windows.
        epochs: how often each record is seen.
        sampling_rate: Hz at the model's input; None is the data's own.
        placement: see `ecgjax.data.cutter.make_cutter`.
        protocol: "paper" never draws the last window and spreads NaN, as the paper's code does.
        crops: see `BatchPlan`.
        last_start: see `BatchPlan`; None: as the protocol says.
        cutter: one made before, for these rows among others; then `sampling_rate`, `placement` and `protocol` are its.
        sharding: of the batches over devices; None is JAX's default device.

    Raises:
        UserError: as `BatchPlan` and `make_cutter`.
    """
    lengths = store.records["samples"].to_numpy()
    if cutter is None:
        cutter = make_cutter(
            store,
            rows,
            seconds=seconds,
            sampling_rate=sampling_rate,
            placement=placement,
            protocol=protocol,
            sharding=sharding,
        )
    elif cutter.window != window_samples(seconds, store.sampling_rate):
        raise ValueError(
            f"a cutter of {cutter.window} samples; expected one of {seconds} s at {store.sampling_rate} Hz"
        )
    plan = BatchPlan(
        rows,
        lengths,
        window=cutter.window,
        batch_size=batch_size,
        seed=seed,
        epochs=epochs,
        last_start=cutter.protocol != "paper" if last_start is None else last_start,
        crops=crops,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    _report(store, plan.dropped, cutter)
    return iterate(store, plan, cutter, sharding), cutter


def evaluation_iterator(
    store: Store,
    rows: np.ndarray,
    cutter: Cutter,
    *,
    batch_size: int,
    sharding: jax.sharding.Sharding | None = None,
) -> grain.DatasetIterator:
    """All evaluation windows of some records once, in batches of one size, padded with windows that are not "valid".

    Args:
        store: the data.
        rows: row numbers in `store.records`.
        cutter: from `make_cutter` or `training_iterator`, made for these rows among others.
        batch_size: of the global batch; each process yields its share.
        sharding: of the batches over devices; None is JAX's default device.

    Returns:
        Iterator over {"record", "start", "valid", ...}, for `cutter`. `ecgjax.data.crops.mean_by_record` takes the
        predictions from there.

    Raises:
        UserError: no record holds a window.
    """
    plan = EvaluationPlan(
        rows,
        store.records["samples"].to_numpy(),
        window=cutter.window,
        batch_size=batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    _report(store, plan.dropped, cutter)
    return iterate(store, plan, cutter, sharding)


def iterate(
    store: Store, plan: Plan, cutter: Cutter, sharding: jax.sharding.Sharding | None = None
) -> grain.DatasetIterator:
    """Iterator over a plan's batches, for `cutter`, made for the plan's rows among others."""
    if cutter.dataset is not None and (np.asarray(cutter.dataset.first)[plan.rows] < 0).any():
        raise ValueError("the cutter was made for other rows than these")
    dataset = grain.MapDataset.source(plan)
    steps = getattr(plan, "steps_per_epoch", None)
    if cutter.condition is not None and steps is not None:
        dataset = dataset.map_with_index(partial(_with_epoch, steps))
    if cutter.dataset is None:
        dataset = dataset.map(HostCrops(store, cutter.window))
    # No read threads: the one that moves the batches to the device reads them, ahead of the step.
    read = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1))
    if cutter.dataset is not None and sharding is None:
        return iter(read)  # a few hundred bytes per batch, nothing to hide
    return prefetch_to_device(read, sharding)


def _with_epoch(steps: int, step: int, item: Item) -> Item:
    """The item with what tells an epoch's random leads from another's, and training from evaluation."""
    return {**item, "epoch": np.full(item["record"].shape, step // steps, np.int32)}


def _report(store: Store, dropped: np.ndarray, cutter: Cutter) -> None:
    if len(dropped) and distributed.first():
        names = store.records["record_id"].to_numpy()[dropped[:3]].tolist()
        logging.warning(
            "%s: %d records are shorter than the window of %d samples and left out: %s",
            store.path, len(dropped), cutter.window, json.dumps(names)[1:-1] + (", ..." if len(dropped) > 3 else ""),
        )  # fmt: skip
