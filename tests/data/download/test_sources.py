"""What the publishers' archives and lists become is what the sources accept: every open source, from a local server."""

import argparse
import dataclasses
import hashlib
import importlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ecgjax import prepare
from ecgjax.data import sources
from ecgjax.data.download import origins
from ecgjax.data.download.client import MIRROR_VARIABLE, Client
from ecgjax.data.download.fetch import fetch
from ecgjax.data.download.origins import File, Origin
from ecgjax.data.store import open_store
from tests.data.download.server import Server
from tests.data.download.test_archives import split_zip
from tests.data.sources import make_challenge, make_chapman, make_code, make_ptb, make_ptbxl, make_sph, make_zzu_pecg

WORKBOOK = "Label mappings 2021.xlsx"


def zipped(folder: Path, *names: str) -> bytes:
    """Files and folders below `folder` as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            for path in sorted([folder / name, *(folder / name).rglob("*")]):
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def ptbxl(server: Server, site: Path) -> tuple[Origin, ...]:
    make_ptbxl.make(site)
    server.physionet("ptb-xl", "1.0.3", site)
    shutil.rmtree(site / "records100")
    return origins.PTBXL


def ptb(server: Server, site: Path) -> tuple[Origin, ...]:
    make_ptb.make(site)
    server.physionet("ptbdb", "1.0.0", site)
    return origins.PTB


def ningbo(server: Server, site: Path) -> tuple[Origin, ...]:
    make_challenge.make_ningbo(site)
    book = next(site.rglob(WORKBOOK))
    content = book.read_bytes()
    book.rename(site.parent / WORKBOOK)
    server.physionet("challenge-2021", "1.0.3", site)
    server.physionet("challenge-2021", "1.0.3", site / "training" / "ningbo", "training/ningbo_other/")
    (site.parent / WORKBOOK).rename(book)
    listing, workbook = origins.NINGBO
    assert isinstance(workbook, File)
    server.add(workbook.url, content)
    # The miniature's workbook is another one.
    return listing, dataclasses.replace(workbook, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def chapman(server: Server, site: Path) -> tuple[Origin, ...]:
    make_chapman.make(site)
    files = {path.name: path.read_bytes() for path in site.glob("*.xlsx")}
    for name in ("AttributesDictionary", "ConditionNames", "RhythmNames"):
        files.setdefault(f"{name}.xlsx", b"")
    files |= {"ECGData.zip": zipped(site, "ECGData"), "ECGDataDenoised.zip": b"not wanted"}
    for number, (name, content) in enumerate(files.items(), 8360400):
        server.figshare(number, None, {name: content})
    server.figshare_collection(4560497, 2, list(range(8360400, 8360400 + len(files))))
    return origins.CHAPMAN


def sph(server: Server, site: Path) -> tuple[Origin, ...]:
    make_sph.make(site)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:  # not compressed, whatever its name says
        archive.add(site / "records", "records")
    server.figshare(17912441, 1, {"metadata.csv": (site / "metadata.csv").read_bytes()})
    server.figshare(17912507, 1, {"code.csv": (site / "code.csv").read_bytes()})
    server.figshare(17912444, 1, {"records.tar.gz": buffer.getvalue()})
    return origins.SPH


def zzu_pecg(server: Server, site: Path) -> tuple[Origin, ...]:
    make_zzu_pecg.make(site)
    whole = site.parent / "Child_ecg.zip"
    whole.write_bytes(zipped(site, "Child_ecg"))
    parts = split_zip(whole, [whole.stat().st_size // 2])
    files = {path.name: path.read_bytes() for path in [*site.glob("*.csv"), *parts]}
    server.figshare(27078763, 1, files)
    return origins.ZZU_PECG


def code15(server: Server, site: Path) -> tuple[Origin, ...]:
    make_code.make_code15(site)
    parts = {f"{path.stem}.zip": zipped(site, path.name) for path in sorted(site.glob("exams_part*.hdf5"))}
    assert len(parts) == 2
    server.zenodo(4916206, {"exams.csv": (site / "exams.csv").read_bytes(), **parts})
    return origins.CODE15


def code_test(server: Server, site: Path) -> tuple[Origin, ...]:
    make_code.make_code_test(site)
    server.zenodo(3765780, {"data.zip": zipped(site, "data")})
    return origins.CODE_TEST


PUBLISHERS: dict[str, Callable[[Server, Path], tuple[Origin, ...]]] = {
    "ptbxl": ptbxl,
    "ptb": ptb,
    "ningbo": ningbo,
    "chapman": chapman,
    "sph": sph,
    "zzu_pecg": zzu_pecg,
    "code15": code15,
    "code_test": code_test,
}


@pytest.mark.parametrize("name", PUBLISHERS)
def test_listing_accepts_what_was_downloaded(server: Server, client: Client, tmp_path: Path, name: str) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    addresses = PUBLISHERS[name](server, site)
    fetch(addresses, raw, console=Console(file=io.StringIO()), client=client)
    module = importlib.import_module(f"ecgjax.data.sources.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = argparse.Namespace(**vars(parser.parse_args([])), min_count=1, protocol="default", limit=None)
    found, expected = module.listing(raw, options), module.listing(site, options)
    assert list(found["record_id"]) == list(expected["record_id"])
    for ours, theirs in zip(found["key"], expected["key"], strict=True):
        assert (raw / ours.split("#")[0]).with_suffix("").name == (site / theirs.split("#")[0]).with_suffix("").name
    for ours, theirs in list(zip(found["key"], expected["key"], strict=True))[:3]:
        assert (module.read(raw, ours).signal == module.read(site, theirs).signal).all()


def test_every_source_has_its_origins() -> None:
    for name in ("ptbxl", "ptb", "sph", "chapman", "ningbo", "cpsc2018", "cpsc_extra", "georgia", "code15"):
        assert sources.load(name).FACTS.origins == getattr(origins, name.upper()), name
    for name in ("code_test", "echonext", "zzu_pecg", "mimic", "heedb"):
        assert sources.load(name).FACTS.origins == getattr(origins, name.upper()), name


def test_command_from_server_to_store(server: Server, tmp_path: Path, monkeypatch, capsys) -> None:
    """python -m ecgjax.prepare ptbxl --download, twice."""
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    ptbxl(server, site)
    pairs = " ".join(f"{prefix}={mirror}" for prefix, mirror in server.mirrors.items())
    monkeypatch.setenv(MIRROR_VARIABLE, pairs)
    for out in (tmp_path / "a", tmp_path / "b"):
        prepare.main(["ptbxl", f"--raw={raw}", f"--out={out}", "--download", "--min-count=1", "--workers=1"])
    store = open_store(tmp_path / "a")
    assert len(store.records) == 24
    assert "download: 50/50 files" in capsys.readouterr().err
    assert not server.fetched("records100")
    assert len(server.requests) == 24 * 2 + 2 + 1, "nothing twice"


def test_command_says_how_to_get_credentialed_data(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        prepare.main(["echonext", f"--raw={tmp_path / 'raw'}", f"--out={tmp_path / 'out'}", "--download"])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert "needs credentials" in lines[-1]
    assert any(line.strip().startswith("1. Make an account") for line in lines)


def test_command_keeps_archives_if_asked(server: Server, tmp_path: Path, monkeypatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    code_test(server, site)
    monkeypatch.setenv(MIRROR_VARIABLE, " ".join(f"{prefix}={mirror}" for prefix, mirror in server.mirrors.items()))
    for name, flags, kept in (("kept", ["--keep-archives"], True), ("plain", [], False)):
        raw = tmp_path / name
        prepare.main(
            ["code_test", f"--raw={raw}", f"--out={tmp_path}/store-{name}", "--download", "--workers=1", *flags]
        )
        assert (raw / "data.zip").exists() == kept


def test_the_page_about_data_names_every_source() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    for name in sources.names():
        if name not in ("folder", "synthetic"):
            assert page.count(f"`{name}`") >= 2, f"{name}: access and citation"
    for address in (*origins.ECHONEXT, *origins.MIMIC, *origins.HEEDB):
        assert address.url.split("/content/")[1] in page
    assert MIRROR_VARIABLE in page
