"""Job "pretrain": an encoder by any objective; see configs/pretrain.py, and configs/cpc_pretrain.py for ECG-CPC."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ecgjax import distributed
from ecgjax.compilation.measure import unoptimised_flops
from ecgjax.compilation.programs import Compilable
from ecgjax.errors import UserError
from ecgjax.jobs.pretrain_setting import SYNTHETIC, Data, Recipe, check, open_data, recipe
from ecgjax.models import weights
from ecgjax.pretraining import monitors, registry
from ecgjax.pretraining import step as pretraining
from ecgjax.pretraining.objective import Setup
from ecgjax.training import optimiser, schedules
from ecgjax.training.checkpoints import Checkpoints
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import MetricLog, read_metrics
from ecgjax.training.progress import ProgressBar
from ecgjax.training.run_directory import RunDirectory

GROUPS = (("head", ("head/",)), ("predictor", ("encoder/predictor/",)), ("encoder", ("encoder/encoder/",)))
LAYERWISE = {"head": 1.0, "predictor": 0.1, "encoder": 0.01}
ONE_RATE = (("head", ("head/",)), ("encoder", ("encoder/",)))
UNKNOWN = 10**9  # updates, for schedules of programs that are only lowered
FLOPS_OF = "cuda"  # whose forms of the operations a budget counts, wherever the run is: attention without loops


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
            chosen = recipe(config)
            data = open_data(config, chosen)
            directory.write_environment(seed=config.seed, data={data.store.path.name: data.store.fingerprint})
            training = _Training(config, chosen, data)
        training.announce()
        training.train(directory, interrupt)
    training.finish(directory)


class _Training:
    """The state, the compiled programs over it, and the loop."""

    def __init__(self, config: ConfigDict, chosen: Recipe, data: Data) -> None:
        self.config, self.recipe, self.data = config, chosen, data
        samples = data.cutter.samples // registry.segments(chosen.objective)
        encoder, self.kept = chosen.create(samples)
        encoder = replace(encoder, remat=config.remat)
        targets = data.targets(config.data.labels) if "labels" in config.data else None
        by_flops = "budget" in config and config.budget.flops is not None
        self.flops_per_step: float | None = None
        self.steps = UNKNOWN if by_flops else self._steps()
        self._build(Setup(encoder, samples, self.steps, targets))
        if "budget" in config:
            self.flops_per_step = self._flops()
        if by_flops:
            self.steps = self._steps()
            self._build(Setup(encoder, samples, self.steps, targets))
        self.state = self._place(self._initial())
        self.best: dict[str, float] = {"loss": math.inf, "step": 0}
        self.rates: list[float] = []  # records/s of each log interval without compilation, validation or checkpoint

    def _build(self, setup: Setup) -> None:
        """The programs; nothing is computed."""
        config = self.config
        self.mixture = registry.create(self.recipe.objective, setup, self.recipe.options)
        known = {"targets": lambda: setup.targets, "patient": self.data.patients}
        self.facts = self._place({name: jnp.asarray(known[name]()) for name in self.mixture.facts})
        params, *_ = jax.eval_shape(lambda: pretraining.init_params(self.mixture, jax.random.key(0)))
        groups, layerwise = (GROUPS, config.layerwise) if "layerwise" in config else (ONE_RATE, False)
        rates = {name: config.learning_rate * (LAYERWISE[name] if layerwise else 1.0) for name, _ in groups}
        labels, self.groups = optimiser.rate_groups(params, groups, rates)
        schedule = schedules.create(config.schedule, warmup=config.warmup_steps, total=setup.steps)
        self.adamw = optimiser.adamw(labels, rates, config.weight_decay, schedule)
        clip = config.data.clip or None
        self.update = pretraining.make_update(self.mixture, self.adamw, clip)
        self.validate_batch = pretraining.make_validate(self.mixture, clip)
        self.monitor = pretraining.make_monitor(self.mixture, clip)

    def _initial(self) -> pretraining.State:
        init_key, key = jax.random.split(jax.random.key(self.config.seed))
        params, rest, memory = pretraining.init_params(self.mixture, init_key)
        return pretraining.init(self.mixture, self.adamw, params, rest, key, memory)

    def _flops(self) -> float | None:
        """Of one update over all devices, before the compiler."""
        item = {name: value for name, value in next(self._validation()).items() if name != "valid"}
        arguments = (jax.eval_shape(self._initial), self.data.cutter, item, self.facts)
        described = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
        program = Compilable("pretraining", self.update, described, (0,), self.config.batch_size)
        return unoptimised_flops(program, FLOPS_OF)

    def _steps(self) -> int:
        config, per_epoch = self.config, self.data.steps_per_epoch
        if "budget" not in config:
            return config.epochs * per_epoch
        if config.budget.recordings is not None:
            steps = config.budget.recordings // config.batch_size
        elif config.budget.flops is not None:
            assert self.flops_per_step is not None  # lowered for a platform that counts them
            steps = int(config.budget.flops // self.flops_per_step)
        else:
            steps = round(config.budget.epochs * per_epoch)
        if steps < 1:
            raise UserError(f"config.budget is less than one update of {config.batch_size} recordings; expected more")
        return steps

    def _validation(self) -> Any:
        return self.data.validation(self.config.batch_size)

    def announce(self) -> None:
        """Prints what will be trained on what."""
        config, data = self.config, self.data
        if config.get("variant") == "reduced" and config.data.stores == SYNTHETIC:
            distributed.say(
                "Reduced model on the embedded synthetic ECGs: a demonstration of a few minutes, not a useful model.\n"
                "The full recipe is configs/cpc_pretrain.py:paper; --config.data.stores=DIR names other data."
            )
        what = f"{self.recipe.model} by {self.recipe.objective}"
        if "budget" not in config:
            what = f"ECG-CPC of width {config.model.width} with {config.model.layers} layers"
        cost = "" if not self.flops_per_step else f", {self.flops_per_step * self.steps:.3g} FLOPs in all"
        distributed.say(
            f"{what} on {data.store.path}: {len(data.training_rows):,} records, crops of {data.seconds:g} s, "
            f"{self.steps} steps of {config.batch_size} ({data.steps_per_epoch} in an epoch){cost}\n"
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
                    self.state = self.update(self.state, data.cutter, next(data.batches), self.facts)
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
        parts = self.mixture.parts
        if len(parts) == 1 and parts[0].objective.chance is not None:
            results["chance_loss"] = parts[0].objective.chance
        results |= {
            "best": self.best,
            "records_per_second": float(np.median(self.rates)) if self.rates else None,
            "parameters": {row.group: row.values for row in self.groups},
        }
        if "budget" in self.config:
            flops = self.flops_per_step and self.flops_per_step * self.steps
            seen = self.steps * self.config.batch_size
            results["budget"] = {"recordings_seen": seen, "flops_per_step": self.flops_per_step, "flops": flops}
            results["objective"], results["model"] = self.recipe.objective, self.recipe.model
        weights.save_weights(
            directory.path / "weights",
            self.kept,
            {"params": params["encoder"], **rest},
            heads={"ssl": params["head"]},
            source=f"pretrained by ecgjax on {self.data.store.meta['source']}",
            step=self.steps,
        )
        directory.write_json("results.json", results)
        directory.finish()
        rate = f"{results['records_per_second']:,.1f} records/s; " if self.rates else ""
        chance = f" (chance {results['chance_loss']:.5g})" if "chance_loss" in results else ""
        lines = (
            "  ".join(f"{name} {results[prefix + name]:.5g}" for name in ("loss", *self.mixture.metrics))
            for prefix in ("", "validation_")
        )
        print(
            f"training    {next(lines)}{chance}\n"
            f"validation  {next(lines)}  (best loss {self.best['loss']:.5g} after step {self.best['step']})\n"
            f"{rate}weights, results.json, metrics.jsonl, tensorboard and checkpoints are in {directory.path}"
        )

    def _place(self, tree: Any) -> Any:
        # Committed to its place, restored or not: state and zeroed sums then always meet the same compiled program.
        return jax.tree.map(lambda leaf: _put(leaf, self.data.replicated), tree)

    def _resume(self, checkpoints: Checkpoints, log: MetricLog) -> int:
        restored = checkpoints.restore(self.state, self.data.batches)
        log.truncate(0 if restored is None else restored.step)
        if restored is None:
            if "memory" in self.state:
                self.state["memory"] = self._place(self.mixture.fit(self.state["memory"], self._crops))
            return 0
        self.state, self.best = restored.state, restored.meta["best"]
        distributed.say(f"continuing after step {restored.step}")
        return restored.step

    def _log(self, step: int, log: MetricLog, bar: ProgressBar, stopwatch: "_Stopwatch") -> None:
        sums = jax.device_get(self.state["sums"])
        values = {name: float(sums[name] / sums["updates"]) for name in ("loss", *self.mixture.metrics)}
        steps_per_second = stopwatch.lap(step)
        if steps_per_second is not None:
            self.rates.append(steps_per_second * self.config.batch_size)
        log.write(step, values, {"records_per_second": self.rates[-1]} if steps_per_second else None)
        bar.update(step, values)
        nonfinite = self.state["sums"]["nonfinite"]
        self.state["sums"] = self._place({**pretraining.zero_sums(self.mixture), "nonfinite": nonfinite})

    def _check_finite(self, directory: RunDirectory) -> None:
        step = int(self.state["sums"]["nonfinite"])
        if step >= 0:
            raise UserError(
                f"{directory.path}: the loss of step {step} is not finite; the checkpoint before it is kept. Expected "
                "sound signals and a stable learning rate: see config.data.clip and config.learning_rate"
            )

    def _validate(self, step: int, log: MetricLog) -> bool:
        data, config = self.data, self.config
        totals = self._place(jnp.zeros(2 + len(self.mixture.metrics)))
        # The same negatives every time, so that validations are comparable.
        key = jax.random.fold_in(self._place(jax.random.key(config.seed)), 1)
        for number, item in enumerate(self._validation()):
            key_of_batch = jax.random.fold_in(key, number)
            totals = self.validate_batch(self.state, data.cutter, item, key_of_batch, totals, self.facts)
        *sums, windows = np.asarray(totals, np.float64)
        values = [value / windows for value in sums]
        names = (f"validation_{name}" for name in ("loss", *self.mixture.metrics))
        log.write(step, dict(zip(names, values, strict=True)) | self._collapse())
        if not values[0] < self.best["loss"]:
            return False
        self.best = {"loss": values[0], "step": step}
        return True

    def _collapse(self) -> dict[str, float]:
        """Whether the features of validation crops still differ; nothing where the config does not ask."""
        records = self.config.get("monitor_records", 0)
        if not records:
            return {}
        moments = self._place(monitors.empty(self.mixture.encoder.spec.channels))
        for item in islice(self._validation(), -(-records // self.config.batch_size)):
            moments = self.monitor(self.state, self.data.cutter, item, moments)
        return {f"feature_{name}": float(value) for name, value in monitors.spread(moments)._asdict().items()}

    def _crops(self) -> Iterator[jax.Array]:
        cut, clip = jax.jit(lambda cutter, item: cutter(item)), self.config.data.clip or math.inf
        for item in self.data.crops(self.config.batch_size, self.config.seed + 1):
            yield jnp.clip(cut(self.data.cutter, item), -clip, clip)


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
