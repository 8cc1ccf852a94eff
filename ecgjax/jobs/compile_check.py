"""Job "compile_check": programs compiled for a slice of chips; see configs/compile_check.py.

Writes compile_check.json: topology, chip and its figures, versions, settings, and `programs`, a row for each with the
fields of `ecgjax.compilation.measure.Compiled`, and with `largest_batch` where that was asked for. It is written after
each program; a row that is there already, of the same settings and the same lowered program, is not compiled again.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import ecgjax
from ecgjax import atomic, models
from ecgjax.compilation import largest, measure, programs, targets
from ecgjax.compilation.measure import Compiled
from ecgjax.compilation.programs import Compilable, Place
from ecgjax.compilation.targets import Target
from ecgjax.errors import UserError, disk_errors
from ecgjax.reporting import compile_table

FILE = "compile_check.json"


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Compiles, prints a table as it goes on, and writes compile_check.json.

    Raises:
        UserError: an unknown topology, model, step or dtype, what compiling needs is not installed, no directory.
        SystemExit: 1 if a program does not fit.
    """
    check(config)
    if workdir is None:
        raise UserError("--workdir is missing; expected the directory for compile_check.json")
    target = targets.open_target(config.topology)
    with disk_errors(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    where = programs.place(target.devices, config.batch_size)
    about = _about(config, target, len(where.split.device_set))
    kept = {} if target.local else _kept(workdir / FILE, about)
    print(compile_table.heading(target, about["devices"], config.batch_size, config.dtype), flush=True)
    names = []
    for program in wanted(config, where):
        row = _row(program, config, target, kept.get(program.name, {}))
        kept[program.name] = row
        names.append(program.name)
        print(compile_table.line(row), flush=True)
        atomic.write_json(workdir / FILE, {**about, "programs": list(kept.values())})
    print(f"\n{workdir / FILE}")
    left_out = [name for name in names if not kept[name]["fits"]]
    if left_out:
        print(f"does not fit: {', '.join(left_out)}", file=sys.stderr)
        raise SystemExit(1)


def check(config: ConfigDict) -> None:
    """Refuses what cannot be compiled."""
    for name, chosen, choices in (
        ("models", config.models, tuple(models.names())),
        ("steps", config.steps, programs.STEPS),
        ("dtype", (config.dtype,), ("float32", "bfloat16")),
    ):
        unknown = [value for value in chosen if value not in choices]
        if unknown:
            raise UserError(f"config.{name} has {unknown[0]!r}; expected of {', '.join(choices)}")
    if config.batch_size < 1:
        raise UserError(f"config.batch_size is {config.batch_size}; expected 1 or more")
    if not -1 <= config.effort <= 1:
        raise UserError(f"config.effort is {config.effort}; expected a number from -1 to 1")


def wanted(config: ConfigDict, where: Place) -> Iterator[Compilable]:
    """The programs of a config."""
    for name in config.models:
        for step in config.steps:
            yield programs.of_model(name, step, config.batch_size, where, config.dtype, config.remat)
    if config.pretraining:
        yield programs.pretraining_step(config.batch_size, where, config.dtype, config.remat)
    if config.bootstrap:
        yield programs.bootstrap_block(where)


def as_json(row: Compiled, digest: str) -> dict[str, Any]:
    """A row of compile_check.json."""
    return {
        **row._asdict(),
        "collectives": dict(row.collectives),
        "memory": row.memory,
        "seconds": round(row.seconds, 2),
        "processor_seconds": round(row.processor_seconds, 2),
        "program": digest,
    }


def _kept(path: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run of the same settings, by name."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = {row["name"]: row for row in found.pop("programs")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return rows if found == json.loads(atomic.as_json(about)) else {}


def _row(program: Compilable, config: ConfigDict, target: Target, kept: dict[str, Any]) -> dict[str, Any]:
    lowered = measure.lower(program)
    row = kept
    if kept.get("program") != lowered.digest:
        row = as_json(measure.compile_for(lowered, target, config.dtype, effort=config.effort), lowered.digest)
    if config.largest and program.records and "largest_batch" not in row:
        row["largest_batch"] = _largest(program.name, config, target)
    return row


def _largest(name: str, config: ConfigDict, target: Target) -> int:
    model, _, step = name.partition(" ")

    def compile_batch(batch_size: int) -> Compiled:
        where = programs.place(target.devices[:1])
        if step == "pretraining":
            program = programs.pretraining_step(batch_size, where, config.dtype, config.remat)
        else:
            program = programs.of_model(model, step, batch_size, where, config.dtype, config.remat)
        there = target._replace(local=False)
        return measure.compile_for(measure.lower(program), there, config.dtype, effort=config.effort)

    return largest.largest_batch(compile_batch, target.chip.memory, config.batch_size).batch_size


def _about(config: ConfigDict, target: Target, devices: int) -> dict[str, Any]:
    compilers = {"tpu": ("libtpu",), "cuda": ("jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12")}.get(target.platform, ())
    return {
        "topology": target.name,
        "devices": devices,
        "chip": asdict(target.chip),
        "batch_size": config.batch_size,
        "dtype": config.dtype,
        "remat": config.remat,
        "effort": config.effort,
        "versions": {"ecgjax": ecgjax.__version__, **{name: _version(name) for name in ("jax", "jaxlib", *compilers)}},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
