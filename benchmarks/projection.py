"""Chip-hours of the benchmark's whole table, from compiled costs: one by one, and with shared work done once.

    python -m ecgjax.main --config=configs/compile_check.py --workdir=runs/v5e --config.topology=v5e:2x2
    python -m benchmarks.projection --costs=runs/v5e/compile_check.json[,runs/h100/compile_check.json]

Ten models, 14 head runs, pretrained models in three modes (`configs/sweep_paper.py`), 100 epochs, and ECG-CPC's
pretraining on HEEDB. A step's time is the compiler's lower bound (FLOPs over the chip's peak or bytes over its
bandwidth, the larger) over `--efficiency`: nothing was run. Where the compiler does not say what is moved (GPUs), the
bound is of the arithmetic alone, and too low.

One by one: every head run and mode trains by itself, and passes validation windows through the encoder every epoch, as
the benchmark's code does. Shared: linear and frozen heads of all head runs of a data set are one program, the step with
48 heads; what was validated once is kept. Fine-tuning is the same in both.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from configs.sweep_paper import PRETRAINED, RUNS, SUPERVISED
from ecgjax import tasks
from ecgjax.models import registry

FLAGS = flags.FLAGS
flags.DEFINE_list("costs", None, "compile_check.json of one or more slices", required=True)
flags.DEFINE_float(
    "efficiency", 0.4, "share of the lower bound's rate that is reached", lower_bound=0.01, upper_bound=1
)
flags.DEFINE_integer("scale_records", 1, "times as many records", lower_bound=1)
flags.DEFINE_string("out", None, "JSON file to write")

# Records and seconds of a record (mean), from the publishers; PTB-XL at 10 s and so on.
DATA = {
    "ptb": (549, 115.0),
    "ningbo": (34_905, 10.0),
    "cpsc2018": (6_877, 16.0),
    "cpsc_extra": (3_453, 16.0),
    "georgia": (10_344, 10.0),
    "chapman": (10_646, 10.0),
    "sph": (25_770, 12.0),
    "code15": (345_779, 9.0),
    "ptbxl": (21_799, 10.0),
    "echonext": (82_543, 10.0),
    "zzu_pecg": (12_334, 16.0),
    "mimic": (800_035, 10.0),
}
TRAIN, HELD_OUT = 0.8, 0.1  # of a data set; validation and test each
HEEDB, EPOCHS = 10_700_000, 200


class Steps(NamedTuple):
    """Chip-seconds per window of a model's programs, at the lower bound."""

    features: float
    linear: float
    fused: float
    finetune: float


def read(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A compile check, and chip-seconds per record of each of its programs."""
    found = json.loads(path.read_text(encoding="utf-8"))
    per_record = {
        row["name"]: row["bound"] * found["devices"] / row["records"]
        for row in found["programs"]
        if row["bound"] and row["records"]
    }
    return found, per_record


def project(costs: dict[str, float], efficiency: float, scale: int) -> tuple[dict[str, Any], list[str]]:
    """Chip-hours by model: one by one and shared, of fine-tuning and of frozen encoders; and the models left out."""
    table, missing = {}, []
    for model in (*PRETRAINED, *SUPERVISED):
        try:
            steps = Steps(*(costs[f"{model} {step}"] for step in Steps._fields))
        except KeyError:
            missing.append(model)
            continue
        seconds = registry.create(model).spec.seconds
        naive = shared = finetune = 0.0
        fused: dict[str, float] = {}
        for name in RUNS:
            run = tasks.get(name)[0]
            records, length = DATA[run.source]
            records *= scale
            windows = max(int(length // seconds), 1)
            train, held_out = run.epochs * TRAIN * records, HELD_OUT * records * windows
            validate = (run.epochs * held_out + held_out) * steps.features
            finetune += train * steps.finetune + validate
            if model in PRETRAINED:
                naive += 2 * (train * steps.linear + validate)
                fused[run.source] = train * steps.fused + 2 * held_out * steps.features
        shared = sum(fused.values())
        hours = 1 / 3600 / efficiency
        table[model] = {
            "finetune": finetune * hours,
            "frozen, one by one": naive * hours,
            "frozen, shared": shared * hours,
        }
    return table, missing


def show(about: dict[str, Any], table: dict[str, Any], missing: list[str], devices: int) -> None:
    """Prints the table of one slice."""
    chip = about["chip"]["name"]
    print(f"\n{chip}, activations in {about['dtype']}, chip-hours at {FLAGS.efficiency:.0%} of the bound's rate")
    print(f"{'model':14s}{'fine-tuning':>14s}{'frozen 1 by 1':>15s}{'frozen shared':>15s}")
    for model, row in table.items():
        print(
            f"{model:14s}"
            + "".join(f"{hours:{width},.1f}" for hours, width in zip(row.values(), (14, 15, 15), strict=True))
        )
    totals = [sum(row[key] for row in table.values()) for key in ("finetune", "frozen, one by one", "frozen, shared")]
    _line("all", totals)
    one_by_one, shared = totals[0] + totals[1], totals[0] + totals[2]
    print(
        f"one by one {one_by_one:,.0f} chip-hours, shared {shared:,.0f} ({one_by_one / max(shared, 1e-9):.2f} times "
        f"less); on {devices}: {one_by_one / devices:,.1f} and {shared / devices:,.1f} hours"
    )
    if missing:
        print(f"left out, not in the compile check: {', '.join(missing)}")


def _line(name: str, hours: list[float]) -> None:
    print(f"{name:14s}" + "".join(f"{value:{width},.1f}" for value, width in zip(hours, (14, 15, 15), strict=True)))


def pretraining(about: dict[str, Any], costs: dict[str, float], efficiency: float) -> float | None:
    """Chip-hours of ECG-CPC's pretraining on HEEDB."""
    per_record = costs.get("ecg_cpc pretraining")
    if per_record is None:
        return None
    hours = HEEDB * EPOCHS * per_record / efficiency / 3600
    print(
        f"ECG-CPC on {HEEDB:,} records, {EPOCHS} epochs: {hours:,.0f} chip-hours; on 64 chips {hours / 64:,.1f} hours "
        "if batches grow with the chips. At the recipe's batch of 64 each would have one record of 10 s at a time: too "
        "little for its matrix units, and every step ends in an all-reduce of all gradients."
    )
    return hours


def main(argv: list[str]) -> None:
    """Prints a table for each slice, and writes all of it as JSON."""
    del argv
    results = []
    for name in FLAGS.costs:
        about, costs = read(Path(name))
        table, missing = project(costs, FLAGS.efficiency, FLAGS.scale_records)
        devices = 1 if about["chip"]["name"].startswith(("H1", "H2", "A1", "B2", "L4")) else 8
        show(about, table, missing, devices)
        hours = pretraining(about, costs, FLAGS.efficiency)
        results.append({**{key: about[key] for key in ("topology", "dtype")}, "table": table, "pretraining": hours})
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps({"efficiency": FLAGS.efficiency, "slices": results}, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
