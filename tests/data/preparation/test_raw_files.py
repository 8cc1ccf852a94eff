"""Finding a publisher's files, and his tables read as text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.preparation import raw_files
from ecgjax.errors import UserError


def test_a_file_is_found_in_the_folder_or_two_below(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "x.csv"
    deep.parent.mkdir(parents=True)
    deep.touch()
    assert raw_files.find(tmp_path, "x.csv", what="a list") == deep
    assert raw_files.key(tmp_path, deep) == "a/b/x.csv"
    (tmp_path / "x.csv").touch()
    assert raw_files.find(tmp_path, "x.csv", what="a list") == tmp_path / "x.csv"


def test_two_of_a_name_none_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no x\.csv \(a list\)"):
        raw_files.find(tmp_path, "x.csv", what="a list")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").touch()
    with pytest.raises(UserError, match="there are two of x"):
        raw_files.find(tmp_path, "x.csv", what="a list")
    with pytest.raises(UserError, match="no such folder"):
        raw_files.find(tmp_path / "none", "x.csv", what="a list")


def test_cells_are_stripped_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\ufeffa, b\r\n001, NA \r\n,nan\r\n".encode())
    table = raw_files.read_csv(path, ("a", "b"))
    assert table.to_dict("list") == {"a": ["001", ""], "b": ["NA", "nan"]}
    path.write_bytes("a\nfähig\n".encode("latin-1"))
    assert raw_files.read_csv(path)["a"].tolist() == ["fähig"]


def test_numbers_and_names_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,n\nr1,1\nr2,nan\nr3,\nr3,2.5\n,inf\n")
    table = raw_files.read_csv(path)
    assert raw_files.numbers(path, table[:4], "n").fillna(-1).tolist() == [1, -1, -1, 2.5]
    with pytest.raises(UserError, match="row 6, column 'n' has 'inf'; expected a number"):
        raw_files.numbers(path, table, "n")
    with pytest.raises(UserError, match="row 3, column 'n' has 'nan'"):
        raw_files.numbers(path, table, "n", required=True)
    with pytest.raises(UserError, match="row 5, column 'id' has 'r3'; expected a unique name"):
        raw_files.unique(path, table, "id")


@pytest.mark.parametrize(("text", "message"), [("", "not a CSV file"), ("a\n", "no rows"), ("b\n1\n", "no column 'a'")])
def test_other_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        raw_files.read_csv(path, ("a",))
    with pytest.raises(UserError, match="cannot be read"):
        raw_files.read_csv(tmp_path / "none.csv")


def test_cells_beyond_the_header_are_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2,\n3,4,\n")
    assert raw_files.read_csv(path)["b"].tolist() == ["2", "4"]
    path.write_text("a,b\n1,2\n3,4,5\n")
    with pytest.raises(UserError, match="Expected 2 fields in line 3"):
        raw_files.read_csv(path)
    path.write_text("a,b\n1,2,9\n3,4,5\n")
    with pytest.raises(UserError, match="line 2 has 3 cells; expected 2, as the header"):
        raw_files.read_csv(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.csv"
    path.write_bytes(content)
    try:
        table = raw_files.read_csv(path)
    except UserError:
        return
    assert all(isinstance(cell, str) for column in table for cell in table[column])
