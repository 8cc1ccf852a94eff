"""From a source to a store: lists, reads in parallel, labels, checks, and goes on after a kill where it was.

The listing is cut into shards; each is read and written by one process (`shards`). What a shard holds depends on the
listing alone, so the store's bytes are the same for any number of workers and however often the work was interrupted.
The signals never pass through this process; its memory grows with the index only.

What stops a preparation (an input error, too many unusable records, a full disk, Ctrl-C, a kill) leaves no store, but
the shards that are done stay in the hidden folder beside it (`workplace`), and the same command goes on from there.
Options that concern labels, folds and limits of rejection may be changed meanwhile; those that shape the signals not.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ecgjax
from ecgjax.data import sources
from ecgjax.data.preparation import options as options_module
from ecgjax.data.preparation.assembly import assemble
from ecgjax.data.preparation.folds_file import read_folds
from ecgjax.data.preparation.reading import read_records
from ecgjax.data.preparation.source import Facts, Source
from ecgjax.data.preparation.table import check_listing
from ecgjax.data.preparation.workplace import Workplace
from ecgjax.data.store_files import publish
from ecgjax.errors import UserError, disk_errors


def prepare_store(name: str, out: Path, *, wait: bool = False, **given: Any) -> Path:
    """Prepares a store from Python, see `prepare`.

    Args:
        name: of the source.
        out: where the store goes.
        wait: for another process that prepares the same store; then it is there already, which is an error too.
        **given: as on the command line, e.g. raw=Path("ptb-xl"), min_count=1; all others have their defaults.
    """
    parser = options_module.parser(sources.load(name))
    defaults = {action.dest: action.default for action in parser._actions if action.dest != "help"}
    unknown = set(given) - set(defaults) - {"raw", "download"}
    if unknown:
        raise UserError(f"source {name!r} has no option {sorted(unknown)[0]!r}; expected {', '.join(defaults)}")
    return prepare(name, argparse.Namespace(**{**defaults, "raw": None, "download": False, "out": out, **given}), wait)


def prepare(name: str, options: argparse.Namespace, wait: bool = False) -> Path:
    """Prepares a store.

    Args:
        name: of the source, see `sources.load`.
        options: as `options.parser` of it parses them.
        wait: see `prepare_store`.

    Returns:
        Where the store is.

    Raises:
        UserError: whatever is wrong with the options, the raw files, too many of the records, or the disk.
    """
    source = sources.load(name)
    facts, options = source.FACTS, options_module.complete(source.FACTS, options)
    with Workplace(options.out, wait=wait) as place:
        options.work = place.source
        if options.download:
            _download(facts, options.raw, options.keep_archives)
        listing = _listing(source, options)
        folds = None if options.folds is None else read_folds(options.folds, listing["record_id"])
        place.agree(_plan(facts, options, listing))
        read_records(name, facts, options, place, listing)
        with disk_errors(options.out):
            assemble(source, options, place, listing, folds)
            publish(place.store, place.out)
    return place.out


def _download(facts: Facts, raw: Path, keep_archives: bool) -> None:
    from rich.console import Console

    from ecgjax.data.download.fetch import fetch

    fetch(facts.origins, raw, console=Console(stderr=True), keep_archives=keep_archives)


def _listing(source: Source, options: argparse.Namespace) -> pd.DataFrame:
    listing = check_listing(source.listing(options.raw, options), f"source {source.FACTS.name!r}")
    if options.limit is not None and options.limit < len(listing):
        rows = np.linspace(0, len(listing) - 1, options.limit).round().astype(int)
        listing = listing.iloc[rows].reset_index(drop=True)
    return listing


def _plan(facts: Facts, options: argparse.Namespace, listing: pd.DataFrame) -> dict[str, Any]:
    """All that determines the shards."""
    digest = hashlib.sha256()
    for name, key in zip(listing["record_id"], listing["key"], strict=True):
        digest.update(json.dumps([name, key]).encode())
    return {
        "source": facts.name,
        "source version": facts.version,
        "ecgjax version": ecgjax.__version__,
        "--raw": None if options.raw is None else str(options.raw.resolve()),
        "--dtype": options.dtype,
        "--rate": options.rate,
        "number of records": len(listing),
        "list of records": digest.hexdigest(),
        "records to skip": list(facts.skip),
    }
