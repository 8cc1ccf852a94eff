"""Files of a figshare article or collection, from its API (https://docs.figshare.com, version 2)."""

from typing import Any

from ecgjax.data.download.client import Client
from ecgjax.data.download.json_answer import read_json
from ecgjax.data.download.origins import Figshare
from ecgjax.data.download.remote_file import RemoteFile, checked, matching, safe_name, size_in_bytes
from ecgjax.errors import UserError

_API = "https://api.figshare.com/v2"
_PAGE = 100
_MOST_PAGES = 100


def list_files(origin: Figshare, client: Client) -> list[RemoteFile]:
    """The files that the origin asks for.

    The API lists a collection's articles as they are now; `origin.version` is then only compared.

    Raises:
        UserError: the list cannot be had or understood, or lacks a file.
    """
    if origin.article is not None:
        version = "" if origin.version is None else f"/versions/{origin.version}"
        url = f"{_API}/articles/{origin.article}{version}"
        return matching(_article(url, client), origin.files, url)
    url = f"{_API}/collections/{origin.collection}"
    _check_version(origin, url, client)
    files: dict[str, RemoteFile] = {}
    for article in _pages(f"{url}/articles", client):
        number = article.get("id")
        if isinstance(number, bool) or not isinstance(number, int):
            raise UserError(f"{url}: an article without number; expected the list of the collection's articles")
        for file in _article(f"{_API}/articles/{number}", client):
            if files.setdefault(file.name, file) != file:
                raise UserError(f"{url}: two files are called {file.name}; expected one")
    return matching(files.values(), origin.files, url)


def _check_version(origin: Figshare, url: str, client: Client) -> None:
    answer = read_json(client, url)
    found = answer.get("version") if isinstance(answer, dict) else None
    if origin.version is not None and found != origin.version:
        raise UserError(f"{url}: version {ascii(found)[:20]} is now published; expected {origin.version}")


def _article(url: str, client: Client) -> list[RemoteFile]:
    return [file for entry in _pages(f"{url}/files", client) if (file := parse_file(entry, url)) is not None]


def parse_file(entry: dict[str, Any], source: str) -> RemoteFile | None:
    """A file of the API's list; None for a mere link to another site.

    Raises:
        UserError: name, address, size or MD5 are missing or malformed.
    """
    if entry.get("is_link_only"):
        return None
    name, address = entry.get("name"), entry.get("download_url")
    if not isinstance(name, str) or not isinstance(address, str):
        raise UserError(f"{source}: a file without name or download_url; expected both")
    md5 = entry.get("computed_md5") or entry.get("supplied_md5")
    where = f"{source}: {ascii(name)[:100]}"
    checksum = checked(f"md5:{md5}" if md5 else None, where)
    return RemoteFile(address, safe_name(name, source), size_in_bytes(entry.get("size"), where), checksum)


def _pages(url: str, client: Client) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for page in range(1, _MOST_PAGES + 1):
        answer = read_json(client, f"{url}?page={page}&page_size={_PAGE}")
        if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
            raise UserError(f"{url}: page {page} is no list of objects")
        entries += answer
        if len(answer) < _PAGE:
            return entries
    raise UserError(f"{url}: more than {_MOST_PAGES * _PAGE} entries")
