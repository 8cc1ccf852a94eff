"""Files of a PhysioNet project, from its list of checksums."""

import re
from urllib.parse import quote

from ecgjax.data.download.client import Client
from ecgjax.data.download.origins import PhysioNet
from ecgjax.data.download.remote_file import RemoteFile, matching, safe_name
from ecgjax.errors import UserError

_BASE = "https://physionet.org/files"
_LONGEST_LIST = 512 << 20  # bytes; the Challenge's has some 20 MB
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*?)\s*")


def list_files(origin: PhysioNet, client: Client) -> list[RemoteFile]:
    """The project's files that the origin asks for.

    Raises:
        UserError: the list cannot be had or understood, or lacks a file.
    """
    project = f"{_BASE}/{origin.project}/{origin.version}"
    url = f"{project}/SHA256SUMS.txt"
    checksums = parse_checksums(client.read(url, _LONGEST_LIST), url)
    files = [RemoteFile(f"{project}/{quote(name)}", name, None, f"sha256:{value}") for name, value in checksums.items()]
    return [
        RemoteFile(file.url, _without(file.name, origin.flatten), file.size, file.checksum)
        for file in matching(files, origin.files, url)
    ]


def parse_checksums(content: bytes, source: str) -> dict[str, str]:
    """Path -> SHA-256 of the lines "HASH PATH" of a SHA256SUMS.txt.

    Raises:
        UserError: a line is none, or a path has two checksums.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: byte {error.start} is not UTF-8; expected lines 'SHA256 PATH'") from error
    checksums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{source}: line {number} is {line[:80]!a}; expected 'SHA256 PATH'")
        name, value = safe_name(match[2], f"{source}: line {number}"), match[1].lower()
        if checksums.setdefault(name, value) != value:
            raise UserError(f"{source}: line {number} gives {name!a} a second checksum")
    return checksums


def _without(name: str, folder: str) -> str:
    return name.removeprefix(f"{folder.strip('/')}/") if folder else name
