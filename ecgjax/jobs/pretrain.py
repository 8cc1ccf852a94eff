"""Job "pretrain": ECG-CPC by contrastive predictive coding; see configs/cpc_pretrain.py."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ecgjax import distributed
from ecgjax.errors import UserError
from ecgjax.jobs.pretrain_setting import SYNTHETIC, Data, check, open_data
from ecgjax.models import registry, weights
from ecgjax.pretraining import cpc
from ecgjax.pretraining import step as pretraining
from ecgjax.training import optimiser, schedules
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog, read_metrics
from ecgjax.training.progress import ProgressBar
from ecgjax.training.run_directory import RunDirectory

GROUPS = (("head", ("head/",)), ("predictor", ("encoder/predictor/",)), ("encoder", ("encoder/encoder/",)))
LAYERWISE = {"head": 1.0, "predictor": 0.1, "encoder": 0.01}
STRIDE = 2  # samples per token


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Pretrains, or continues where an earlier process stopped.

    Raises:
        UserError: config, data or work directory cannot be used, a loss is not finite, the disk is full.
        SystemExit: SIGTERM or Ctrl-C came and everything is saved (143 or 130).
    """
    check(config)
    directory = RunDirectory.open(workdir, config)
    if directory.done:
        distributed.say(f"{directory.path}: done already; see results.json there")
        return
    with Interrupt() as interrupt:
        with directory.setting_up():
            data = open_data(config)
            directory.write_environment(seed=config.seed, data={data.store.path.name: data.store.fingerprint})
            training = _Training(config, data)
        training.announce()
        training.train(directory, interrupt)
    training.finish(directory)


class _Training:
    """The state, the compiled programs over it, and the loop."""

    def __init__(self, config: ConfigDict, data: Data) -> None:
        self.config, self.data = config, data
        self.steps = config.epochs * data.steps_per_epoch
        self.tokens = -(-data.cutter.samples // STRIDE)
        # The state-space kernels belong to a length: here that of the crops, as in the paper (1200 tokens for 10 s).
        self.encoder = registry.create("ecg_cpc", **config.model, l_max=self.tokens)
        init_key, key = jax.random.split(jax.random.key(config.seed))
        params, rest = pretraining.init_params(self.encoder, init_key)
        rates = {name: config.learning_rate * (LAYERWISE[name] if config.layerwise else 1.0) for name, _ in GROUPS}
        labels, self.groups = optimiser.rate_groups(params, GROUPS, rates)
        schedule = schedules.create(config.schedule, warmup=config.warmup_steps, total=self.steps)
        adamw = optimiser.adamw(labels, rates, config.weight_decay, schedule)
        clip = config.data.clip or None
        self.update = pretraining.make_update(self.encoder, adamw, clip)
        self.validate_batch = pretraining.make_validate(self.encoder, clip)
        self.state = self._place(pretraining.init(adamw, params, rest, key))
        self.best: dict[str, float] = {"loss": math.inf, "step": 0}
        self.rates: list[float] = []  # records/s of each log interval without compilation, validation or checkpoint

    def announce(self) -> None:
        """Prints what will be trained on what."""
        config, data = self.config, self.data
        if config.variant == "reduced" and config.data.stores == SYNTHETIC:
            distributed.say(
                "Reduced model on the embedded synthetic ECGs: a demonstration of a few minutes, not a useful model.\n"
                "The full recipe is configs/cpc_pretrain.py:paper; --config.data.stores=DIR names other data."
            )
        distributed.say(
            f"ECG-CPC of width {config.model.width} with {config.model.layers} layers on {data.store.path}: "
            f"{data.training_records:,} records, crops of {config.data.seconds:g} s ({self.tokens} tokens), "
            f"{config.epochs} epochs of {data.steps_per_epoch} steps of {config.batch_size}\n"
            f"{optimiser.group_table(self.groups)}"
        )

    def train(self, directory: RunDirectory, interrupt: Interrupt) -> None:
        """Trains to the end, or until a signal comes: then saves and raises SystemExit."""
        config, data = self.config, self.data
        validate_every = config.validate_every or data.steps_per_epoch
        with Checkpoints(directory.path / "checkpoints") as checkpoints, MetricLog(directory) as log:
            step = self._resume(checkpoints, log)
            stopwatch = _Stopwatch(step)
            with ProgressBar("pretraining", self.steps, step, config.batch_size) as bar:
                while step < self.steps and not interrupt.stops_at(step):
                    self.state = self.update(self.state, data.cutter, next(data.batches))
                    step += 1
                    if step % config.log_every == 0 or step == self.steps:
                        self._log(step, log, bar, stopwatch)
                    validate = step % validate_every == 0 or step == self.steps
                    if validate or step % config.checkpoint_every == 0:
                        self._check_finite(directory)
                        best = validate and self._validate(step, log)
                        checkpoints.save(step, self.state, data.batches, meta={"best": self.best}, best=best)
                        stopwatch.restart(step)
            if step < self.steps:
                self._check_finite(directory)
                checkpoints.save(step, self.state, data.batches, meta={"best": self.best}, wait=True)
                distributed.say(
                    f"{directory.path}: stopped by a signal and saved after step {step}; the same command continues"
                )
                raise SystemExit(interrupt.exit_code)

    def finish(self, directory: RunDirectory) -> None:
        """Writes weights, results and DONE, and prints what came out; returns when all of it is there."""
        if distributed.first():
            self._write(directory)
        distributed.exchange(None)

    def _write(self, directory: RunDirectory) -> None:
        params, rest = jax.device_get((self.state["params"], self.state["rest"]))
        results: dict[str, Any] = {}
        for line in read_metrics(directory.path / "metrics.jsonl"):
            results.update(line)
        del results["seconds"]
        chance = (self.tokens - cpc.STEPS_AHEAD) * math.log(cpc.NEGATIVES + 1)
        results |= {
            "chance_loss": chance,
            "best": self.best,
            "records_per_second": float(np.median(self.rates)) if self.rates else None,
            "parameters": {row.group: row.values for row in self.groups},
        }
        weights.save_weights(
            directory.path / "weights",
            self.encoder,
            {"params": params["encoder"], **rest},
            heads={"ssl": params["head"]},
            source=f"pretrained by ecgjax on {self.data.store.meta['source']}",
            step=self.steps,
        )
        directory.write_json("results.json", results)
        directory.finish()
        rate = f"{results['records_per_second']:,.1f} records/s; " if self.rates else ""
        print(
            f"training    loss {results['loss']:.1f} (chance {chance:.1f})  accuracy {results['accuracy']:.4f}\n"
            f"validation  loss {results['validation_loss']:.1f}  accuracy {results['validation_accuracy']:.4f}"
            f"  (best loss {self.best['loss']:.1f} after step {self.best['step']})\n"
            f"{rate}weights, results.json, metrics.jsonl, tensorboard and checkpoints are in {directory.path}"
        )

    def _place(self, tree: Any) -> Any:
        # Committed to its place, restored or not: state and zeroed sums then always meet the same compiled program.
        return jax.tree.map(lambda leaf: _put(leaf, self.data.replicated), tree)

    def _resume(self, checkpoints: Checkpoints, log: MetricLog) -> int:
        restored = checkpoints.restore(self.state, self.data.batches)
        log.truncate(0 if restored is None else restored.step)
        if restored is None:
            return 0
        self.state, self.best = restored.state, restored.meta["best"]
        distributed.say(f"continuing after step {restored.step}")
        return restored.step

    def _log(self, step: int, log: MetricLog, bar: ProgressBar, stopwatch: "_Stopwatch") -> None:
        sums = jax.device_get(self.state["sums"])
        values = {name: float(sums[name] / sums["updates"]) for name in ("loss", "accuracy")}
        steps_per_second = stopwatch.lap(step)
        if steps_per_second is not None:
            self.rates.append(steps_per_second * self.config.batch_size)
        log.write(step, values, {"records_per_second": self.rates[-1]} if steps_per_second else None)
        bar.update(step, values)
        self.state["sums"] = self._place({**pretraining.zero_sums(), "nonfinite": self.state["sums"]["nonfinite"]})

    def _check_finite(self, directory: RunDirectory) -> None:
        step = int(self.state["sums"]["nonfinite"])
        if step >= 0:
            raise UserError(
                f"{directory.path}: the loss of step {step} is not finite; the checkpoint before it is kept. Expected "
                "sound signals and a stable learning rate: see config.data.clip and config.learning_rate"
            )

    def _validate(self, step: int, log: MetricLog) -> bool:
        data, config = self.data, self.config
        totals = self._place(jnp.zeros(3))
        # The same negatives every time, so that validations are comparable.
        key = jax.random.fold_in(self._place(jax.random.key(config.seed)), 1)
        for number, item in enumerate(data.validation(config.batch_size)):
            totals = self.validate_batch(self.state, data.cutter, item, jax.random.fold_in(key, number), totals)
        loss, accuracy, windows = np.asarray(totals, np.float64)
        log.write(step, {"validation_loss": loss / windows, "validation_accuracy": accuracy / windows})
        if not loss / windows < self.best["loss"]:
            return False
        self.best = {"loss": loss / windows, "step": step}
        return True


class _Stopwatch:
    """Steps per second; the first lap of a process, which compiles, is not counted."""

    def __init__(self, step: int) -> None:
        self._step, self._time, self._counts = step, 0.0, False

    def restart(self, step: int) -> None:
        """Leaves out the time since the last lap."""
        self._step, self._time = step, time.monotonic()

    def lap(self, step: int) -> float | None:
        """Steps per second since the last lap or restart."""
        steps, seconds = step - self._step, time.monotonic() - self._time
        counts, self._counts = self._counts and steps > 0, True
        self.restart(step)
        return steps / seconds if counts else None


def _put(leaf: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = distributed.put_replicated(np.asarray(jax.random.key_data(leaf)), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return distributed.put_replicated(np.asarray(leaf), sharding)
