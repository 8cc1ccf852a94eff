"""Hostile XML: nothing is expanded, fetched or kept without bounds."""

import socket
import time
import tracemalloc

import numpy as np
import pytest

from ecgjax.data import readers_xml
from ecgjax.data.readers_xml import age_in_years, numbers, parse, root_name, sex
from ecgjax.errors import UserError

pytest.importorskip("defusedxml", reason="the extra 'formats' is not installed")


def refused(path, content, message):
    path.write_text(content, encoding="utf-8")
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(UserError, match=message) as caught:
        parse(path, "a test")
    assert time.perf_counter() - began < 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert "\n" not in str(caught.value)


def test_billion_laughs(tmp_path):
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<!DOCTYPE r [<!ENTITY l0 "lol">{entities}]><r>&l9;</r>'
    refused(tmp_path / "x.xml", bomb, "declares entities")
    assert root_name(tmp_path / "x.xml") is None


def test_external_entities_and_document_types(tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", forbidden)
    (tmp_path / "secret.txt").write_text("secret")
    for kind in ("", "% "):
        declaration = f'<!ENTITY {kind}e SYSTEM "file://{tmp_path}/secret.txt">'
        refused(tmp_path / "x.xml", f"<!DOCTYPE r [{declaration}]><r></r>", "declares entities")
    for source in (
        'SYSTEM "http://127.0.0.1/x.dtd"',
        f'SYSTEM "file://{tmp_path}/secret.txt"',
        'PUBLIC "a" "http://b/"',
    ):
        (tmp_path / "y.xml").write_text(f"<!DOCTYPE r {source}><r><a>1</a></r>")
        assert parse(tmp_path / "y.xml", "a test").findtext("a") == "1"
        assert root_name(tmp_path / "y.xml") == "r"


def test_too_many_elements_levels_attributes_and_bytes(tmp_path, monkeypatch):
    refused(tmp_path / "x.xml", "<r>" + "<a/>" * (readers_xml.MOST_ELEMENTS + 1) + "</r>", "more than 200000 elements")
    refused(tmp_path / "x.xml", "<r>" * 1000, "more than 200000 elements or 100 levels")
    attributes = "".join(f' a{i}=""' for i in range(200_000))
    refused(tmp_path / "x.xml", f"<r{attributes}></r>", "a tag of more than 1048576 bytes")
    monkeypatch.setattr(readers_xml, "LARGEST_FILE", 100)
    refused(tmp_path / "x.xml", "<r>" + " " * 100 + "</r>", "107 bytes; expected a test of at most 100")


def test_namespaces_comments_and_leading_blanks(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text('\n <!-- <no> -->\n<?pi?><p:r xmlns:p="urn:a" p:k="v"><p:a> b \n c </p:a></p:r>')
    assert root_name(path) == "r"
    root = parse(path, "a test")
    assert (root.tag, root.attrib) == ("r", {"k": "v"})
    assert readers_xml.text(root, "a") == "b c"
    for content in (b"", b"<", b"<r", b"no", b"\xff\xfe<", b"<?xml version='1.0' encoding='nonsense'?><r/>"):
        path.write_bytes(content)
        assert root_name(path) is None
        with pytest.raises(UserError, match="damaged or not a test"):
            parse(path, "a test")


def test_numbers():
    values = np.random.default_rng(0).integers(-32768, 32768, 100_000)
    np.testing.assert_array_equal(numbers("\n".join(map(str, values)), None, "x"), values)
    np.testing.assert_array_equal(numbers(" " + " ,\n".join(map(str, values)) + ", \n", ",", "x"), values)
    assert numbers("", None, "x").size == 0
    for text, separator in (("1 two 3", None), ("1,,3", ","), ("1 nan", None), ("1e999", None), ("1 2", ",")):
        with pytest.raises(UserError, match=r"x: .*expected numbers"):
            numbers(text, separator, "x")


def test_ages_and_sexes():
    assert age_in_years("18", "MONTHS") == 1.5
    assert age_in_years("50", "") == age_in_years("50", "Years") == 50
    assert [age_in_years("7", unit) is not None for unit in ("weeks", "DAYS", "Hours", "eons")] == [True] * 3 + [False]
    assert age_in_years("-1", "YEARS") is age_in_years("old", "YEARS") is age_in_years("151", "YEARS") is None
    assert [sex(word) for word in ("M", "Female ", "MALE", "UNKNOWN", "")] == ["male", "female", "male", None, None]
