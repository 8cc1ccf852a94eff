"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

_RULES = {"l": "---", "r": "---:"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "lr") -> list[str]:
    """The lines of a table; cells that a row lacks at its end are empty.

    Args:
        head: names of the columns.
        rows: cells of each row, as Markdown (see `escaped`).
        align: a letter for each column, "l" or "r"; the last one counts for all that follow.
    """
    columns = len(head)
    letters = (align + align[-1] * columns)[:columns]
    lines = [_line(head), f"|{'|'.join(_RULES[letter] for letter in letters)}|"]
    return lines + [_line([*row, *[""] * (columns - len(row))]) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def escaped(text: str) -> str:
    """A text that reads as it is, in a cell too."""
    return "".join(f"\\{c}" if c in "\\|*_<>`[]" else c for c in text)
