"""Finds a publisher's files below --raw, and reads his tables with every cell as text."""

import csv
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ecgjax.errors import UserError


def find(raw: Path, name: str, *, what: str) -> Path:
    """The file or folder `name` in `raw` or up to two folders further down, where an unpacked archive may have put it.

    Args:
        raw: the folder given as --raw.
        name: of the file or folder, may contain "/".
        what: what it is, for the message.

    Raises:
        UserError: `raw` is no folder, nothing of that name is there, or several are at the same depth.
    """
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; expected the folder with {name} ({what})")
    for pattern in ("", "*/", "*/*/"):
        found = sorted(raw.glob(pattern + name))
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1]}: there are two of {name} below {raw}; expected one")
        if found:
            return found[0]
    raise UserError(f"{raw}: no {name} ({what}) there or up to two folders below; expected it as the publisher has it")


def key(raw: Path, path: Path) -> str:
    """`path` relative to `raw` with "/" between its parts, as listings name records."""
    return path.relative_to(raw).as_posix()


def read_csv(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV file with a header row; every cell is stripped text, empty where there is none.

    Args:
        path: UTF-8, or else Latin-1.
        columns: those that must be there.

    Raises:
        UserError: not a CSV file, without rows, or a column is missing.
    """
    for encoding in ("utf-8-sig", "latin-1"):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", pd.errors.ParserWarning)
                table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding, index_col=False)
            if caught:
                _refuse_surplus(path, encoding)
            break
        except UnicodeDecodeError:
            continue
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a CSV file") from error
        except (ValueError, pd.errors.ParserError) as error:
            raise UserError(f"{path}: not a CSV file ({' '.join(str(error).split())})") from error
    return checked(path, table, columns)


def _refuse_surplus(path: Path, encoding: str) -> None:
    """Pandas drops cells beyond the header with a warning; those of trailing commas are empty and may go."""
    with open(path, newline="", encoding=encoding) as file:
        rows = csv.reader(file)
        width = len(next(rows))
        for row in rows:
            if any(cell.strip() for cell in row[width:]):
                raise UserError(f"{path}: line {rows.line_num} has {len(row)} cells; expected {width}, as the header")


def read_xlsx(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """The first sheet of a workbook, as `read_csv` gives a CSV file.

    Raises:
        UserError: openpyxl is not installed, no workbook, without rows, or a column is missing.
    """
    try:
        import openpyxl  # noqa: F401 (what pandas reads workbooks with)
    except ImportError as error:
        raise UserError(
            f"{path}: reading workbooks needs openpyxl; install it with: pip install 'ecgjax[formats]'"
        ) from error
    try:
        table = pd.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
    except Exception as error:  # openpyxl raises all kinds of errors on damaged files.
        raise UserError(f"{path}: not an Excel workbook ({' '.join(str(error).split())})") from error
    return checked(path, table, columns)


def checked(path: Path, table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """`table` with stripped text in every cell.

    Raises:
        UserError: no rows, or one of `columns` is missing.
    """
    table = table.rename(columns=lambda name: str(name).strip())
    for column in columns:
        if column not in table:
            there = ", ".join(map(repr, table.columns[:20]))
            raise UserError(f"{path}: no column {column!r}; the columns are {there}")
    if not len(table):
        raise UserError(f"{path}: no rows; expected one per record")
    return table.fillna("").astype(str).apply(lambda column: column.str.strip()).reset_index(drop=True)


def numbers(path: Path, table: pd.DataFrame, column: str, *, required: bool = False) -> pd.Series:
    """A column of `read_csv` as float64, NaN where it is empty.

    Args:
        path: of the table, for the message.
        table: of `read_csv`.
        column: its name.
        required: whether empty cells are an error.

    Raises:
        UserError: a cell that is no finite number; its row (the header is row 1) and text are named.
    """
    cells = table[column]
    values = pd.to_numeric(cells.where(cells.str.lower() != "nan", ""), errors="coerce").astype(float)
    values = values.where(values.abs() != float("inf"))
    refuse(path, cells, values.isna() & (required | ~cells.str.lower().isin(("", "nan"))), "a number")
    return values


def unique(path: Path, table: pd.DataFrame, column: str) -> pd.Series:
    """A column of `read_csv` that names records.

    Raises:
        UserError: an empty or a repeated name.
    """
    cells = table[column]
    refuse(path, cells, (cells == "") | cells.duplicated(), "a unique name")
    return cells


def refuse(path: Path, cells: pd.Series, wrong: pd.Series, expected: str) -> None:
    """Refuses a table if any of its cells is wrong.

    Args:
        path: of the table, for the message.
        cells: a column of `read_csv`.
        wrong: whether each cell is.
        expected: in its place.

    Raises:
        UserError: the first wrong cell; its row (the header is row 1), column and text are named.
    """
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(f"{path}: row {row + 2}, column {cells.name!r} has {cells.iloc[row]!r}; expected {expected}")
