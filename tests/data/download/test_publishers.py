"""Lists of files as PhysioNet, figshare and Zenodo give them, and garbled ones."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.download import figshare, origins, physionet, zenodo
from ecgjax.data.download.fetch import list_files
from ecgjax.data.download.origins import Figshare, File, PhysioNet, Zenodo
from ecgjax.data.download.remote_file import RemoteFile, checked, matching, safe_name, size_in_bytes
from ecgjax.errors import UserError

DIGEST = "ab" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["files", "key", "size", "checksum", "links", "self", "name", "download_url", "computed_md5", "x"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def test_checksums() -> None:
    text = f"{DIGEST} RECORDS\n{'0' * 64}  a/b c.dat\r\n\n{'F' * 64} *./x.hea\n"
    expected = {"RECORDS": DIGEST, "a/b c.dat": "0" * 64, "x.hea": "f" * 64}
    assert physionet.parse_checksums(text.encode(), "S") == expected
    assert physionet.parse_checksums(b"", "S") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"<html>maintenance</html>", r"S: line 1 is '<html>maintenance</html>'; expected 'SHA256 PATH'"),
        (DIGEST.encode() + b" a\nabc b\n", "S: line 2 is 'abc b'"),
        (DIGEST.encode() + b" ../a\n", r"S: line 1: unsafe file name '../a'"),
        (DIGEST.encode() + b" /etc/passwd\n", "unsafe file name"),
        (DIGEST.encode() + b" a\n" + b"0" * 64 + b" a\n", "S: line 2 gives 'a' a second checksum"),
        (b"\xff\xfe", "S: byte 0 is not UTF-8"),
    ],
)
def test_garbled_checksums(text: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        physionet.parse_checksums(text, "S")


def attempt(parse, *arguments) -> list | dict | None:
    """What it makes of it; None after an error, which must have one line."""
    try:
        return parse(*arguments)
    except UserError as error:
        assert "\n" not in str(error), repr(error)  # noqa: PT017
        return None


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"{DIGEST} {text}".encode()))
def test_fuzz_checksums(content: bytes) -> None:
    for name in attempt(physionet.parse_checksums, content, "S") or {}:
        assert Path("/r", name).resolve().is_relative_to("/r")
        assert name != "."


@settings(max_examples=100, deadline=None)
@given(answer=JSON | st.fixed_dictionaries({"files": st.lists(JSON, max_size=3)}))
def test_fuzz_zenodo(answer: object) -> None:
    for file in attempt(zenodo.parse_record, answer, "S") or []:
        assert isinstance(file, RemoteFile)
        assert safe_name(file.name, "S") == file.name


@settings(max_examples=100, deadline=None)
@given(
    entry=st.dictionaries(
        st.sampled_from(["name", "download_url", "size", "computed_md5", "supplied_md5", "is_link_only"]), JSON
    )
)
def test_fuzz_figshare(entry: dict) -> None:
    file = attempt(figshare.parse_file, entry, "S")
    assert file is None or safe_name(file.name, "S") == file.name


def test_names_sizes_checksums() -> None:
    assert safe_name("./a//b", "S") == "a/b"
    assert safe_name("Label mappings 2021.xlsx", "S") == "Label mappings 2021.xlsx"
    for bad in ("", ".", "..", "a/../../b", "/a", "\\a", "C:x", "a\nb", "\ud800", ".download/complete.jsonl"):
        with pytest.raises(UserError, match="S: unsafe file name"):
            safe_name(bad, "S")
    assert checked("MD5:" + "A" * 32, "S") == "md5:" + "a" * 32
    assert checked("", "S") is None
    for bad in ("md5:abc", "crc:00", DIGEST, "sha256:" + "g" * 64):
        with pytest.raises(UserError, match="S: checksum"):
            checked(bad, "S")
    assert (size_in_bytes(5, "S"), size_in_bytes(None, "S")) == (5, None)
    for bad in (-1, 1.5, True, "5"):
        with pytest.raises(UserError, match="S: size"):
            size_in_bytes(bad, "S")


def test_patterns() -> None:
    files = [RemoteFile("u", name) for name in ("a.csv", "records500/0/x.hea", "records100/0/x.hea")]
    assert [file.name for file in matching(files, ("records500/*", "*.csv"), "S")] == ["records500/0/x.hea", "a.csv"]
    with pytest.raises(UserError, match=r"S: none of its 3 files is called b.csv; has the publisher moved it\?"):
        matching(files, ("a.csv", "b.csv"), "S")


def test_physionet(server, client, tmp_path) -> None:
    for name in ("RECORDS", "training/ningbo/g1/JS1.hea", "training/ningbo_more/x", "training/georgia/g1/E1.hea"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    server.physionet("challenge-2021", "1.0.3", tmp_path)
    origin = PhysioNet("challenge-2021", "1.0.3", ("training/ningbo/*",), "training/ningbo")
    (file,) = list_files(origin, client)
    assert file == RemoteFile(
        "https://physionet.org/files/challenge-2021/1.0.3/training/ningbo/g1/JS1.hea",
        "g1/JS1.hea",
        None,
        "sha256:" + hashlib.sha256(b"training/ningbo/g1/JS1.hea").hexdigest(),
    )


def test_figshare_collection_of_many_pages(server, client) -> None:
    articles = list(range(1000, 1250))
    for article in articles:
        server.figshare(article, None, {f"{article}.csv": b"x" * (article - 999)})
    server.figshare_collection(7, 2, articles)
    files = list_files(Figshare(collection=7, version=2), client)
    assert [file.name for file in files] == [f"{article}.csv" for article in articles]
    assert files[1].url == "https://ndownloader.figshare.com/files/100100"
    assert (files[1].size, files[1].checksum) == (2, "md5:" + hashlib.md5(b"xx").hexdigest())
    with pytest.raises(UserError, match="collections/7: version 2 is now published; expected 1"):
        list_files(Figshare(collection=7, version=1), client)


def test_figshare_article_of_many_files_and_links(server, client) -> None:
    server.figshare(5, 3, {f"{i:03d}": b"" for i in range(100)})
    more = [{"name": "elsewhere", "is_link_only": True}, {"name": "last", "download_url": "https://x/y", "size": 3}]
    server.add(
        "https://api.figshare.com/v2/articles/5/versions/3/files?page=2&page_size=100", json.dumps(more).encode()
    )
    files = list_files(Figshare(article=5, version=3), client)
    assert len(files) == 101
    assert files[-1] == RemoteFile("https://x/y", "last", 3, None)


def test_zenodo(server, client) -> None:
    server.zenodo(9, {"exams.csv": b"e", "exams_part0.zip": b"zip", "other.txt": b""})
    files = list_files(Zenodo(9, ("exams.csv", "exams_part*.zip")), client)
    assert files == [
        RemoteFile(
            f"https://zenodo.org/api/records/9/files/{name}/content", name, len(content),
            "md5:" + hashlib.md5(content).hexdigest(),
        )
        for name, content in (("exams.csv", b"e"), ("exams_part0.zip", b"zip"))
    ]  # fmt: skip
    assert zenodo.parse_record({"files": [{"key": "a b"}]}, "https://zenodo.org/api/records/9") == [
        RemoteFile("https://zenodo.org/api/records/9/files/a%20b/content", "a b")
    ]


@pytest.mark.parametrize(
    "content", [b"<html>", b"[1]", b"{}", b"[" * 100_000, b"\xff", b'{"files": [{"key": "../x"}]}']
)
def test_answers_that_are_none(server, client, content) -> None:
    server.add("https://zenodo.org/api/records/9", content)
    with pytest.raises(UserError, match=r"zenodo.org/api/records/9: "):
        list_files(Zenodo(9), client)
    server.add("https://api.figshare.com/v2/articles/5/files?page=1&page_size=100", content)
    with pytest.raises(UserError, match=r"api.figshare.com/v2/articles/5/files"):
        list_files(Figshare(article=5), client)


def test_a_list_without_end(server, client, monkeypatch) -> None:
    monkeypatch.setattr(physionet, "_LONGEST_LIST", 1000)
    server.add("https://physionet.org/files/p/1/SHA256SUMS.txt", b"0" * 100_000)
    with pytest.raises(UserError, match=r"SHA256SUMS.txt: longer than 1,000 bytes"):
        list_files(PhysioNet("p", "1"), client)


def test_origins_of_the_sources() -> None:
    """Each source has its address; the wanted files follow the names of the layouts in the documentation."""
    named = {name: value for name, value in vars(origins).items() if name.isupper() and not name.startswith("_")}
    assert set(named) == {
        *("PTBXL", "PTB", "SPH", "CHAPMAN", "NINGBO", "CPSC2018", "CPSC_EXTRA", "GEORGIA", "CODE15", "CODE_TEST"),
        *("ECHONEXT", "ZZU_PECG", "MIMIC", "HEEDB"),
    }
    (workbook,) = [origin for origin in origins.NINGBO if isinstance(origin, File)]
    assert workbook.url.startswith("https://raw.githubusercontent.com/")
    assert workbook.name == "Label mappings 2021.xlsx"
    for name in ("ECHONEXT", "MIMIC", "HEEDB"):
        (origin,) = named[name]
        assert origin.url.startswith("https://")
        assert len(origin.steps) >= 3
