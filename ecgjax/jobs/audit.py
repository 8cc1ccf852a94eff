"""Job "audit": a sweep over the protocol's switches, then what each does to the values; see configs/audit.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict
from rich.console import Console

from ecgjax import atomic
from ecgjax.errors import UserError
from ecgjax.evaluation import audit
from ecgjax.evaluation.cell_bootstrap import Bootstrap, CellValue, compute
from ecgjax.evaluation.collect import collect
from ecgjax.jobs import sweep
from ecgjax.reporting import audit_table
from ecgjax.reporting.assemble import plain
from ecgjax.sweep import plan as planning

TABLE, CSV, JSON = "audit.md", "audit.csv", "audit.json"


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Runs what is not done of the sweep, then writes and prints the table.

    Raises:
        UserError: as the sweep's, or runs that cannot be compared.
        SystemExit: as the sweep's.
    """
    settings = Bootstrap(**config.interval.to_dict())
    sweep.run(config, workdir)
    if config.dry_run:
        return
    assert workdir is not None
    values = _values(config, workdir, settings)
    if values is None:
        print("the audit's table is written when the cells of all shards are done")
        return
    rows = plain(audit.compare(values, settings))
    first = planning.make(config).cells[0].settings
    about = {key: first[key] for key in ("model", "task", "mode")} | {"settings": config.interval.to_dict()}
    atomic.write_json(workdir / JSON, {"format": 1, "kind": "ecgjax audit", **about, "rows": rows})
    with atomic.replacing(workdir / CSV) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    atomic.write_text(workdir / TABLE, audit_table.as_markdown(rows, about))
    console = Console(width=110, highlight=False)
    console.print(audit_table.as_table(rows, about))
    console.print(f"the table   {workdir / TABLE}, {CSV}, {JSON}", soft_wrap=True)


def _values(config: ConfigDict, workdir: Path, settings: Bootstrap) -> dict[str, list[list[CellValue]]] | None:
    """Variant -> values of each seed; None: cells are missing, which other shards run."""
    cells = planning.make(config).cells
    found = collect(workdir / sweep.CELLS)
    by_name = {cell.path.name: cell for cell in found.cells}
    values: dict[str, list[list[CellValue]]] = {}
    names = {_key(variant.fields): variant.name for variant in audit.variants(**_subject(cells[0].point))}
    for cell in sorted(cells, key=lambda cell: cell.point["seed"]):
        if cell.name not in by_name:
            wrong = [reason for key, reason in found.excluded if key.endswith(cell.name)]
            if wrong and not wrong[0].startswith("unfinished"):
                raise UserError(f"{workdir / sweep.CELLS / cell.name}: {wrong[0]}")
            return None
        fields = {key: value for key, value in cell.point.items() if key not in ("model", "task", "mode", "seed")}
        done = by_name[cell.name]
        values.setdefault(names[_key(fields)], []).append(compute(done, done.predictions(), settings))
    return values


def _subject(point: Mapping[str, Any]) -> dict[str, str]:
    return {key: point[key] for key in ("model", "task", "mode")}


def _key(fields: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(fields.items()))
