"""Whether features of a frozen encoder are kept on disk or computed again: by what either costs, said in a sentence.

Cells that share encoder, weights, data and protocol share features, whatever their heads, seeds or label fractions: a
family. Its validation windows come again in every epoch, its test windows in every program, its training windows if
they are the same in all epochs. Results do not depend on the choice: a cache holds the very values of an encoder pass
(`Cell.settings["data.features"]` says to what both are rounded).

Estimates: windows per second as measured on this device, else `SHARE` of its peak; the disk at `DISK` bytes per second,
and `COMPILATION` seconds for the program that only computes features.
What fits in half of this machine's memory is read from the disk once, anything else in every pass.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ecgjax import chips
from ecgjax.chips import Chip
from ecgjax.data import embedded, feature_cache
from ecgjax.data.feature_cache import KINDS, Kind
from ecgjax.errors import UserError
from ecgjax.models.heads import READS
from ecgjax.sweep import costs
from ecgjax.sweep.cells import Cell, hashed, signal
from ecgjax.sweep.costs import Cost, Work
from ecgjax.sweep.units import NOTHING, Keeping, Unit, units
from ecgjax.training.progress import clock
from ecgjax.training.supervised import MODES

SHARE = 0.3
DISK = 200e6
COMPILATION = 2.0
CHOICES = ("auto", "cache", "recompute")

_FREE = 0.1  # share of the disk's free space that is left


class Choice(NamedTuple):
    """What is done with a family's features.

    Attributes:
        what: "cache" or "recompute".
        reason: a sentence with numbers.
    """

    what: Literal["cache", "recompute"]
    reason: str


@dataclass(frozen=True)
class Family:
    """Cells whose features are the same.

    Attributes:
        key: hash of what they share.
        cells: those with a frozen encoder, done ones left out.
        windows: different ones.
        uses: windows that pass through the encoder if none are kept.
        kinds: which features their heads read.
        tokens: of a window.
        channels: width of the features.
        dtype: in which they are kept.
        forward: FLOPs of one window.
        precision: type of the encoder's activations.
        rate: measured windows per second; None: nothing was measured.
    """

    key: str
    cells: tuple[Cell, ...]
    windows: int
    uses: int
    kinds: tuple[Kind, ...]
    tokens: int
    channels: int
    dtype: str
    forward: float
    precision: str
    rate: float | None

    @property
    def bytes(self) -> int:
        """On disk."""
        values = sum(self.channels * (self.tokens if kind == "sequence" else 1) for kind in self.kinds)
        return self.windows * values * (2 if self.dtype == "bfloat16" else 4)


def key_of(cell: Cell) -> str:
    """Equal for cells with the same features."""
    config, identity = cell.identity["config"], cell.identity
    return hashed(
        [
            *(identity[name] for name in ("numerics", "arguments", "weights", "data")),
            *(config[name] for name in ("model", "protocol", "data.features")),
            config["seed"] if identity["weights"] is None else None,
            *(config[name] for name in ("switches.missing_samples",) if name in config),
            *filter(None, [signal(identity)]),
        ]
    )


def decide(
    programs: Iterable[Unit],
    estimated: Mapping[str, Cost],
    measured: Mapping[str, float],
    *,
    asked: str = "auto",
    folder: str | None = None,
    gigabytes: float | None = None,
) -> list[tuple[Family, Choice]]:
    """The families of cells with frozen encoders, in the order of the units, and what is done with their features.

    Args:
        programs: of cells that are to be run.
        estimated: cost of each cell by its name.
        measured: windows per second by `costs.measured_key`.
        asked: config.features.
        folder: config.features_folder.
        gigabytes: config.features_gigabytes, that a family's features may take.

    Raises:
        UserError: `asked` is no choice.
    """
    limit = None if gigabytes is None else gigabytes * 1e9
    return [
        (family, choose(family, place_of(family.cells[0], folder), asked=asked, limit=limit))
        for family in families(programs, estimated, measured)
    ]


def keeping(
    cells: Iterable[Cell], stores: Iterable[Path], *, asked: str, folder: str | None, gigabytes: float | None
) -> Keeping:
    """What a sweep keeps of the features of cells that are to be run; quick where nothing has to be estimated.

    Args:
        cells: to be run.
        stores: folders of finished cells, whose throughput counts.
        asked: config.features.
        folder: config.features_folder.
        gigabytes: config.features_gigabytes.

    Raises:
        UserError: `asked` is no choice.
    """
    if asked not in CHOICES:
        raise UserError(f"config.features is {asked!r}; expected one of {', '.join(CHOICES)}")
    frozen = [cell for cell in cells if not MODES[cell.mode].trains_encoder]
    if asked == "recompute" or not frozen:
        return NOTHING
    if asked == "cache":
        read: dict[str, set[str]] = {}
        for cell in frozen:
            read.setdefault(key_of(cell), set()).add(READS[MODES[cell.mode].head])
        return Keeping({key: tuple(kind for kind in KINDS if kind in kinds) for key, kinds in read.items()}, folder)
    # An exact probe needs each window once, so that it is no reason to keep them.
    frozen = [cell for cell in frozen if not MODES[cell.mode].exact]
    measured = costs.throughputs(stores)
    estimated = {cell.name: costs.of_cell(cell, measured) for cell in frozen}
    decided = decide(units(frozen), estimated, measured, asked=asked, folder=folder, gigabytes=gigabytes)
    return Keeping({family.key: family.kinds for family, choice in decided if choice.what == "cache"}, folder)


def place_of(cell: Cell, folder: str | None) -> Path:
    """Where features of a cell's data lie; see `ecgjax.data.feature_cache.place`."""
    store = cell.settings["data.store"]
    return feature_cache.place(embedded.synthetic_store() if store is None else Path(store), folder)


def families(units: Iterable[Unit], estimated: Mapping[str, Cost], measured: Mapping[str, float]) -> list[Family]:
    """The families of cells with frozen encoders, in the order of the units; exact probes are in none.

    Args:
        units: of cells that are to be run.
        estimated: cost of each cell by its name.
        measured: windows per second by `costs.measured_key`.
    """
    found: dict[str, list[Unit]] = {}
    for unit in units:
        mode = MODES[unit.cells[0].mode]
        if not (mode.trains_encoder or mode.exact):
            found.setdefault(key_of(unit.cells[0]), []).append(unit)
    return [_family(key, members, estimated, measured) for key, members in found.items()]


def choose(
    family: Family,
    place: Path,
    *,
    asked: str = "auto",
    limit: float | None = None,
    free: float | None = None,
    host_memory: float | None = None,
    here: Chip | None = None,
) -> Choice:
    """Whether to keep a family's features.

    Args:
        family: from `families`.
        place: where they would lie.
        asked: "auto", or "cache" or "recompute" in any case.
        limit: bytes that they may take.
        free: bytes that are free there; None: as it is.
        host_memory: bytes; None: as it is.
        here: what they are computed on; None: as it is.

    Raises:
        UserError: something else is asked.
    """
    if asked not in CHOICES:
        raise UserError(f"config.features is {asked!r}; expected one of {', '.join(CHOICES)}")
    size, times = f"{_size(family)} = {scaled(family.bytes)}B", family.uses / max(family.windows, 1)
    if asked == "recompute":
        return Choice("recompute", f"as asked; kept, they would be {size}")
    free = _free(place) if free is None else free
    if asked == "cache":
        return Choice("cache", f"as asked; {size}, {scaled(free)}B are free")
    if family.uses <= family.windows:
        return Choice("recompute", f"each of {family.windows:,} windows is encoded once")
    for most, why in ((limit, "the limit is"), ((1 - _FREE) * free, "there is room for")):
        if most is not None and family.bytes > most:
            return Choice("recompute", f"{size}, and {why} {scaled(most)}B")
    rate = family.rate or SHARE * getattr(here or chips.here(), family.precision) / max(family.forward, 1)
    saved = (family.uses - family.windows) / rate
    memory = _host_memory() if host_memory is None else host_memory
    price = COMPILATION + family.bytes * (1 + (1 if family.bytes <= memory / 2 else times)) / DISK
    about = f"{size}; encoded once instead of {times:.3g} times saves about {duration(saved)}"
    what: Literal["cache", "recompute"] = "cache" if price < saved else "recompute"
    return Choice(what, f"{about}; compiling, writing and reading takes {duration(price)}")


def works(units: Iterable[Unit], estimated: Mapping[str, Cost], kept: Iterable[Family] = ()) -> list[Work]:
    """What each program does at least: one pass of batches through a frozen encoder feeds all heads of a unit.

    Args:
        units: of cells that are to be run.
        estimated: cost of each cell by its name.
        kept: families whose features are kept.
    """
    by_key = {family.key: family for family in kept}
    found = []
    for unit in units:
        first = unit.cells[0]
        cost, family = estimated[first.name], by_key.get(key_of(first))
        if MODES[first.mode].trains_encoder:
            found += [estimated[cell.name].work for cell in unit.cells]
        elif family is None or MODES[first.mode].exact:
            found.append(cost.work)
        elif not costs.same_windows(first):
            trained = first.settings["epochs"] * cost.windows.train
            found.append(Work(trained * cost.forward, 4.0 * cost.parameters * trained / _batch(first), cost.work.dtype))
    for family in by_key.values():
        cost, batches = estimated[family.cells[0].name], family.windows / _batch(family.cells[0])
        moved = family.bytes + 4.0 * cost.parameters * batches
        found.append(Work(family.windows * family.forward, moved, family.precision))
    return found


def _batch(cell: Cell) -> int:
    return cell.settings["batch_size"]


def scaled(number: float) -> str:
    """Three digits and a prefix: 1234567 is "1.23 M"."""
    for factor, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.3g} "


def duration(seconds: float) -> str:
    """Two digits below a minute, else minutes and seconds."""
    return f"{seconds:.2g} s" if seconds < 60 else clock(seconds)


def _family(key: str, units: list[Unit], estimated: Mapping[str, Cost], measured: Mapping[str, float]) -> Family:
    cells = tuple(cell for unit in units for cell in unit.cells)
    cost, whole = estimated[cells[0].name], estimated[cells[0].name].whole
    uses = 0.0
    # Windows by what drew them: subsets of other fractions or seeds are others, but never more than all.
    validation: dict[tuple, float] = {}
    train: dict[tuple, float] = {}
    for unit in units:
        first = unit.cells[0]
        windows, epochs = estimated[first.name].windows, first.settings["epochs"]
        config = first.identity["config"]
        subset = tuple(config[name] for name in ("data.ratio", "data.subset", "data.labels"))
        drawn = (*subset, config["seed"]) if config["data.ratio"] < 1 else ()
        validation[drawn] = windows.validation
        uses += epochs * windows.validation + windows.test
        if costs.same_windows(first):
            fixed = config["data.seed"] if config["data.crops"] == "fixed" else None
            train[(*drawn, fixed)] = windows.train
            uses += epochs * windows.train
    crops = len({crop[-1] for crop in train})
    distinct = (
        min(sum(validation.values()), whole.validation) + whole.test + min(sum(train.values()), whole.train * crops)
    )
    read = {READS[MODES[cell.mode].head] for cell in cells}
    rates = [rate for cell in cells if (rate := measured.get(costs.measured_key(cell)))]
    return Family(
        key,
        cells,
        round(distinct),
        round(uses),
        tuple(kind for kind in KINDS if kind in read),
        cost.tokens,
        cost.channels,
        cells[0].settings["data.features"],
        cost.forward,
        cost.work.dtype,
        min(rates) if rates else None,
    )


def _size(family: Family) -> str:
    token = f"{family.tokens:,} tokens x " if "sequence" in family.kinds else ""
    pooled = f" and {family.channels:,} pooled" if len(family.kinds) == 2 else ""
    return f"{family.windows:,} windows x {token}{family.channels:,}{pooled} as {family.dtype}"


def _free(place: Path) -> float:
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return float(shutil.disk_usage(there).free)


def _host_memory() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
