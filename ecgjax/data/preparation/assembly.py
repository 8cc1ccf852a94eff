"""From finished shards to a store: index, folds, labels, checks."""

import argparse
import csv
import hashlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.atomic import as_json
from ecgjax.data.preparation import shards
from ecgjax.data.preparation.checks import check
from ecgjax.data.preparation.regression import standardise
from ecgjax.data.preparation.signal_checks import COLUMNS
from ecgjax.data.preparation.source import Labels, Source
from ecgjax.data.preparation.table import REQUIRED, column, fill
from ecgjax.data.preparation.workplace import Workplace
from ecgjax.data.store_files import INDEX, Content, write
from ecgjax.errors import UserError


def assemble(
    source: Source,
    options: argparse.Namespace,
    place: Workplace,
    listing: pd.DataFrame,
    folds: pd.Series | None,
) -> None:
    """Writes all files of the store but the signals, which are there.

    Args:
        source: labels the records.
        options: of the command.
        place: work folder.
        listing: all records.
        folds: by record id, instead of the source's.

    Raises:
        UserError: the source cannot label the records, or labels and records do not fit together.
    """
    facts = source.FACTS
    records, metadata, signals, rejected = _gather(place, listing)
    rows = records["row"].to_numpy()
    table = fill(listing.iloc[rows].reset_index(drop=True), metadata)
    labels = source.label(table.copy(), options)
    fold = _folds(labels, table) if folds is None else folds.loc[table["record_id"]].to_numpy()
    sets, scales = standardise(labels.sets, fold)
    notes = list(labels.notes)
    if options.limit is not None:
        notes.insert(0, f"a dry run of {len(listing):,} records (--limit): counts and results say nothing")
    index = _index(table, records, fold)
    found = check(
        facts,
        index,
        records[list(COLUMNS)],
        sets,
        rejected=len(rejected),
        limited=options.limit is not None,
        notes=notes,
    )
    settings = {"limit": options.limit, "min_count": options.min_count, "protocol": options.protocol}
    content = Content(
        index=index,
        signals=signals,
        source=facts.name,
        source_version=facts.version or None,
        dtype=np.dtype(options.dtype),
        unit=facts.unit,
        label_sets=sets,
        scales=scales,
        facts={
            "title": facts.title,
            "licence": facts.licence,
            "notes": notes,
            "rejected": len(rejected),
            "preparation": {**settings, "folds": "source" if folds is None else _digest(folds)},
        },
        texts={"rejected.csv": rejected_csv(rejected), "checks.json": as_json(found.as_json())},
    )
    write(place.store, content)


def rejected_csv(rejected: Mapping[int, tuple[str, str]]) -> str:
    """Text of rejected.csv: record ids and reasons in the order of the listing."""
    text = io.StringIO()
    rows = [("record_id", "reason"), *(rejected[row] for row in sorted(rejected))]
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _gather(
    place: Workplace, listing: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any], dict[int, tuple[str, str]]]:
    """What the manifests say: of the records, of their metadata, of the signals' files, and of what was rejected."""
    parts, own, signals = [], [], {}
    rejected: dict[int, tuple[str, str]] = {}
    for number, path in place.finished().items():
        manifest = shards.read_manifest(path, place.store)
        if manifest is None:
            raise UserError(f"{path}: damaged; delete {place.path} and start anew")
        rejected |= {row: (listing["record_id"].iloc[row], reason) for row, reason in manifest["rejected"]}
        if manifest["file"] is None:
            continue
        signals[shards.file_name(number)] = manifest["file"]
        part = pd.DataFrame({name: column(values) for name, values in manifest["records"].items()})
        parts.append(part.assign(shard=number, sampling_rate=manifest["sampling_rate"]))
        own.append(
            pd.DataFrame({name: column(values) for name, values in manifest["metadata"].items()}, index=part.index)
        )
    metadata = pd.concat(own, ignore_index=True)
    for name in metadata:
        # Text in one shard and numbers in another.
        if metadata[name].dtype == object:
            metadata[name] = column(metadata[name].tolist())
    return pd.concat(parts, ignore_index=True), metadata, signals, rejected


def _folds(labels: Labels, table: pd.DataFrame) -> np.ndarray:
    folds = np.asarray(labels.folds)
    if folds.shape != (len(table),) or folds.dtype.kind not in "iu":
        raise UserError(
            f"the source gives folds of shape {folds.shape} and type {folds.dtype}; expected whole numbers, "
            f"one for each of {len(table)} records"
        )
    return folds.astype(np.int64)


def _index(table: pd.DataFrame, records: pd.DataFrame, fold: np.ndarray) -> pd.DataFrame:
    own = {**{name: records[name] for name in INDEX if name in records}, "fold": fold}
    own |= {name: table[name] for name in REQUIRED[:2]}
    others = [name for name in table if name not in REQUIRED and not str(name).startswith("_")]
    return pd.concat([pd.DataFrame({name: own[name] for name in INDEX}), table[others]], axis=1)


def _digest(folds: pd.Series) -> str:
    return hashlib.sha256(folds.sort_index().to_csv().encode()).hexdigest()[:16]
