"""Runs a source without the engine: listing, read, label, in this process."""

import argparse
from pathlib import Path
from types import ModuleType

import pandas as pd

from ecgjax.data.preparation.source import Labels
from ecgjax.data.preparation.table import check_listing, flat, merge
from ecgjax.data.preparation.usable import why_unusable
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError


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
