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
from ecgjax.data.preparation import shards, workers
from ecgjax.data.preparation.assembly import assemble, rejected_csv
from ecgjax.data.preparation.progress import ReadingProgress
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
    parser = options_module.parser(name)
    defaults = {action.dest: action.default for action in parser._actions if action.dest != "help"}
    unknown = set(given) - set(defaults) - {"raw", "download"}
    if unknown:
        raise UserError(f"source {name!r} has no option {sorted(unknown)[0]!r}; expected {', '.join(defaults)}")
    return prepare(name, argparse.Namespace(**{**defaults, "raw": None, "download": False, "out": out, **given}), wait)


def prepare(name: str, options: argparse.Namespace, wait: bool = False) -> Path:
    """Prepares a store.

    Args:
        name: of the source.
        options: as `options.parser(name)` parses them.
        wait: see `prepare_store`.

    Returns:
        Where the store is.

    Raises:
        UserError: whatever is wrong with the options, the raw files, too many of the records, or the disk.
    """
    source, options = sources.load(name), options_module.complete(name, options)
    facts: Facts = source.FACTS
    with Workplace(options.out, wait=wait) as place:
        options.work = place.source
        if options.download:
            _download(facts, options.raw, options.keep_archives)
        listing = _listing(source, options)
        folds = None if options.folds is None else _read_folds(options.folds, listing)
        place.agree(_plan(facts, options, listing))
        _read(name, source, options, place, listing)
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


def _read(
    source_name: str, source: Source, options: argparse.Namespace, place: Workplace, listing: pd.DataFrame
) -> None:
    """Writes the shards that are not there yet."""
    facts = source.FACTS
    size = shards.records_per_shard(len(listing))
    rejected: dict[int, tuple[str, str]] = {}
    first: tuple[str, float] | None = None
    jobs: list[shards.Job] = []
    done = 0

    def reject(row: int, name: str, reason: str) -> None:
        rejected[row] = name, reason

    def same_rate(name: str | None, rate: float | None) -> None:
        nonlocal first
        if name is None or rate is None:
            return
        first = first or (name, rate)
        if rate != first[1]:
            raise shards.different_rates(*first, name, rate)

    for number, begin in enumerate(range(0, len(listing), size)):
        part = listing.iloc[begin : begin + size]
        manifest = shards.read_manifest(place.manifests / f"{number:05d}.json", place.store)
        if manifest is not None:
            done += len(part)
            same_rate(manifest["first"], manifest["sampling_rate"])
            for row, reason in manifest["rejected"]:
                reject(row, listing["record_id"].iloc[row], reason)
            continue
        jobs.append(
            shards.Job(
                number=number,
                first=begin,
                record_ids=tuple(part["record_id"]),
                keys=tuple(part["key"]),
                source=source_name,
                raw=Path() if options.raw is None else options.raw.absolute(),
                dtype=options.dtype,
                rate=options.rate,
                skip=facts.skip,
                sampling_rate=facts.sampling_rate,
                store=place.store,
                manifests=place.manifests,
                writing=place.writing,
                called=options.out,
                debug=options.debug,
            )
        )

    def check_rejected() -> None:
        if len(rejected) <= options.max_rejected * len(listing):
            return
        name, reason = rejected[min(rejected)]
        seen = ""
        if place.finished():
            (place.path / "rejected.csv").write_text(rejected_csv(rejected))
            seen = f" (all so far: {place.path / 'rejected.csv'})"
        raise UserError(
            f"{len(rejected)} of the first {max(progress.done, len(rejected))} records are unusable, more than "
            f"--max-rejected={options.max_rejected:g} of {len(listing)} allows; the first: {name!r}: {reason}{seen}"
        )

    with ReadingProgress(len(listing), done) as progress:

        def receive(job: shards.Job, kind: str, value: Any) -> None:
            if kind == "doing":
                progress.advance(len(rejected))
            elif kind == "rejected":
                reject(*value)
                check_rejected()
            elif kind == "written":
                same_rate(value[1], value[2])

        check_rejected()
        workers.run(shards.write_shard, jobs, options.workers, receive, _died)
    if len(rejected) == len(listing):
        raise UserError(f"not one record is usable; the first: {rejected[0][0]!r}: {rejected[0][1]}")


def _died(job: shards.Job, doing: str | None, exit_code: int | None) -> UserError:
    how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
    what = f"while it read record {doing!r}" if doing else "before it read a record"
    out_of_memory = "; signal 9 may mean that memory ran out: try fewer --workers" if exit_code == -9 else ""
    return UserError(
        f"a worker process died ({how}) {what}{out_of_memory}; the same command goes on with the shards that are done"
    )


def _read_folds(path: Path, listing: pd.DataFrame) -> pd.Series:
    """Fold by record id, from a folds.csv."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a CSV with the columns record_id and fold")
    try:
        table = pd.read_csv(path, dtype={"record_id": str}, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({' '.join(str(error).split())})") from error
    for name in ("record_id", "fold"):
        if name not in table:
            raise UserError(f"{path}: no column {name}; the columns are {', '.join(map(repr, table.columns))}")
    if not pd.api.types.is_integer_dtype(table["fold"]):
        bad = table[pd.to_numeric(table["fold"], errors="coerce") % 1 != 0].iloc[0]
        raise UserError(f"{path}: record {bad['record_id']!r} has fold '{bad['fold']}'; expected a whole number")
    twice = table["record_id"][table["record_id"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: record {twice.iloc[0]!r} is there twice; expected unique ids")
    missing = listing["record_id"][~listing["record_id"].isin(table["record_id"])]
    if len(missing):
        raise UserError(
            f"{path}: no fold for {len(missing):,} of {len(listing):,} records, e.g. {missing.iloc[0]!r}; "
            "expected one for every record"
        )
    return table.set_index("record_id")["fold"].astype(np.int64)
