"""Chip-hours of the benchmark's whole table, from compiled costs: one by one, and with shared work done once.

    python -m ecgjax.main --config=configs/compile_check.py --workdir=runs/v5e --config.topology=v5e:2x2
    python -m benchmarks.projection [--costs=runs/v5e/compile_check.json,...] [--efficiency=0.4] [--page=FILE.md]

Ten models, 14 head runs, pretrained models in three modes (`configs/sweep_paper.py`), 100 epochs each. A step's time is
the compiler's lower bound (FLOPs over the chip's peak or bytes over its bandwidth, the larger) over `--efficiency`,
which is an assumption: nothing was run. GPUs' programs state no bytes: those of the first TPU in the list stand in, for
each record as many.

One by one: every head run and mode trains by itself and passes validation windows through the encoder every epoch, as
the benchmark's code does. Shared: linear and frozen heads of all head runs of a data set are one program, the step with
48 heads; what was validated once is kept. Fine-tuning is the same in both.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import projection_page
from configs.sweep_paper import PRETRAINED, RUNS, SUPERVISED
from ecgjax import atomic, tasks
from ecgjax.compilation.programs import FUSED
from ecgjax.data import sources
from ecgjax.models import registry

COSTS = Path("docs/compile_checks")
SLICES = {"v5e:2x2": 8, "v6e:2x2": 8, "h100:1": 1}
"""Topology of a compile check -> chips of the slice that is projected to."""

# Records of MIMIC-IV-ECG from the emergency department; its cohort is those of them with a discharge code. Of the other
# data sets all are used, and their sources know how many.
RECORDS = {"mimic": 184_720}
# Seconds of a record (mean), from the publishers.
SECONDS = {"ptb": 115.0, "cpsc2018": 16.0, "cpsc_extra": 16.0, "sph": 12.0, "code15": 9.0, "zzu_pecg": 16.0}
USUAL_SECONDS = 10.0
TRAIN, HELD_OUT = 0.8, 0.1  # of a data set; validation and test each
SEEDS = (1, 3, 10)
SCALES = (1, 4, 16)


class Steps(NamedTuple):
    """Chip-seconds for each record of a model's programs, at the lower bound."""

    features: float
    linear: float
    fused: float
    finetune: float


class Hours(NamedTuple):
    """Chip-hours."""

    finetune: float
    one_by_one: float
    shared: float


def per_record(check: Mapping[str, Any], bytes_like: Mapping[str, float]) -> dict[str, float]:
    """Chip-seconds for each record of each program of a compile check, at the lower bound.

    Args:
        check: of compile_check.json.
        bytes_like: bytes for each record by program, for chips whose compiler states none.
    """
    chip = check["chip"]
    peak = chip["bfloat16"] if check["dtype"] == "bfloat16" else chip["float32"]
    found = {}
    for row in check["programs"]:
        if row["records"] and row["flops"]:
            share = check["devices"] / row["records"]  # figures are of one device
            moved = row["bytes"] * share if row["bytes"] else bytes_like.get(row["name"], 0.0)
            found[row["name"]] = max(row["flops"] * share / peak, moved / chip["bandwidth"])
    return found


def bytes_per_record(checks: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By program, of the first compile check that states bytes."""
    found: dict[str, float] = {}
    for check in checks:
        for row in check["programs"]:
            if row["bytes"] and row["records"]:
                found.setdefault(row["name"], row["bytes"] * check["devices"] / row["records"])
    return found


def of_model(model: str, steps: Steps, efficiency: float, records: float = 1.0, seeds: int = 1) -> Hours:
    """Chip-hours of all head runs of a model.

    Args:
        model: its name.
        steps: what its programs cost.
        efficiency: share of the bound's rate that is reached.
        records: times as many as the data sets have.
        seeds: trainings of everything; frozen ones of a data set share the encoder, up to 48 heads in a program.
    """
    seconds = registry.create(model).spec.seconds
    finetune = one_by_one = 0.0
    heads: dict[str, int] = {}
    costs: dict[str, float] = {}
    for name in RUNS:
        run = tasks.get(name)[0]
        count = (RECORDS.get(run.source) or sources.load(run.source).FACTS.records or 0) * records
        windows = max(int(SECONDS.get(run.source, USUAL_SECONDS) // seconds), 1)
        train, held_out = run.epochs * TRAIN * count, HELD_OUT * count * windows
        validate = (run.epochs + 1) * held_out * steps.features
        finetune += seeds * (train * steps.finetune + validate)
        if model in PRETRAINED:
            one_by_one += 2 * seeds * (train * steps.linear + validate)
            heads[run.source] = heads.get(run.source, 0) + 2 * seeds
            costs[run.source] = train * steps.fused + 2 * held_out * steps.features
    shared = sum(-(-count // FUSED) * costs[source] for source, count in heads.items())
    return Hours(*(value / 3600 / efficiency for value in (finetune, one_by_one, shared)))


def of_slice(check: Mapping[str, Any], costs: Mapping[str, float], efficiency: float) -> dict[str, Any]:
    """The table of one kind of chip, and how it grows."""
    steps, missing = {}, []
    for model in (*PRETRAINED, *SUPERVISED):
        names = [f"{model} {step}" for step in Steps._fields]
        if all(name in costs for name in names):
            steps[model] = Steps(*(costs[name] for name in names))
        else:
            missing.append(model)

    def total(**changes: Any) -> Hours:
        parts = [of_model(model, own, efficiency, **changes) for model, own in steps.items()]
        return Hours(*map(sum, zip(*parts, strict=True))) if parts else Hours(0.0, 0.0, 0.0)

    return {
        **{key: check[key] for key in ("topology", "dtype", "versions")},
        "effort": check.get("effort", 0.0),
        "chip": check["chip"]["name"],
        "chips": SLICES.get(check["topology"], check["devices"]),
        "models": {model: of_model(model, own, efficiency)._asdict() for model, own in steps.items()},
        "missing": missing,
        "records": {str(scale): total(records=scale)._asdict() for scale in SCALES},
        "seeds": {str(count): total(seeds=count)._asdict() for count in SEEDS},
    }


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Compile checks, TPUs first."""
    checks = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return sorted(checks, key=lambda check: (check["topology"].startswith("h"), check["dtype"] != "float32"))


def project(checks: list[dict[str, Any]], efficiency: float) -> dict[str, Any]:
    """Everything: slices of whole compile checks, and ECG-CPC's pretraining."""
    bytes_like = bytes_per_record(checks)
    whole = [check for check in checks if check["topology"] in SLICES and not check.get("remat")]
    return {
        "efficiency": efficiency,
        "slices": [of_slice(check, per_record(check, bytes_like), efficiency) for check in whole],
        "pretraining": pretraining(checks, bytes_like, efficiency),
    }


HEEDB, EPOCHS, PUBLISHED_DAYS = 10_700_000, 200, 21
L40 = 90.5e12
"""FLOP/s at most in float32, and in TF32 without sparsity: https://www.nvidia.com/en-us/data-center/l40/"""
LINKS = 200e9
"""Bytes per second between v5e chips (1,600 Gbps each): https://docs.cloud.google.com/tpu/docs/v5e"""


def pretraining(
    checks: list[dict[str, Any]], bytes_like: Mapping[str, float], efficiency: float
) -> list[dict[str, Any]]:
    """ECG-CPC's three weeks on one L40, restated for every compile check that has its update."""
    found = []
    for check in checks:
        row = next((row for row in check["programs"] if row["name"] == "ecg_cpc pretraining" and row["flops"]), None)
        if row is None or check.get("remat"):
            continue
        chips, batch = check["devices"], check["batch_size"]
        bound = per_record(check, bytes_like)[row["name"]] * batch / chips
        steps = HEEDB * EPOCHS / batch
        # A ring sends all gradients, in float32, twice.
        gradients = 4 * sum(leaf.size for leaf in _parameters())
        found.append(
            {
                **{key: check[key] for key in ("topology", "dtype", "devices", "batch_size")},
                "chip": check["chip"]["name"],
                "gflop_per_record": row["flops"] * chips / batch / 1e9,
                "step_ms": 1e3 * bound / efficiency,
                "limit": row["limit"],
                "all_reduce_ms": 0.0 if chips == 1 else 1e3 * 2 * gradients * (chips - 1) / chips / LINKS,
                "days": steps * bound / efficiency / 86_400,
                "l40_share": row["flops"] * chips / batch * HEEDB * EPOCHS / (PUBLISHED_DAYS * 86_400) / L40,
            }
        )
    return found


def _parameters() -> list[Any]:
    import jax

    return jax.tree.leaves(registry.create("ecg_cpc").shapes()["params"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", help=f"compile_check.json files with commas between; default: those of {COSTS}")
    parser.add_argument("--efficiency", type=float, default=0.4, help="share of the bound's rate that is reached")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--page", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    if not 0 < options.efficiency <= 1:
        parser.error(f"--efficiency={options.efficiency}: expected more than 0 and at most 1")
    paths = [Path(name) for name in options.costs.split(",")] if options.costs else sorted(COSTS.glob("*.json"))
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        parser.error(f"--costs: {missing[0] if missing else COSTS}: no such file; python -m ecgjax.main makes them")
    found = project(read(paths), options.efficiency)
    text = projection_page.markdown(found)
    print(text)
    if options.output:
        atomic.write_json(options.output, found)
    if options.page:
        atomic.write_text(options.page, text)


if __name__ == "__main__":
    main()
