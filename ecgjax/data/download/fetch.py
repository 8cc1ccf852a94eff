"""Fetches the files of a data set, verifies and unpacks them: `--download`.

Everything can be interrupted and started again: what is complete is not fetched again, what was begun goes on.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ecgjax.data.download import archives, figshare, parallel, physionet, zenodo
from ecgjax.data.download.client import Client
from ecgjax.data.download.display import Display, in_words, say
from ecgjax.data.download.ledger import Ledger
from ecgjax.data.download.origins import Credentialed, Figshare, File, Origin, PhysioNet, Zenodo
from ecgjax.data.download.remote_file import RemoteFile, checked, safe_name
from ecgjax.data.download.transfer import download, verified
from ecgjax.errors import UserError, disk_errors

_SPARE = 256 << 20  # bytes of the disk that stay free


def fetch(
    origins: tuple[Origin, ...],
    raw: Path,
    *,
    console: Console,
    keep_archives: bool = False,
    threads: int = 8,
    client: Client | None = None,
) -> None:
    """Makes `raw` hold the files of `origins`, unpacked.

    Args:
        origins: where to get them.
        raw: folder to put them into; made if it is not there.
        console: for progress and messages.
        keep_archives: whether archives stay after they were unpacked.
        threads: files at once.
        client: fetches; a new one by default.

    Raises:
        UserError: something cannot be had; the same command goes on later. Or the data set needs credentials.
    """
    if not origins:
        raise UserError(f"{raw}: this data set has no address to download from; fetch it by hand")
    closed = [origin for origin in origins if isinstance(origin, Credentialed)]
    _explain(closed, raw, console)
    open_origins = [origin for origin in origins if not isinstance(origin, Credentialed)]
    if not open_origins:
        return
    client = client or Client()
    with Ledger(raw).opened() as ledger:
        try:
            _fetch(open_origins, ledger, console, keep_archives, threads, client)
        except UserError:
            # A list that names a missing or replaced file must not be believed for ever.
            ledger.drop_lists()
            raise


def _explain(closed: Sequence[Credentialed], raw: Path, console: Console) -> None:
    if not closed:
        return
    if raw.is_dir() and any(raw.iterdir()):
        say(console, f"{closed[0].url} needs credentials: nothing is fetched, {raw} is read as it is")
        return
    for origin in closed:
        say(console, f"{origin.url}: these data need an account and a signed agreement.")
        for number, step in enumerate(origin.steps, 1):
            say(console, f"  {number}. {step}")
    raise UserError(f"{raw}: {closed[0].url} needs credentials; follow the steps above, then run without --download")


def _fetch(
    origins: Sequence[Origin], ledger: Ledger, console: Console, keep_archives: bool, threads: int, client: Client
) -> None:
    files = _list(origins, ledger, client)
    by_name = {file.name: file for file in files}
    if len(by_name) < len(files):
        raise UserError(f"{ledger.raw}: two files of the data set have the same name; expected each once")
    bundles = [[by_name[name] for name in names] for names in archives.grouped(list(by_name))]
    finished = {file.name for bundle in bundles if ledger.unpacked(bundle[-1]) for file in bundle}
    missing = [file for file in files if file.name not in finished and not ledger.has(file)]
    _download(missing, files, origins, ledger, console, threads, client)
    for bundle in bundles:
        if bundle[-1].name not in finished:
            _unpack(bundle, ledger, console)
        for file in bundle:
            # An archive that somebody else put there is theirs.
            if not keep_archives and ledger.fetched(file):
                (ledger.raw / file.name).unlink(missing_ok=True)


def _list(origins: Sequence[Origin], ledger: Ledger, client: Client) -> list[RemoteFile]:
    files: list[RemoteFile] = []
    for origin in origins:
        listed = ledger.listed(origin)
        if listed is None:
            listed = list_files(origin, client)
            ledger.keep_list(origin, listed)
        files += listed
    return files


def list_files(origin: Origin, client: Client) -> list[RemoteFile]:
    """What an origin holds, as its publisher lists it.

    Raises:
        UserError: the list cannot be had or understood.
    """
    match origin:
        case PhysioNet():
            return physionet.list_files(origin, client)
        case Figshare():
            return figshare.list_files(origin, client)
        case Zenodo():
            return zenodo.list_files(origin, client)
        case File(url=url, name=name, size=size, sha256=sha256):
            checksum = checked(f"sha256:{sha256}" if sha256 else None, url)
            return [RemoteFile(url, safe_name(name, url), size, checksum)]
        case Credentialed():
            raise UserError(f"{origin.url}: needs credentials")


def _download(
    missing: list[RemoteFile],
    files: list[RemoteFile],
    origins: Sequence[Origin],
    ledger: Ledger,
    console: Console,
    threads: int,
    client: Client,
) -> None:
    known = sum(file.size or 0 for file in files)
    if not missing:
        say(console, f"download: all {len(files):,} files are there")
        return
    rough = sum(origin.size or 0 for origin in origins if isinstance(origin, PhysioNet))
    _check_space(missing, files, rough, ledger.raw)
    sizes = [file.size for file in missing]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    there = f", {len(files) - len(missing):,} are there" if len(missing) < len(files) else ""
    about = f" ({in_words(known)})" if known else ""
    say(console, f"download: {len(files):,} files{about} to {ledger.raw}{there}")
    with Display("download", console, len(missing), total) as display:

        def one(file: RemoteFile) -> None:
            target = ledger.raw / file.name
            try:
                found = verified(target, file)
                if found:
                    display.bytes(target.stat().st_size)
                else:
                    download(client, file, target, display.bytes)
            except OSError as error:
                raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
            ledger.add(file, fetched=not found)
            display.file()

        parallel.run(client, missing, one, threads)


def _check_space(missing: list[RemoteFile], files: list[RemoteFile], rough: int, raw: Path) -> None:
    needed = sum(file.size - _length(raw / f"{file.name}.part") for file in missing if file.size is not None)
    unsized = sum(file.size is None for file in files)
    if unsized:
        needed += rough * sum(file.size is None for file in missing) // unsized
    with disk_errors(raw):
        free = shutil.disk_usage(raw).free
    if needed + _SPARE > free:
        raise UserError(
            f"{raw}: the download needs {in_words(needed + _SPARE)}, {in_words(free)} are free; free space and start "
            "the same command again"
        )


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unpack(bundle: list[RemoteFile], ledger: Ledger, console: Console) -> None:
    """Unpacks into a folder of its own, then moves everything to its place beside the archive."""
    archive = bundle[-1]
    identity: list[Any] = [[file.name, file.size, file.checksum] for file in bundle]
    stage = ledger.folder / "unpack"
    note = stage / "of.json"
    if _read_json(note) != identity:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        note.write_text(json.dumps(identity), encoding="utf-8")
    parts = [ledger.raw / file.name for file in bundle]
    with disk_errors(ledger.raw), Display(f"unpack {archive.name}", console, 1, None) as display:
        files = archives.unpack(parts, stage / "files", display.bytes)
        place = (ledger.raw / archive.name).parent
        for top in sorted((stage / "files").iterdir()):
            _move(top, place / top.name)
        # All contents must be on the disk before the note says so.
        _sync()
        relative = place.relative_to(ledger.raw)
        ledger.add_unpacked(archive, [((relative / name).as_posix(), size) for name, size in files])
        shutil.rmtree(stage)
        display.file()


_sync: Callable[[], None] = getattr(os, "sync", lambda: None)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _move(source: Path, target: Path) -> None:
    """Moves a file or the contents of a folder over what is there."""
    if source.is_dir() and target.exists():
        if not target.is_dir():
            raise UserError(f"{target}: is in the way of a folder of the same name; move it away")
        for child in sorted(source.iterdir()):
            _move(child, target / child.name)
    elif target.is_dir():
        raise UserError(f"{target}: is in the way of a file of the same name; move it away")
    else:
        # A folder below raw may be a link to another disk, where renaming does not reach.
        shutil.move(source, target)
