"""Folds from a file, so that everybody who prepares a data set has the same."""

from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.errors import UserError


def read_folds(path: Path, record_ids: pd.Series) -> pd.Series:
    """Fold by record id, from a folds.csv; records that are not asked for are ignored.

    Args:
        path: columns record_id and fold.
        record_ids: that need a fold.

    Raises:
        UserError: no such file, a fold that is no whole number, a record twice, or one without a fold.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a CSV with the columns record_id and fold")
    try:
        table = pd.read_csv(path, dtype={"record_id": str}, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({' '.join(str(error).split())})") from error
    for name in ("record_id", "fold"):
        if name not in table:
            raise UserError(f"{path}: no column {name}; the columns are {', '.join(map(repr, table.columns))}")
    if not pd.api.types.is_integer_dtype(table["fold"]):
        bad = table[pd.to_numeric(table["fold"], errors="coerce") % 1 != 0].iloc[0]
        raise UserError(f"{path}: record {bad['record_id']!r} has fold '{bad['fold']}'; expected a whole number")
    twice = table["record_id"][table["record_id"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: record {twice.iloc[0]!r} is there twice; expected unique ids")
    missing = record_ids[~record_ids.isin(table["record_id"])]
    if len(missing):
        raise UserError(
            f"{path}: no fold for {len(missing):,} of {len(record_ids):,} records, e.g. {missing.iloc[0]!r}; "
            "expected one for every record"
        )
    return table.set_index("record_id")["fold"].astype(np.int64)
