"""Job "evaluate": one model on one task in one mode, from the data to intervals; see configs/evaluate.py."""

import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ecgjax import tasks
from ecgjax.data.batches import evaluation_iterator
from ecgjax.data.cutter import Cutter
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate_exact
from ecgjax.jobs import evaluate_outcome as outcome
from ecgjax.jobs.evaluate_outcome import Scores, mean_loss
from ecgjax.jobs.evaluate_setting import Setting, Subject, announce, check, set_up, size
from ecgjax.reporting import evaluation_report
from ecgjax.tasks import HeadRun, Task
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog
from ecgjax.training.progress import ProgressBar
from ecgjax.training.run_directory import RunDirectory
from ecgjax.training.supervised import Program, TrainState, get_mode


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
        if get_mode(config.mode).exact:
            evaluate_exact.run(config, directory, head_run, reported, interrupt)
        else:
            _run(config, directory, head_run, reported, interrupt)
    directory.finish()
    evaluation_report.show(directory.path)


def _run(
    config: ConfigDict, directory: RunDirectory, head_run: HeadRun, reported: tuple[Task, ...], interrupt: Interrupt
) -> None:
    with directory.setting_up():
        setting = set_up(config, directory, head_run, reported)
    announce(setting)
    state, best, seconds = _train(setting, interrupt)
    _test(setting, state, best, seconds)


def _train(setting: Setting, interrupt: Interrupt) -> tuple[TrainState, dict[str, Any], float]:
    """The state of the best epoch, its epoch and score, and the seconds spent."""
    config, program, data = setting.subject.config, setting.program, setting.subject.data
    started = time.monotonic()
    targets, state = jnp.asarray(data.targets), program.state
    total = config.epochs * setting.steps_per_epoch
    meta: dict[str, Any] = {"epoch": 0, "score": None, "losses": []}
    folder = setting.subject.directory.path
    with Checkpoints(folder / "checkpoints") as checkpoints, MetricLog(setting.subject.directory) as log:
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
                    mean = mean_loss(pending, step)
                    log.write(step, {"train/loss": mean})
                    bar.update(step, {"loss": mean})
                    pending = []
                if not within:
                    values = {"epoch": epoch, "train/loss": mean_loss(pending, step), **_validate(setting, state)}
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


def _validate(setting: Setting, state: TrainState) -> dict[str, float]:
    return outcome.validate(setting.subject, _predict(setting, state, "validation"), int(state.step))


def _predict(setting: Setting, state: TrainState, split: str) -> Scores:
    return predict(setting.subject, setting.program, setting.cutter, state, split, setting.sharding)


def predict(
    subject: Subject,
    program: Program,
    cutter: Cutter,
    state: TrainState,
    split: str,
    sharding: jax.sharding.Sharding | None = None,
) -> Scores:
    """What a model says of a split of the subject's data.

    Args:
        subject: model and data.
        program: of the model.
        cutter: made for the split's rows among others.
        state: of the model, as it is to be tested.
        split: name of the split.
        sharding: of the batches over devices, as the cutter's.
    """
    data, found = subject.data, []
    options = {"batch_size": subject.config.batch_size, "sharding": sharding}
    for item in evaluation_iterator(data.store, data.rows[split], cutter, **options):
        # The device runs ahead; the host waits where the scores are gathered.
        found.append((item, *program.predict(state, program.frozen, cutter, item)))
    return outcome.gather(data, split, found)


def _test(setting: Setting, state: TrainState, best: dict[str, Any], training_seconds: float) -> None:
    started = time.monotonic()
    trained = size(state.params)
    outcome.write(
        setting.subject,
        _predict(setting, state, "test"),
        best=best,
        parameters={"trained": trained, "total": trained + size(setting.program.frozen.get("params", {}))},
        training_seconds=training_seconds,
        started=started,
    )
    outcome.save_weights(setting.subject, state.params, state.rest)
