"""Markdown tables, read back."""

from hypothesis import given
from hypothesis import strategies as st

from ecgjax.reporting.markdown import escaped, table

CELL = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=6)


def test_a_table() -> None:
    lines = table(["model", "", "AUROC"], [["S4", "a", "0.9"], ["ECG-CPC"]], "llr")
    assert lines == ["| model | | AUROC |", "|---|---|---:|", "| S4 | a | 0.9 |", "| ECG-CPC | | |"]


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=4))
def test_escaped_cells_stay_in_their_columns(rows: list[list[str]]) -> None:
    for line, row in zip(table(["a", "b", "c"], [[escaped(x) for x in row] for row in rows])[2:], rows, strict=True):
        cells, cell, characters = [], "", iter(line[1:])
        for c in characters:
            if c == "\\":
                cell += next(characters)
            elif c == "|":
                cells.append(cell.strip())
                cell = ""
            else:
                cell += c
        assert cells == row
