"""Job "sweep": many evaluations, none twice; see configs/sweep_smoke.py.

A sweep's directory holds plan.json (its cells), cells/NAME (each a run of evaluate, with log.txt; a link where
config.cells names another place), status.json (`ecgjax.sweep.status`; status-I-of-N.json of a shard) and cells.csv.
Where learning rates or the like are axes, selected/ links the cells that validation chose (`ecgjax.sweep.select`).
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from ecgjax import atomic
from ecgjax.errors import UserError
from ecgjax.reporting import sweep_tables
from ecgjax.sweep import bucket_sweep, feature_choice, ray_executor, runner, select, summary
from ecgjax.sweep import plan as planning
from ecgjax.sweep.bucket import is_url
from ecgjax.sweep.bucket_sweep import BucketSweep
from ecgjax.sweep.cells import Cell, hashed
from ecgjax.sweep.plan import Plan
from ecgjax.sweep.status import Status, title
from ecgjax.sweep.units import NOTHING, Keeping

EXECUTORS = ("local", "ray")
CELLS, SELECTED, CSV = "cells", "selected", "cells.csv"


def run(config: ConfigDict, workdir: Path | str | None, run_cell: runner.RunCell | None = None) -> None:
    """Plans; with `config.dry_run` prints the plan, else runs what is not done, then prints values and failures.

    Args:
        config: see configs/sweep_smoke.py.
        workdir: the sweep's directory, or its URL in a bucket; a dry run needs none.
        run_cell: what runs a cell; None is `ecgjax.jobs.evaluate.run`.

    Raises:
        UserError: config, axes, weights, data or directory cannot be used, or the disk is full.
        SystemExit: 1 if cells are not done in the end; 143 or 130 after SIGTERM or Ctrl-C, with everything saved.
    """
    if config.retries < 0:
        raise UserError(f"config.retries is {config.retries}; expected 0 or more")
    if config.executor not in EXECUTORS:
        raise UserError(f"config.executor is {config.executor!r}; expected one of {', '.join(EXECUTORS)}")
    index, count = planning.parse_shard(config.shard)
    plan = planning.make(config)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    remote = bucket_sweep.attach(config, workdir)
    folder = remote.workdir if remote else Path(workdir) if workdir else None  # on this machine
    store = remote.store if remote else _store(config, folder)
    if config.dry_run:
        if remote:
            remote.pull(plan, publish=False)
        from ecgjax.sweep import dry_run

        cells = plan.shard(index, count)
        done = dry_run.show(cells, store, config, console)
        _say(plan, len(cells), done, index, count, console)
        return
    folder = remote.claim(config, plan) if remote else planning.claim(folder, config, plan)
    assert store is not None  # there is a work directory
    if remote:
        remote.pull(plan)
    cells = plan.shard(index, count)
    done = sum(summary.finished(store / cell.name) for cell in cells)
    _say(plan, len(cells), done, index, count, console)
    if done < len(cells):
        _check([cell for cell in cells if not summary.finished(store / cell.name)])
    name = "status.json" if count == 1 else f"status-{index}-of-{count}.json"
    status = Status(cells, folder / name, f"{index}/{count}")
    if remote:
        remote.watch(folder / name)
    keeping = _keeping(config, cells, store) if run_cell is None else NOTHING
    try:
        with status:
            if config.executor == "ray":
                ray_executor.run(
                    cells,
                    store,
                    status,
                    retries=config.retries,
                    run_cell=run_cell,
                    placing=config.ray,
                    bucket=(workdir, config.cells or None, config.scratch) if remote else None,
                    keeping=keeping,
                )
            else:
                runner.run(
                    cells, store, status, retries=config.retries, run_cell=run_cell, remote=remote, keeping=keeping
                )
    except SystemExit:
        left = len(cells) - len(status.done)
        print(f"stopped with {left} of {len(cells)} cells left; start the same command again", file=sys.stderr)
        raise
    finally:
        if remote:
            remote.push(folder / name)
        elif store.resolve() != (folder / CELLS).resolve():
            select.link([cell for cell in plan.cells if summary.finished(store / cell.name)], store, folder / CELLS)
    if remote:
        remote.close(plan)
    _show_results(plan, status, store, folder, remote, console)
    _end(status, plan, store, remote.shown(folder) if remote else str(folder), console)


def _check(cells: list[Cell]) -> None:
    """Refuses settings that an evaluation would refuse: each kind once, before any cell runs."""
    from ecgjax.jobs import evaluate_setting  # only where something is to be done

    kinds: dict[str, Cell] = {}
    for cell in cells:
        own = ("model", "task", "seed", "weights", "data.store")
        kind = {key: value for key, value in cell.settings.items() if key not in own and "model_arguments" not in key}
        kinds.setdefault(
            hashed({**kind, "weights": bool(cell.settings["weights"]), "negative": cell.settings["seed"] < 0}), cell
        )
    for cell in kinds.values():
        evaluate_setting.check(cell.config())


def _store(config: ConfigDict, workdir: Path | None) -> Path | None:
    if config.cells:
        return Path(config.cells)
    return workdir / CELLS if workdir else None


def _keeping(config: ConfigDict, cells: Sequence[Cell], store: Path) -> Keeping:
    return feature_choice.keeping(
        [cell for cell in cells if not summary.finished(store / cell.name)],
        [store],
        asked=config.features,
        folder=config.features_folder,
        gigabytes=config.features_gigabytes,
    )


def _say(plan: Plan, cells: int, done: int, index: int, count: int, console: Console) -> None:
    shard = "" if count == 1 else f", {cells:,} of them in shard {index}/{count}"
    console.print(f"{len(plan.cells):,} cells{shard}; {done:,} done already", soft_wrap=True)
    if plan.repeated:
        console.print(f"{plan.repeated:,} points of the axes are cells that were there already", soft_wrap=True)
    for reason, points in plan.missing.items():
        console.print(f"left out  {points:,} cells: {reason}", soft_wrap=True)


def _show_results(
    plan: Plan, status: Status, store: Path, workdir: Path, remote: BucketSweep | None, console: Console
) -> None:
    others = [cell.name for cell in plan.cells if cell.name not in status.cells]  # of other shards
    found = {**status.done, **{name: summary.read(store / name) for name in others if summary.finished(store / name)}}
    if not found:
        return
    varying = plan.varying()
    chosen = select.selected(plan.cells, found)
    if select.tuned(plan.cells):
        if remote:
            remote.link(chosen, SELECTED)
        else:
            select.link(chosen, store, workdir / SELECTED)
    names = {cell.name for cell in chosen}
    rows = []
    for cell in plan.cells:
        for task, metrics in found.get(cell.name, {"values": {}})["values"].items():
            for metric, values in metrics.items():
                rows.append(
                    {
                        "cell": cell.name,
                        **{key: cell.settings[key] for key in ("model", "mode", "seed")},
                        **{key: cell.point.get(key) for key in varying},
                        "task": task,
                        "metric": metric,
                        **values,
                        "validation": found[cell.name]["validation"],
                        "selected": int(cell.name in names),
                    }
                )
    _write_csv(workdir / CSV, rows)
    if remote:
        remote.push(workdir / CSV)
    table, hidden = sweep_tables.results_table(plan.cells, found, varying)
    console.print(table)
    if hidden:
        console.print(
            f"... {hidden:,} rows more in {remote.shown(workdir / CSV) if remote else workdir / CSV}", soft_wrap=True
        )


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _end(status: Status, plan: Plan, store: Path, workdir: str, console: Console) -> None:
    cells = len(status.cells)
    for name, (reason, attempts) in status.failures.items():
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        failed = title(status.cells[name])
        console.print(f"failed    {failed}: {reason}{tried}", soft_wrap=True, markup=False)
        console.print(f"          {store / name / runner.LOG}, {runner.ERROR}", soft_wrap=True, markup=False)
    console.print(f"{len(status.done):,} of {cells:,} cells done, {len(status.failures):,} failed", soft_wrap=True)
    console.print(f"every cell  {workdir}/{CSV}", soft_wrap=True)
    runs = workdir
    if select.tuned(plan.cells):
        runs = f"{workdir}/{SELECTED}"
        console.print(f"chosen      {runs}: of each model's settings, the best by validation", soft_wrap=True)
    to = " --workdir=report" if is_url(runs) else ""
    command = f"python -m ecgjax.main --config=configs/report.py --config.runs={runs}{to}"
    console.print(f"a report    {command}", soft_wrap=True)
    if len(status.done) < cells:
        raise SystemExit(1)
