"""The Challenge's workbook "Label mappings 2021.xlsx": names of SNOMED CT codes, one sheet per cohort.

Its quirks, which `read` takes as the benchmark does: codes are stored as floating numbers; some rows have a name but no
code (dropped); some codes have several names (the first counts); some names have several codes. Blanks around names,
also the non-breaking one, are stripped.
"""

import re
from functools import lru_cache
from pathlib import Path

from ecgjax.errors import UserError

NAME = "Label mappings 2021.xlsx"
_COLUMNS = ("Diagnosis in the dataset", "SNOMED code")
_WHOLE = re.compile(r"0*([0-9]+)(?:\.0*)?")
_LEVELS_ABOVE = 3


def find(raw: Path, *, cohort_folders: tuple[str, ...] = ()) -> Path:
    """The workbook in `raw`, in training/ or a cohort's folder below it, or up to three folders above `raw`.

    Raises:
        UserError: it is in none of them.
    """
    below = [raw / "training" / name for name in cohort_folders] + [raw / name for name in cohort_folders]
    places = [raw, raw / "training", *below, *raw.absolute().parents[:_LEVELS_ABOVE]]
    for place in places:
        if (place / NAME).is_file():
            return place / NAME
    nested = sorted(path for pattern in ("*", "*/*") for path in raw.glob(f"{pattern}/{NAME}"))
    if nested:
        return nested[0]
    raise UserError(
        f"{raw / NAME}: no such file, nor further up; expected the workbook of diagnosis names to which the page of "
        "the Challenge links (--download fetches it; --mapping=FILE says where it is)"
    )


def code(text: object) -> str:
    """A code as text: "67741000119109" of 67741000119109.0, also where it is a number; other text as it is."""
    written = f"{text:.0f}" if isinstance(text, float) and text.is_integer() else str(text).strip()
    whole = _WHOLE.fullmatch(written)
    return whole[1] if whole else written


def read(path: Path, sheet: str) -> dict[str, str]:
    """Name by code of one sheet.

    Raises:
        UserError: not a workbook, no such sheet, a column missing, or a code that is no whole number.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the Challenge's {NAME!r}")
    try:
        rows = _rows(path, sheet, path.stat().st_mtime_ns)
    except UserError:
        raise
    except Exception as error:  # openpyxl passes on what zipfile, the XML parser and its own checks raise.
        raise UserError(f"{path}: not a workbook ({' '.join(str(error).split())}); expected {NAME!r}") from error
    header = [str(value).strip() if value is not None else "" for value in (rows[0] if rows else ())]
    for column in _COLUMNS:
        if column not in header:
            raise UserError(
                f"{path}: sheet {sheet!r} has no column {column!r}; it has {', '.join(map(repr, header[:5]))}"
            )
    at_name, at_code = (header.index(column) for column in _COLUMNS)
    names: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        # Rows are as long as their last filled cell.
        cells = (*row, *[None] * len(header))
        name = "" if cells[at_name] is None else str(cells[at_name]).strip()
        text = "" if cells[at_code] is None else code(cells[at_code])
        if not text or text.lower() == "nan":
            continue
        if not text.isdecimal():
            raise UserError(f"{path}: sheet {sheet!r}, row {number} has code {text!r}; expected a whole number")
        if not name:
            raise UserError(f"{path}: sheet {sheet!r}, row {number} has code {text} without a name; expected one")
        names.setdefault(text, name)
    if not names:
        raise UserError(f"{path}: sheet {sheet!r} has no codes; expected one per diagnosis")
    return names


@lru_cache(maxsize=8)
def _rows(path: Path, sheet: str, modified: int) -> tuple[tuple[object, ...], ...]:
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"{path}: reading workbooks needs openpyxl; install it with: pip install 'ecgjax[formats]'"
        ) from error
    workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        if sheet not in workbook.sheetnames:
            there = ", ".join(map(repr, workbook.sheetnames[:12]))
            raise UserError(f"{path}: no sheet {sheet!r}; expected the Challenge's workbook, this one has {there}")
        return tuple(tuple(row) for row in workbook[sheet].iter_rows(values_only=True))
    finally:
        workbook.close()
