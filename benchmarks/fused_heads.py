"""48 heads on one ECG-CPC encoder as one program, against 48 separate evaluations.

    python -m benchmarks.fused_heads [--records=400] [--epochs=5] [--separate=3] [--modes=linear,frozen]
        [--folder=DIR] [--output=FILE]

Three label sets like PTB-XL's (5, 23 and 71 labels) on synthetic records of 10 s at 100 Hz, eight learning rates, two
seeds that share their crops, the published encoder (width 512, four layers, random weights), batches of 64; for each
mode:

    fused       the whole sweep as `ecgjax.jobs.sweep` runs it, from planning to cells.csv, with every cell's intervals,
                predictions and figures (s)
    separate    `--separate` whole runs of `ecgjax.jobs.evaluate` in this process, half of them before the fused sweep
                and half after it, after one whose compilations are kept for them (s); 48 of them would be too slow
                here, so their median is multiplied by 48
    heads       one training step by number of heads, half of them linear and half frozen, beside the encoder alone
                (CPU ms)

Target: fused takes at least 15 times less wall time. Seconds of CPU are those of all threads of this process; on a
busy machine they are the steadier number.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.timing import Times, asked, save, summary, timed
from ecgjax import host_memory
from ecgjax.data.cutter import Cutter
from ecgjax.data.recording import Recording
from ecgjax.data.store_writer import StoreWriter
from ecgjax.jobs import evaluate, sweep
from ecgjax.models.model import load_model
from ecgjax.models.weights import save_weights
from ecgjax.sweep import plan as planning
from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.settings import sweep_config
from ecgjax.training import fused_heads, supervised
from ecgjax.training.cached_features import FeatureSource

LABELS, RATES, SEEDS = (5, 23, 71), [1e-4 * 2**i for i in range(8)], range(2)
HEADS = len(LABELS) * len(RATES) * len(SEEDS)
RATE, SECONDS, FOLDS = 100.0, 10, 10
BATCH, TARGET = 64, 15.0


def write_store(path: Path, records: int) -> None:
    rng = np.random.default_rng(0)
    with StoreWriter(path, source="synthetic", sampling_rate=RATE) as writer:
        for i in range(records):
            signal = rng.standard_normal((int(RATE * SECONDS), 12)).astype(np.float32)
            writer.add(Recording(f"r{i}", signal, RATE), patient_id=f"p{i}", fold=i % FOLDS)
        sets = {}
        for count in LABELS:
            drawn = (rng.random((records, count)) < 0.3).astype(np.float32)
            sets[f"labels {count}"] = tuple(f"label {i}" for i in range(count)), drawn, ("classification",) * count
        writer.finish(sets)


def make_config(folder: Path, mode: str, epochs: int) -> ConfigDict:
    axes = product(
        fixed({"model": "ecg_cpc", "task": "folder", "mode": mode}),
        axis("data.labels", [f"labels {count}" for count in LABELS]),
        axis("learning_rate", RATES),
        axis("seed", SEEDS),
    )
    config = sweep_config(axes)
    config.weights = str(folder / "weights")
    common = {"data.store": str(folder / "store"), "data.seed": 0, "epochs": epochs, "batch_size": BATCH}
    config.common.update_from_flattened_dict(common)
    return config


def compare(folder: Path, mode: str, epochs: int, separate: int) -> dict[str, Any]:
    """Times of a mode: the fused sweep, and separate runs of cells with different label sets."""
    config = make_config(folder, mode, epochs)
    cells = planning.make(config).cells
    assert len(cells) == HEADS
    chosen = [cells[i * HEADS // separate] for i in range(separate)]
    number = iter(range(1000))

    def alone(cell: Any) -> Times:
        return timed(lambda: evaluate.run(cell.config(), folder / f"alone-{mode}-{next(number)}"))

    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        warm = {cell.settings["data.labels"]: cell for cell in chosen}
        for cell in warm.values():  # compiles
            changed = cell.config()
            changed.epochs = 1
            evaluate.run(changed, folder / f"warm-{mode}-{next(number)}")
        before = [alone(cell) for cell in chosen[: separate // 2]]
        fused = timed(lambda: sweep.run(config, folder / f"fused-{mode}"))
        after = [alone(cell) for cell in chosen[separate // 2 :]]
    return {"fused": fused._asdict(), "separate": summary([*before, *after]), "runs": separate}


def scaling(counts: tuple[int, ...], steps: int = 3) -> dict[str, float]:
    """CPU seconds of a step by number of heads, and of the encoder alone; medians of some."""
    model, rng = load_model("ecg_cpc"), np.random.default_rng(0)
    samples = model.encoder.samples
    item = {
        "record": np.arange(BATCH, dtype=np.int32),
        "start": np.zeros(BATCH, np.int32),
        "crop": rng.standard_normal((BATCH, samples, 12)).astype(np.float32),
        "millivolt": np.ones(BATCH, np.float32),
    }
    cutter = Cutter(None, samples, model.spec.sampling_rate, model.spec.sampling_rate)
    targets = [(rng.random((BATCH, count)) < 0.3).astype(np.float32) for count in LABELS]
    modes = [supervised.MODES[name] for name in ("linear", "frozen")]

    def seconds(act: Callable[[], Any]) -> float:
        jax.block_until_ready(act())
        return statistics.median(timed(lambda: jax.block_until_ready(act())).cpu for _ in range(steps))

    def make(count: int) -> fused_heads.Together:
        heads = []
        for i in range(count):
            task = targets[i // 2 % len(targets)]
            heads.append(fused_heads.Head(modes[i % 2], task.shape[1], 0, RATES[i % len(RATES)], 1e-3, i, task))
        return fused_heads.build(model, heads)

    encode = make(2).features
    assert encode is not None
    found = {"encoder": seconds(lambda: encode(cutter, item))}
    read = {**jax.device_get(encode(cutter, item)), "record": item["record"]}
    for count in counts:
        program = make(count)
        state = [program.state]

        def step(program: fused_heads.Together = program, state: list[Any] = state) -> Any:
            state[0], losses = program.step(state[0], FeatureSource(None, None, on_device=False), read)
            return losses

        found[str(count)] = seconds(step)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--separate", type=int, default=3)
    parser.add_argument("--modes", default="linear,frozen")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    host_memory.keep_freed()
    print(f"{HEADS} heads, {arguments.records} records, {arguments.epochs} epochs, {os.cpu_count()} processors, "
          f"{jax.devices()[0].device_kind}, jax {jax.__version__}")  # fmt: skip
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        write_store(folder / "store", arguments.records)
        model = load_model("ecg_cpc")
        save_weights(folder / "weights" / "ecg_cpc", model.encoder, model.variables)
        for mode in arguments.modes.split(","):
            times = found[mode] = compare(folder, mode, arguments.epochs, arguments.separate)
            for kind in ("wall", "cpu"):
                one = times["separate"][kind]["median"]
                fused, separate = times["fused"][kind], HEADS * one
                print(f"{mode:8s} {kind:4s} fused {fused:8.1f} s   separate {separate:8.1f} s ({HEADS} x "
                      f"{one:.1f} s, of {times['runs']} runs)   {separate / fused:6.1f} times less"
                      f"   (at least {TARGET:g})", flush=True)  # fmt: skip
        counts = (1, 4, 16, HEADS)
        found["heads"] = scaling(counts)
    alone = found["heads"]["encoder"]
    print(f"encoder alone  {1e3 * alone:8.0f} ms of CPU per batch of {BATCH}")
    for count in counts:
        own = found["heads"][str(count)]
        print(f"{count:4d} heads     {1e3 * own:8.1f} ms of CPU per step, {1e3 * own / count:6.2f} per head; "
              f"with the encoder {(alone + own) / (alone + found['heads']['1']):5.2f} times one head")  # fmt: skip
    ratios = {
        f"{HEADS} {mode} heads, {arguments.epochs} epochs: separate evaluations / one fused sweep": {
            kind: {key: HEADS * value / found[mode]["fused"][kind] for key, value in spread.items()}
            for kind, spread in found[mode]["separate"].items()
        }
        for mode in arguments.modes.split(",")
    }
    save(arguments.output, "fused_heads", {"options": asked(arguments), **found, "ratios": ratios})


if __name__ == "__main__":
    main()
