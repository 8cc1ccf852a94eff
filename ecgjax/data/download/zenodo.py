"""Files of a Zenodo record, from its API (https://developers.zenodo.org)."""

from typing import Any
from urllib.parse import quote

from ecgjax.data.download.client import Client
from ecgjax.data.download.json_answer import read_json
from ecgjax.data.download.origins import Zenodo
from ecgjax.data.download.remote_file import RemoteFile, checked, matching, safe_name, size_in_bytes
from ecgjax.errors import UserError

_API = "https://zenodo.org/api/records"


def list_files(origin: Zenodo, client: Client) -> list[RemoteFile]:
    """The record's files that the origin asks for.

    Raises:
        UserError: the list cannot be had or understood, or lacks a file.
    """
    url = f"{_API}/{origin.record}"
    return matching(parse_record(read_json(client, url), url), origin.files, url)


def parse_record(answer: Any, source: str) -> list[RemoteFile]:
    """The files of the API's answer.

    Raises:
        UserError: the answer, or a file's name, size or checksum is malformed.
    """
    entries = answer.get("files") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{source}: no list of files; expected an open record")
    files = []
    for entry in entries:
        name = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise UserError(f"{source}: a file without key; expected its name")
        where = f"{source}: {ascii(name)[:100]}"
        checksum = entry.get("checksum")
        if not isinstance(checksum, (str, type(None))):
            raise UserError(f"{where}: checksum is no text; expected md5:HEX")
        links = entry.get("links")
        address = links.get("self") if isinstance(links, dict) else None
        if not isinstance(address, str):
            address = f"{source}/files/{quote(name)}/content"
        files.append(
            RemoteFile(
                address, safe_name(name, source), size_in_bytes(entry.get("size"), where), checked(checksum, where)
            )
        )
    return files
