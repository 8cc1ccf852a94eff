"""Job "robustness": finished evaluations against leads and noise; see configs/robustness.py.

robustness.json (format 1) has "rows" (`ecgjax.evaluation.robustness.rows`), "interval" and "excluded", what was found
and left out, with the reason. robustness.csv has the rows, robustness.md tables of them, figures/ the curves.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

import ecgjax
from ecgjax import atomic
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation.collect import collect
from ecgjax.evaluation.metrics import check_choice
from ecgjax.evaluation.robustness import rows
from ecgjax.reporting import robustness_report

FORMAT, KIND, NAME = 1, "ecgjax robustness", "robustness"


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Collects, compares, writes, and prints what was found.

    Raises:
        UserError: no finished run, runs that cannot be compared, config or folders that cannot be used.
    """
    sources = [part.strip() for part in config.runs.split(",") if part.strip()]
    interval = config.interval.to_dict()
    check_choice("config.interval.kind", interval["kind"], ("percentile", "basic", "bca"))
    check_choice("config.interval.unit", interval["unit"], ("record", "patient"))
    if interval["replicates"] < 2:
        raise UserError(f"config.interval.replicates is {interval['replicates']}; expected 2 or more")
    if not 0 < interval["level"] < 1:
        raise UserError(f"config.interval.level is {interval['level']}; expected a coverage such as 0.95")
    if not sources:
        raise UserError("config.runs is empty; expected a folder with finished runs: --config.runs=DIR")
    left_out = [part.strip() for part in config.exclude.split(",") if part.strip()]
    found = collect(*map(Path, sources), exclude=left_out, every_signal=True)
    if not found.cells:
        reason = f"; the first: {': '.join(found.excluded[0])}" if found.excluded else ""
        raise UserError(f"config.runs: {config.runs}: no finished evaluation below it{reason}")
    compared = rows(found.cells, **interval)
    folder = workdir or Path(sources[0]) / NAME
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "kind": KIND,
        "ecgjax": ecgjax.__version__,
        "interval": interval,
        "rows": [{key: _plain(value) for key, value in row.items()} for row in compared],
        "excluded": [{"path": path, "reason": reason} for path, reason in found.excluded],
    }
    atomic.write_text(folder / f"{NAME}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    atomic.write_text(folder / f"{NAME}.md", robustness_report.as_markdown(compared, interval["level"]))
    flat = [{key: " ".join(map(str, x)) if isinstance(x, list) else x for key, x in row.items()} for row in compared]
    with atomic.replacing(folder / f"{NAME}.csv") as temporary:
        pd.DataFrame(flat).to_csv(temporary, index=False)
    if config.figures:
        _draw(compared, folder / "figures")
    robustness_report.show(compared)
    for path, reason in found.excluded:
        print(f"left out  {path}: {reason}")
    print(f"written   {folder}")


def _draw(compared: list[dict[str, Any]], folder: Path) -> None:
    # Matplotlib takes a second to import: only where it is wanted.
    from ecgjax.reporting.figures import save_figure
    from ecgjax.reporting.robustness_curves import plans
    from ecgjax.reporting.style import style

    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, draw in plans(compared).items():
        with style():
            save_figure(draw(), folder / name)


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and value != value else value
