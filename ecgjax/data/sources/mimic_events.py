"""Streams the event tables of MIMIC-IV (up to 40 GB of text) once, and keeps what the benchmark's targets need.

That is little: the values near an ECG, and how often each value occurs at all, from which percentiles follow exactly.
Both are written in parts below a cache folder while the table goes by, so that a killed run goes on where it was (it
unpacks what it had, but neither looks at it again). Memory does not grow with the table.
"""

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ecgjax.atomic import replacing, write_json
from ecgjax.errors import UserError, disk_errors

EVENT = pa.schema(
    {"subject": pa.int64(), "time": pa.int64(), "item": pa.int32(), "unit": pa.string(), "value": pa.float64()}
)
"""One value: `time` in seconds since 1970, null where unknown; `item` counts the table's items; `value` is NaN where
there is none, and else in the target's unit."""

_COUNTS = pa.schema(
    {"item": pa.int32(), "unit": pa.string(), "group": pa.int8(), "value": pa.float64(), "count": pa.int64()}
)

NO_ECG, OTHER, TESTED, TRAINING = range(4)
"""Groups of subjects: without an ECG; with one; with one in `in_emergency`, and the subject's fold is one of the last
two, or is not."""

_BLOCK_BYTES = 2**22  # pyarrow keeps up to 32 blocks ready, so this bounds memory too
_VERSION = 1
_TIMES = 2**33  # Seconds since 1970 up to the year 2242; MIMIC's are shifted to 2097 to 2211.
_PER_LINE = 30.0


@dataclass(frozen=True)
class Ecgs:
    """Which ECGs values are sought for.

    Attributes:
        moments: (ecgs,) int64, ascending: subject and time of the ECGs in one number, see `moment`.
        subjects: (subjects,) int64, ascending, of everyone with an ECG.
        groups: (subjects,) int8.
    """

    moments: np.ndarray
    subjects: np.ndarray
    groups: np.ndarray

    def group(self, subject: np.ndarray) -> np.ndarray:
        """(events,) int8: the group of each event's subject."""
        at = np.minimum(np.searchsorted(self.subjects, subject), len(self.subjects) - 1)
        return np.where(self.subjects[at] == subject, self.groups[at], NO_ECG).astype(np.int8)

    def near(self, subject: np.ndarray, when: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(events,) bool: whether the subject has an ECG at most `seconds` before or after."""
        first = np.searchsorted(self.moments, moment(subject, when - seconds))
        return first < np.searchsorted(self.moments, moment(subject, when + seconds), side="right")


def moment(subject: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Subject and time (s) in one number that sorts by subject, then time."""
    return subject * _TIMES + np.clip(when, 0, _TIMES - 1)


@dataclass(frozen=True)
class Item:
    """One kind of value in a table.

    Attributes:
        source: what the table calls it: an item id, or a name.
        label: what the publisher calls it.
        quantity: the target that it is a value of.
        seconds: how far from an ECG a value may be.
        factor: with `offset`, from the table's unit to the target's.
        offset: see `factor`.
        needs_unit: whether values without a unit are left out.
    """

    source: int | str
    label: str
    quantity: str
    seconds: int
    factor: float = 1.0
    offset: float = 0.0
    needs_unit: bool = False


@dataclass(frozen=True)
class Table:
    """How a table becomes events.

    Attributes:
        name: for messages and file names.
        path: of the CSV file, gzip if it ends in ".gz".
        columns: those needed, with their types.
        items: the kinds of values that are sought.
        events: makes `EVENT` and a column "row" of a piece of the table, which has its row numbers as "row".
    """

    name: str
    path: Path
    columns: Mapping[str, pa.DataType]
    items: tuple[Item, ...]
    events: Callable[[pa.Table, tuple[Item, ...]], pa.Table]


@dataclass
class Extract:
    """What was kept of a table.

    Attributes:
        rows: events near an ECG: subject, time, item, unit, value, row (ascending, in the order of the table).
        counts: item, unit, group, value, count: how often each value occurs in the whole table.
        total: number of rows that were read.
    """

    rows: pd.DataFrame
    counts: pd.DataFrame
    total: int


@dataclass
class _State:
    """How far the table was read: blocks and their rows, and the parts with what was kept of them."""

    blocks: int = 0
    rows: int = 0
    parts: int = 0
    done: bool = False
    kept: list[pa.Table] = field(default_factory=list)
    counted: list[pa.Table] = field(default_factory=list)


def extract(
    table: Table,
    ecgs: Ecgs,
    cache: Path,
    *,
    most_blocks: int | None = None,
    part_blocks: int = 256,
    quiet: bool = False,
) -> Extract:
    """Reads a table, or takes what an earlier run kept of the same table for the same ECGs.

    Args:
        table: what to read.
        ecgs: whose neighbourhood is kept.
        cache: folder for the parts; one folder below it belongs to this table.
        most_blocks: reads no more than the first so many blocks of 4 MiB, for a dry run.
        part_blocks: blocks between two parts; what a killed run has to do again.
        quiet: no progress on stderr.

    Raises:
        UserError: the file is damaged or cut off, or a column is missing or has a cell that does not fit.
    """
    folder = cache / f"{table.name}-{_identity(table, ecgs, most_blocks)}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "state.json"
    state = _State(**json.loads(state_file.read_text())) if state_file.exists() else _State()
    if not state.done:
        with _progress(table, quiet) as report, closing(_blocks(table, most_blocks)) as blocks:
            for number, (piece, share) in enumerate(blocks):
                if number >= state.blocks:
                    _digest(piece, state, table, ecgs)
                    state.blocks, state.rows = number + 1, state.rows + piece.num_rows
                    if (number + 1) % part_blocks == 0:
                        _save(folder, state)
                report(share, state.rows)
        state.done = True
        _save(folder, state)
    rows = pa.concat_tables(_part(folder, "rows", i) for i in range(state.parts))
    counts = _summed([_part(folder, "counts", i) for i in range(state.parts)])
    return Extract(rows.to_pandas(), counts.to_pandas(), state.rows)


def _digest(piece: pa.Table, state: _State, table: Table, ecgs: Ecgs) -> None:
    """Takes from one block what is to be kept."""
    numbered = piece.append_column("row", pa.array(np.arange(state.rows, state.rows + piece.num_rows)))
    events = table.events(numbered, table.items)
    if events["subject"].null_count:
        raise UserError(f"{table.path}: a row without subject_id; expected one in every row")
    events = events.append_column("group", pa.array(ecgs.group(events["subject"].to_numpy())))
    counted = events.group_by(_COUNTS.names[:-1]).aggregate([([], "count_all")])
    state.counted.append(counted.rename_columns(_COUNTS.names))
    events = events.filter(pc.and_(pc.is_valid(events["time"]), pc.invert(pc.is_nan(events["value"]))))
    seconds = np.array([item.seconds for item in table.items])[events["item"].to_numpy()]
    near = ecgs.near(events["subject"].to_numpy(), events["time"].to_numpy(), seconds)
    state.kept.append(events.filter(pa.array(near)).drop_columns("group"))


def _save(folder: Path, state: _State) -> None:
    """Writes a part, then the state that counts it; a part without its state is written again."""
    empty_rows = EVENT.append(pa.field("row", pa.int64())).empty_table()
    with disk_errors(folder):
        with replacing(folder / f"rows-{state.parts:05d}.parquet") as temporary:
            pa.parquet.write_table(pa.concat_tables([empty_rows, *state.kept]), temporary)
        with replacing(folder / f"counts-{state.parts:05d}.parquet") as temporary:
            pa.parquet.write_table(_summed(state.counted), temporary)
        state.parts, state.kept, state.counted = state.parts + 1, [], []
        write_json(
            folder / "state.json",
            {"blocks": state.blocks, "rows": state.rows, "parts": state.parts, "done": state.done},
        )


def _part(folder: Path, kind: str, number: int) -> pa.Table:
    path = folder / f"{kind}-{number:05d}.parquet"
    try:
        return pa.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove its folder to make it again") from error


def _summed(counts: list[pa.Table]) -> pa.Table:
    together = pa.concat_tables([_COUNTS.empty_table(), *counts])
    summed = together.group_by(_COUNTS.names[:-1]).aggregate([("count", "sum")])
    return summed.rename_columns(_COUNTS.names)


def _blocks(table: Table, most: int | None) -> Generator[tuple[pa.Table, float], None, None]:
    """The table in pieces, and the share of the file that was read."""
    size = max(table.path.stat().st_size, 1)
    try:
        with pa.OSFile(str(table.path)) as file:
            source = pa.CompressedInputStream(file, "gzip") if table.path.suffix == ".gz" else file
            reader = pa.csv.open_csv(
                source,
                read_options=pa.csv.ReadOptions(block_size=_BLOCK_BYTES),
                # Comments may hold line breaks between quotes.
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=list(table.columns), column_types=dict(table.columns), strings_can_be_null=True
                ),
            )
            for number, batch in enumerate(reader):
                if number == most:
                    return
                yield pa.Table.from_batches([batch]), file.tell() / size
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{table.path}: cannot be read ({reason}); expected a whole file with {', '.join(table.columns)}"
        ) from error


def _identity(table: Table, ecgs: Ecgs, most_blocks: int | None) -> str:
    """Hash of all that the extract follows from; a file is known by its name, size and time."""
    file = table.path.stat()
    facts = [_VERSION, table.path.name, file.st_size, file.st_mtime_ns, most_blocks, _BLOCK_BYTES, *table.columns]
    digest = hashlib.sha256(json.dumps([facts, [astuple(item) for item in table.items]]).encode())
    for values in (ecgs.moments, ecgs.subjects, ecgs.groups):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _progress(table: Table, quiet: bool) -> Iterator[Callable[[float, int], None]]:
    """Shows how far a table is: a bar on a terminal, elsewhere a line every half minute."""
    console, name = Console(stderr=True, quiet=quiet, highlight=False), table.path.name
    began = said = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=1.0)

        def report(share: float, rows: int) -> None:
            nonlocal said
            now = time.monotonic()
            done = f"{name}: {rows:,} rows, {rows / max(now - began, 1e-3):,.0f}/s"
            bar.update(task, completed=share, description=done)
            if not console.is_terminal and now - said > _PER_LINE:
                console.print(f"{done}, {share:.0%}", soft_wrap=True)
                said = now

        yield report
