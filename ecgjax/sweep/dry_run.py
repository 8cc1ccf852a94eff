"""What a sweep would do, printed: cells, groups, and estimates of arithmetic, memory and time for kinds of devices."""

from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ecgjax import chips
from ecgjax.reporting import sweep_tables
from ecgjax.sweep import costs, feature_choice, summary
from ecgjax.sweep.cells import Cell
from ecgjax.sweep.stacking import stacking
from ecgjax.sweep.units import units

_CHIPS = ("TPU v5e", "TPU v6e", "A100 80GB", "H100 SXM", "B200")


def show(cells: Sequence[Cell], store: Path | None, config: ConfigDict, console: Console) -> int:
    """Prints the plan of cells; returns how many are done.

    Args:
        cells: of this process's shard.
        store: folder of the cells' directories; None: nothing is done.
        config: the sweep's.
        console: where to.

    Raises:
        UserError: config.features is no choice.
    """
    done = {cell.name for cell in cells if store and summary.finished(store / cell.name)}
    measured = costs.throughputs([store] if store else [])
    estimated = {cell.name: costs.of_cell(cell, measured) for cell in cells}
    if cells:
        console.print(sweep_tables.plan_table(cells, estimated, done, console.width))
    left = [cell for cell in cells if cell.name not in done]
    programs = units(left, stacking=stacking())
    choices = feature_choice.decide(
        programs,
        estimated,
        measured,
        asked=config.features,
        folder=config.features_folder,
        gigabytes=config.features_gigabytes,
    )
    here = chips.here()
    if left:
        kept = [family for family, choice in choices if choice.what == "cache"]
        ways = {"cell by cell": [estimated[cell.name].work for cell in left]}
        ways["as planned"] = feature_choice.works(programs, estimated, kept)
        kinds = [here, *(chip for chip in chips.CHIPS if chip.name in _CHIPS and chip.name != here.name)]
        memory = max(estimated[cell.name].memory for cell in left)
        console.print(sweep_tables.chip_table(kinds, ways, memory))
    if choices:
        table, hidden = sweep_tables.feature_table(choices)
        console.print(table)
        if hidden:
            console.print(f"... {hidden:,} more", soft_wrap=True)
    _say_groups(cells, len(programs), console)
    _explain(here, console)
    return len(done)


def _say_groups(cells: Sequence[Cell], programs: int, console: Console) -> None:
    groups: dict[str, int] = {}
    for cell in cells:
        groups[cell.group] = groups.get(cell.group, 0) + 1
    shared = [size for size in groups.values() if size > 1]
    console.print(
        f"{len(groups):,} groups; {sum(shared):,} cells in {len(shared):,} groups see the same batches through the "
        f"same frozen encoder; {programs:,} programs are left to run",
        soft_wrap=True,
    )


def _explain(here: chips.Chip, console: Console) -> None:
    devices = jax.devices()
    console.print(
        f"Estimates, of what is left. FLOPs as XLA counts them before optimisation, encoders only, as formulated for "
        f"{devices[0].device_kind}; memory is the largest cell's weights, optimiser state and signals, activations "
        "come on top. Time: from finished cells of the same kind on this device, - where there is none. At least: "
        f"lower bounds from peak arithmetic and memory bandwidth, which nothing reaches; of {here.name} as "
        f"{here.source}, of chips as their makers say (ecgjax/chips.py).",
        soft_wrap=True,
    )
