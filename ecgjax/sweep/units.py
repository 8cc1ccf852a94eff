"""Which cells run as one program: frozen cells whose heads share the encoder, exact probes, and stacked trainings."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ecgjax.data.feature_cache import Kind
from ecgjax.sweep.cells import Cell, hashed
from ecgjax.training.supervised import MODES

FOLDER = ".units"
"""In the folder of the cells: what cells of a unit share while they are trained."""
MOST_HEADS = 128
"""Heads of one program. An attention head on 512 channels takes 25 MB with its optimiser's state and a batch of 64."""

Stacking = Callable[[Cell], tuple[str, int] | None]
"""For a cell that trains its encoder: what cells that can be stacked have in common, and how many at most; None: it
runs alone."""


@dataclass(frozen=True)
class Unit:
    """Cells that are run as one program.

    Attributes:
        cells: one or more, in the order of the sweep.
        kind: "single": as `ecgjax.jobs.evaluate` does it; "fused": heads on one frozen encoder; "stacked": cells that
            train encoders of one shape; "exact": probes fitted to the optimum on the features of one encoder.
    """

    cells: tuple[Cell, ...]
    kind: Literal["single", "fused", "stacked", "exact"]

    @property
    def name(self) -> str:
        """Hash of its cells' names."""
        return hashed([cell.name for cell in self.cells])

    def halves(self) -> tuple["Unit", ...]:
        """Two units with half the cells each; those with one cell are single."""
        middle = (len(self.cells) + 1) // 2
        return tuple(_unit(part, self.kind) for part in (self.cells[:middle], self.cells[middle:]) if part)


class Keeping(NamedTuple):
    """What a sweep keeps of features.

    Attributes:
        families: what the heads of a sweep read of features that are kept, by the key of their cells
            (`ecgjax.sweep.feature_choice.key_of`). The first unit of a family computes all of it in one pass.
        folder: config.features_folder.
    """

    families: Mapping[str, tuple[Kind, ...]]
    folder: str | None = None


NOTHING = Keeping({})


def units(
    cells: Sequence[Cell],
    *,
    most_heads: int = MOST_HEADS,
    stacking: Stacking | None = None,
    pool: Callable[[Cell], str | None] | None = None,
) -> tuple[Unit, ...]:
    """Units of cells: every cell is in exactly one, and units are in the order of their first cells.

    The same cells in the same order always make the same units, which is how an interrupted one is found again.

    Args:
        cells: of a sweep, finished ones too.
        most_heads: of a fused unit; more are spread evenly over several.
        stacking: see `Stacking`; None: cells that train an encoder run alone.
        pool: for a cell with a frozen encoder, what cells that are fed from one cache of features have in common, each
            in batches of its own; None: it shares batches with its group.
    """
    together: dict[tuple[str, str], list[Cell]] = {}
    most: dict[tuple[str, str], int] = {}
    for cell in cells:
        kind, key, limit = "fused", cell.group, most_heads
        if MODES[cell.mode].exact:
            kind = "exact"
        elif MODES[cell.mode].trains_encoder:
            kind, (key, limit) = "stacked", (stacking and stacking(cell)) or (cell.name, 1)
        elif pool is not None:
            key = pool(cell) or cell.group
        together.setdefault((kind, key), []).append(cell)
        most[kind, key] = limit
    place = {cell.name: i for i, cell in enumerate(cells)}
    found = [_unit(tuple(part), key[0]) for key, members in together.items() for part in _parts(members, most[key])]
    return tuple(sorted(found, key=lambda unit: place[unit.cells[0].name]))


def _unit(cells: tuple[Cell, ...], kind: str) -> Unit:
    return Unit(cells, "single" if len(cells) == 1 else kind)  # type: ignore[arg-type]


def _parts(cells: list[Cell], most: int) -> list[list[Cell]]:
    """Consecutive parts of at most `most`, their sizes equal or one apart."""
    count = -(-len(cells) // most)
    edges = [i * len(cells) // count for i in range(count + 1)]
    return [cells[start:stop] for start, stop in itertools.pairwise(edges)]
