"""One vocabulary for the labels of all sources: terms.csv, read, checked, and applied to a store's targets.

A row says that a label of a source's label set means a term:

    source, label_set, label    as in the store; the source may also be the name that a store has in a study
    term, snomed, name          short name, SNOMED CT code where a publication gives one, full name
    exactness                   exact: the same statement. narrower: the label says more than the term. broader: it says
                                less. judgement: no publication equates the two; ours
    provenance                  what says so: publication, table, code

The terms are those of the Challenge 2021 with its pairs that count as one (complete RBBB = RBBB, complete LBBB = LBBB,
SVPB = PAC, VPB = PVC); where PTB-XL, SPH or ZZU give AHA codes, these connect them. Labels without a row have no term.

Not everything in terms.csv was seen in the publishers' own files: docs/transfer.md says what was.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgjax.data import sources
from ecgjax.data.store import Store
from ecgjax.errors import UserError

PATH = Path(__file__).with_name("terms.csv")
COLUMNS = ("source", "label_set", "label", "term", "snomed", "name", "exactness", "provenance")
EXACTNESS = ("exact", "narrower", "broader", "judgement")


@dataclass(frozen=True)
class Row:
    """A row of a table of terms; `place` is its file and line, for messages."""

    source: str
    label_set: str
    label: str
    term: str
    snomed: str
    name: str
    exactness: str
    provenance: str
    place: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.source, self.label_set, self.label


@dataclass(frozen=True)
class Mapped:
    """A label set in common terms.

    Attributes:
        terms: sorted.
        targets: (records, terms) float32. 1: a label that means the term is there. NaN: only labels that may mean it
            are (rows of an exactness that was not asked for), or none of its labels is known to be absent. 0: else.
        used: term -> labels that mean it.
        doubtful: term -> labels that make it unknown.
        unmapped: labels of the store that have no row.
        absent: labels of rows that the store does not have, such as rare ones.
    """

    terms: tuple[str, ...]
    targets: NDArray[np.float32]
    used: dict[str, tuple[str, ...]]
    doubtful: dict[str, tuple[str, ...]]
    unmapped: tuple[str, ...]
    absent: tuple[str, ...]


def load(path: Path | None = None, *, alone: bool = False) -> tuple[Row, ...]:
    """The table of terms, checked.

    Args:
        path: a table of your own; its rows replace those of terms.csv for the same labels. A row whose term is
            empty takes a label's term away.
        alone: nothing but `path`.

    Raises:
        UserError: no such file, or a row that cannot be; row and column are named.
    """
    own = read(path) if path is not None else ()
    taken = {row.key for row in own}
    shipped = () if alone else tuple(row for row in read(PATH) if row.key not in taken)
    rows = tuple(row for row in (*shipped, *own) if row.term)
    _check_terms(rows)
    return rows


def read(path: Path) -> tuple[Row, ...]:
    """All rows of a table, each checked by itself, and no label twice.

    Raises:
        UserError: see `load`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected a CSV table in UTF-8") from error
    reader = csv.reader(io.StringIO(text))
    header = next(reader, [])
    if sorted(header) != sorted(COLUMNS):
        raise UserError(f"{path}: columns {', '.join(header) or '(none)'}; expected {', '.join(COLUMNS)}")
    rows: dict[tuple[str, str, str], Row] = {}
    for cells in reader:
        place = f"{path}: line {reader.line_num}"
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise UserError(f"{place}: {len(cells)} cells; expected {len(header)}")
        row = Row(**dict(zip(header, (cell.strip() for cell in cells), strict=True)), place=place)
        _check_row(row)
        same = rows.setdefault(row.key, row)
        if same is not row:
            raise UserError(
                f"{place}: column label: {row.label!r} of {row.source}, {row.label_set}, has a row already "
                f"({same.place.rpartition(': ')[2]}: {same.term}); expected one term for each label"
            )
    return tuple(rows.values())


def check_labels(rows: Iterable[Row], stores: Iterable[tuple[str, Store]] = ()) -> None:
    """Refuses labels that neither the source declares nor a store at hand has.

    Args:
        rows: of a table.
        stores: names and stores whose labels count as declared too; a store made with a smaller --min-count has more.

    Raises:
        UserError: such a label, with its row; a source without a list of classes takes any.
    """
    held: dict[tuple[str, str], set[str]] = {}
    for name, store in stores:
        for label_set in store.label_sets():
            for source in (name, str(store.meta["source"])):
                held.setdefault((source, label_set), set()).update(store.classes(label_set))
    published: dict[tuple[str, str], frozenset[str]] = {}
    for row in rows:
        place = row.source, row.label_set
        known = published[place] if place in published else published.setdefault(place, declared(*place))
        if known and row.label not in known | held.get((row.source, row.label_set), set()):
            raise UserError(
                f"{row.place}: column label: {row.source}, label set {row.label_set}, has no class {row.label!r}; "
                f"expected one of {', '.join(sorted(known)[:6])}, ..."
            )


def declared(source: str, label_set: str) -> frozenset[str]:
    """Classes of a label set that a source declares as published; empty where it declares none."""
    if source not in sources.names():
        return frozenset()
    return frozenset(sources.load(source).FACTS.published.get(label_set, {}))


def label_set_of(rows: Sequence[Row], name: str, store: Store, asked: str | None) -> str:
    """The label set to map: the one that is asked for, else "all" or the only one with rows.

    Raises:
        UserError: the store has no such label set, or the table no row of it.
    """
    source = _source(rows, name, store)
    mapped = sorted({row.label_set for row in rows if row.source == source} & set(store.label_sets()))
    choice = asked or ("all" if "all" in mapped else mapped[0] if len(mapped) == 1 else None)
    if choice in mapped:
        return str(choice)
    what = f"label set {asked!r}" if asked else "no label set"
    raise UserError(
        f"{store.path} ({name}): {what} has rows in the table of terms for source {source!r}; expected one of "
        f"{', '.join(mapped) or '(none)'}; other rows come with --config.vocabulary=FILE"
    )


def apply(rows: Sequence[Row], name: str, store: Store, label_set: str, exactness: Sequence[str]) -> Mapped:
    """A store's targets in common terms.

    Args:
        rows: of the table.
        name: of the store in a study; rows of this source come before those of the store's own source.
        store: whose targets.
        label_set: its name.
        exactness: what counts, e.g. ("exact", "narrower"); a positive label of another exactness leaves its term
            unknown.

    Raises:
        UserError: none of the classification labels has a term.
    """
    source = _source(rows, name, store)
    own = {row.label: row for row in rows if row.source == source and row.label_set == label_set}
    kinds = store.kinds(label_set)
    classes = [label for label, kind in zip(store.classes(label_set), kinds, strict=True) if kind == "classification"]
    column = {label: i for i, label in enumerate(store.classes(label_set))}
    by_term: dict[str, tuple[list[str], list[str]]] = {}
    for label in classes:
        if label in own:
            by_term.setdefault(own[label].term, ([], []))[own[label].exactness not in exactness].append(label)
    kept = {term: labels for term, labels in sorted(by_term.items()) if labels[0]}
    if not kept:
        raise UserError(
            f"{store.path} ({name}), label set {label_set!r}: none of its {len(classes)} labels has a term of "
            f"exactness {' or '.join(exactness)}; expected rows of source {source!r} in the table of terms"
        )
    values = store.targets(label_set)
    targets = np.stack(
        [_term(values, *([column[label] for label in part] for part in parts)) for parts in kept.values()], axis=1
    )
    return Mapped(
        tuple(kept),
        targets,
        {term: tuple(parts[0]) for term, parts in kept.items()},
        {term: tuple(parts[1]) for term, parts in kept.items() if parts[1]},
        tuple(label for label in classes if label not in own),
        tuple(label for label in own if label not in column),
    )


def names(rows: Iterable[Row]) -> Mapping[str, tuple[str, str]]:
    """Full name and SNOMED CT code of each term."""
    return {row.term: (row.name, row.snomed) for row in rows}


def _term(values: NDArray[np.float32], sure: list[int], doubtful: list[int]) -> NDArray[np.float32]:
    """(records,) target of a term from the columns that mean it and those that may."""
    positive = (values[:, sure] == 1).any(axis=1)
    unknown = np.isnan(values[:, sure]).any(axis=1) | (values[:, doubtful] != 0).any(axis=1)
    return np.where(positive, 1, np.where(unknown, np.nan, 0)).astype(np.float32)


def _source(rows: Sequence[Row], name: str, store: Store) -> str:
    return name if any(row.source == name for row in rows) else str(store.meta["source"])


def _check_row(row: Row) -> None:
    needed = ("source", "label_set", "label") + (("name", "exactness", "provenance") if row.term else ())
    empty = next((column for column in needed if not getattr(row, column)), None)
    if empty:
        raise UserError(f"{row.place}: column {empty} is empty; expected it in every row")
    if row.term and row.exactness not in EXACTNESS:
        raise UserError(f"{row.place}: column exactness: {row.exactness!r}; expected one of {', '.join(EXACTNESS)}")
    if row.snomed and not is_snomed(row.snomed):
        raise UserError(f"{row.place}: column snomed: {row.snomed!r} is no SNOMED CT code (its check digit is wrong)")


def _check_terms(rows: Sequence[Row]) -> None:
    """One code and one name for each term, and one term for each code."""
    first: dict[str, Row] = {}
    by_code: dict[str, Row] = {}
    for row in rows:
        same = first.setdefault(row.term, row)
        for column in ("snomed", "name"):
            here, there = getattr(row, column), getattr(same, column)
            if here != there:
                raise UserError(
                    f"{row.place}: column {column}: {here!r} for term {row.term}; expected {there!r} as in {same.place}"
                )
        same = by_code.setdefault(row.snomed, row) if row.snomed else row
        if same.term != row.term:
            raise UserError(
                f"{row.place}: column snomed: {row.snomed} is {same.term} in {same.place} and {row.term} here; "
                "expected one term for each code"
            )


def is_snomed(code: str) -> bool:
    """Whether text is a SNOMED CT identifier: 6 to 18 digits, the last one being Verhoeff's check digit."""
    if not (code.isascii() and code.isdecimal() and 6 <= len(code) <= 18):
        return False
    total = 0
    for place, digit in enumerate(reversed(code)):
        total = _compose(total, _turned(int(digit), place))
    return total == 0


def _compose(a: int, b: int) -> int:
    """Product in D5: 0 to 4 are rotations, 5 to 9 reflections."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b - 5) % 5
    return 5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5


def _turned(digit: int, times: int) -> int:
    for _ in range(times % 8):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit
