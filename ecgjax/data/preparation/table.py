"""The table of a data set while it is prepared: what a source lists, and what its recordings say of themselves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data.store_files import INDEX
from ecgjax.errors import UserError

# pandas 3 keeps text in a type of its own, pandas 2 as objects.
_TEXT = pd.Series(["", None]).dtype
_RESERVED = {*INDEX, "key"}
_WHOLE = (bool, np.bool_, int, np.integer)
REQUIRED = ("record_id", "patient_id", "key")


def column(values: Sequence[Any]) -> pd.Series:
    """Values as one column: numbers (or booleans) where all known values are, else text; None and NaN are unknown.

    Text stays text, also where it looks like a number: codes are no quantities.
    """
    known = [value for value in values if not _unknown(value)]
    complete = len(known) == len(values) and len(known) > 0
    if complete and all(isinstance(value, (bool, np.bool_)) for value in known):
        return pd.Series(np.array(values, bool))
    if complete and all(isinstance(value, _WHOLE) for value in known):
        return pd.Series(np.array(values, np.int64))
    if all(isinstance(value, (*_WHOLE, float, np.floating)) for value in known):
        return pd.Series(np.array([np.nan if _unknown(value) else float(value) for value in values]))
    return pd.Series([None if _unknown(value) else str(value) for value in values], dtype=_TEXT)


def flat(metadata: Mapping[str, Any], record_id: str = "") -> dict[str, Any]:
    """The single values of a recording's metadata, as plain Python; lists, arrays and mappings are left out.

    Raises:
        UserError: one is called like a column of the store's index.
    """
    values = {}
    reserved = [name for name in metadata if name in _RESERVED]
    if reserved:
        raise UserError(f"record {record_id!r}: metadata {reserved[0]!r} is the index's own; expected another name")
    for name, value in metadata.items():
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (str, bool, int, float)):
            values[name] = value
    return values


def merge(listing: pd.DataFrame, metadata: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The listing with one column for each value that any recording has.

    Where both have a value the listing's counts; a recording's own fills what the listing does not know.

    Args:
        listing: rows of the records that were read.
        metadata: of each of them, see `flat`.
    """
    rows = list(metadata)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = listing.reset_index(drop=True)
    own = {name: column([row.get(name) for row in rows]) for name in names}
    return fill(table, pd.DataFrame(own, index=range(len(table))))


def fill(table: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """`table` with the columns of `own`; of columns that both have, unknown values only are taken from `own`."""
    table, added = table.copy(), {}
    for name in own:
        if name in table:
            said = table[name]
            if said.isna().any():
                table[name] = column(list(said.where(said.notna(), own[name])))
        else:
            added[name] = own[name]
    return pd.concat([table, pd.DataFrame(added, index=table.index)], axis=1)


def check_listing(listing: pd.DataFrame, what: object) -> pd.DataFrame:
    """The listing with the required columns as text and rows numbered from 0.

    Raises:
        UserError: no rows, a column is missing, an empty id, or a record id twice.
    """
    missing = [name for name in REQUIRED if name not in listing]
    if missing:
        raise UserError(f"{what}: the listing has no column {missing[0]!r}; expected {', '.join(REQUIRED)}")
    reserved = [name for name in listing if name in _RESERVED and name not in REQUIRED]
    if reserved:
        raise UserError(f"{what}: column {reserved[0]!r} of the listing is the index's own; expected another name")
    if not len(listing):
        raise UserError(f"{what}: no records; expected at least one")
    listing = listing.reset_index(drop=True).assign(**{name: listing[name].astype(str).array for name in REQUIRED})
    for name in REQUIRED[:2]:
        empty = np.flatnonzero(listing[name] == "")
        if len(empty):
            raise UserError(f"{what}: row {empty[0]} of the listing has an empty {name}; expected one for every record")
    twice = listing["record_id"][listing["record_id"].duplicated()]
    if len(twice):
        raise UserError(f"{what}: record {twice.iloc[0]!r} is there twice; expected unique record ids")
    return listing


def _unknown(value: Any) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, (float, np.floating)) and value != value)
    )
