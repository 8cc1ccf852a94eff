"""Runs a source without the engine: listing, read, label, in this process; or through the command, to a store."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import pandas as pd

from ecgjax.data.preparation.source import Labels
from ecgjax.data.preparation.table import check_listing, flat, merge
from ecgjax.data.preparation.usable import why_unusable
from ecgjax.data.recording import Recording
from ecgjax.data.store import Store, open_store
from ecgjax.errors import UserError
from ecgjax.prepare import main


class Written(Protocol):
    """What a generator says of a record."""

    name: str
    millivolts: np.ndarray


def run(module: ModuleType, raw: Path, **options) -> tuple[pd.DataFrame, list[Recording], Labels, dict[str, str]]:
    """What a source makes of `raw`.

    Args:
        module: the source.
        raw: its folder.
        **options: as on the command line (`min_count=2`, `protocol="paper"`); the source's own have their defaults.

    Returns:
        The table as `label` gets it, the recordings of its rows, the labels, and why records were rejected (by id).
    """
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    defaults = {"min_count": 10, "protocol": "default", "limit": None, "raw": raw, "work": raw.parent / "work"}
    chosen = argparse.Namespace(**{**vars(parser.parse_args([])), **defaults, **options})
    listing = check_listing(module.listing(raw, chosen), module.FACTS.name)
    recordings, rejected, kept = [], {}, []
    for row, (name, key) in enumerate(zip(listing["record_id"], listing["key"], strict=True)):
        try:
            recording = module.read(raw, key)
        except (UserError, OSError, ValueError) as error:
            rejected[name] = str(error)
            continue
        reason = why_unusable(recording, module.FACTS.skip, module.FACTS.sampling_rate)
        if reason:
            rejected[name] = reason
            continue
        recordings.append(recording)
        kept.append(row)
    table = merge(listing.iloc[kept], [flat(recording.metadata, recording.id) for recording in recordings])
    return table, recordings, module.label(table, chosen), rejected


def prepared(
    module: ModuleType, raw: Path, out: Path, records: Sequence[Written], *, min_count: int, atol: float
) -> Store:
    """The store that the command makes, once it has been compared with the generator's records and with `run`."""
    main([module.FACTS.name, f"--raw={raw}", f"--out={out}", f"--min-count={min_count}", "--workers=1"])
    store = open_store(out)
    assert store.records["record_id"].tolist() == [record.name for record in records]
    for record in records:
        np.testing.assert_allclose(store.signal(record.name), record.millivolts, atol=atol)
    *_, labels, _ = run(module, raw, min_count=min_count)
    assert store.records["fold"].tolist() == labels.folds.tolist()
    for label_set, (classes, targets, _) in labels.sets.items():
        assert store.classes(label_set) == classes
        np.testing.assert_array_equal(store.targets(label_set), targets)
    assert not [column for column in store.records if column.startswith("_")]
    return store
