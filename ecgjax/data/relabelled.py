"""A store with other labels and fewer records, made of another store without copying its signals."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgjax.data.store import Store
from ecgjax.data.store_files import Content, LabelSet, publish, write
from ecgjax.errors import UserError, disk_errors

FACT = "relabelled"
"""Entry of meta.json that says what the store was made of."""


def relabel(store: Store, path: Path, rows: NDArray[np.int64], label_set: LabelSet, name: str, why: str) -> None:
    """Writes a store of some records of another one, whose signals it links to; one that is there already is replaced.

    The same arguments give the same fingerprint.

    Args:
        store: the other one; it must stay where it is.
        path: of the new store.
        rows: of the records to keep. Folds keep their numbers.
        label_set: classes, targets (records of `store`, classes), kinds.
        name: of the label set; the only one of the new store.
        why: what it is for, in words.

    Raises:
        UserError: the disk is full, or there is something else at `path`.
    """
    classes, targets, kinds = label_set
    if path.exists() and FACT not in _meta(path):
        raise UserError(f"{path}: exists already and was not made from another store; expected a free name")
    folder = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            signals: Mapping[str, Mapping[str, Any]] = {
                file: entry for file, entry in store.meta["files"].items() if file.startswith("signals-")
            }
            for file in signals:
                (folder / file).symlink_to(store.path / file)
            content = Content(
                store.records.iloc[rows].reset_index(drop=True),
                signals,
                store.meta["source"],
                store.meta.get("source_version"),
                np.dtype(store.dtype),
                unit=store.meta["unit"],
                label_sets={name: (classes, np.asarray(targets)[rows], kinds)},
                facts={FACT: {"of": store.fingerprint, "records": len(store), "why": why}},
            )
            write(folder, content)
            if FACT in _meta(path):
                shutil.rmtree(path)
            publish(folder, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _meta(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
