"""What a study of transfer is made of: stores in common terms, without each other's test records; see jobs/transfer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from ecgjax import atomic, tasks
from ecgjax.data import overlap, terms
from ecgjax.data.overlap import Match, Part
from ecgjax.data.relabelled import relabel
from ecgjax.data.store import SPLITS, Store, open_store
from ecgjax.data.terms import EXACTNESS, Mapped, Row
from ecgjax.errors import UserError
from ecgjax.evaluation import transfer
from ecgjax.training.run_directory import RunDirectory

COMMON = "common"
"""Label set of the stores that are trained and tested on."""


@dataclass(frozen=True)
class Place:
    """A store in a study.

    Attributes:
        name: in the study.
        store: as it was prepared.
        label_set: that was mapped.
        mapped: its labels in common terms.
        rows: of each split that count: long enough, and in folds that the source's own task uses.
        trained: whether a model is trained on it.
        tested: whether models are tested on it.
        matches: its training and validation records that are test records of the study.
        removed: rows that are left out for them, with other records of the same patients.
    """

    name: str
    store: Store
    label_set: str
    mapped: Mapped
    rows: Mapping[str, NDArray[np.int64]]
    trained: bool
    tested: bool
    matches: tuple[Match, ...] = ()
    removed: tuple[int, ...] = ()

    @property
    def source(self) -> str:
        return str(self.store.meta["source"])

    def counts(self, split: str) -> transfer.Counts:
        """Of the terms, in a split after removal."""
        kept = np.setdiff1d(self.rows[split], np.array(self.removed, np.int64))
        return transfer.count(self.mapped.terms, self.mapped.targets, kept)


def read_places(config: ConfigDict) -> tuple[list[Place], tuple[Row, ...]]:
    """Opens all stores and maps their labels.

    Raises:
        UserError: what is named cannot be used, alone or together.
    """
    paths, asked = _pairs("stores", config.stores), _pairs("labels", config.labels)
    if len(paths) < 2:
        raise UserError(f"config.stores is {config.stores!r}; expected two or more, as NAME=STORE,NAME=STORE")
    exactness = _names("exactness", config.exactness, EXACTNESS)
    if not exactness:
        raise UserError(f"config.exactness is empty; expected some of {', '.join(EXACTNESS)}")
    _names("overlap", config.overlap, ("signal", "table"))
    if config.least < 1:
        raise UserError(f"config.least is {config.least}; expected 1 or more")
    if config.vocabulary_alone and not config.vocabulary:
        raise UserError("config.vocabulary_alone=True without config.vocabulary; expected a table of terms")
    chosen = {key: _names(key, config[key], tuple(paths)) or tuple(paths) for key in ("train", "test")}
    _names("labels", ",".join(asked), tuple(paths))
    stores = {name: open_store(path) for name, path in paths.items()}
    _check_together(stores)
    rows = terms.load(Path(config.vocabulary) if config.vocabulary else None, alone=config.vocabulary_alone)
    terms.check_labels(rows, stores.items())
    places = []
    for name, store in stores.items():
        label_set = terms.label_set_of(rows, name, store, asked.get(name))
        mapped = terms.apply(rows, name, store, label_set, exactness)
        splits = _splits(store, label_set)
        trainable = all(len(splits[split]) for split in ("train", "validation"))
        if name in chosen["train"] and not trainable and config.train:
            raise UserError(f"{store.path} ({name}): has no training or no validation fold; expected it in test alone")
        if not len(splits["test"]):
            raise UserError(f"{store.path} ({name}): no test record is long enough; expected some")
        trained = name in chosen["train"] and trainable
        places.append(Place(name, store, label_set, mapped, splits, trained, name in chosen["test"]))
    if not any(place.trained for place in places):
        raise UserError(f"config.train is {config.train!r}: no store has training folds; expected one or more")
    return places, rows


def digest(rows: Sequence[Row]) -> str:
    """Hash of a table of terms, whatever file it is in."""
    text = json.dumps(sorted((*row.key, row.term, row.exactness) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_overlap(places: Sequence[Place], how: str, kept: Path) -> list[Place]:
    """The places without the training and validation records that are test records of any place.

    They leave the training side, so that every model is tested on the same, whole test folds: otherwise a column of the
    matrix would hold values of different records, and the test fold of a set that another contains would be gone.

    Args:
        places: all of the study.
        how: "signal", "table", both joined by a comma, or "" for neither.
        kept: file of the matches that were found, so that a study that goes on need not read all signals again.
    """
    ways = [way for way in how.split(",") if way]
    if not ways:
        return list(places)
    found = _find(places, kept)
    return [_without(place, [match for match in found if match.source == place.name], ways) for place in places]


def _find(places: Sequence[Place], kept: Path) -> list[Match]:
    of = [[place.name, place.store.fingerprint, place.label_set, place.trained, place.tested] for place in places]
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if before.get("of") == of:
        return [Match(**match) for match in before["matches"]]
    references = {place.name: Part(place.store, place.rows["test"]) for place in places if place.tested}
    count = sum(len(part.rows) for part in references.values())
    print(f"looking for {count:,} test records among the others", flush=True)
    index = overlap.Index(references)
    found: list[Match] = []
    for place in places:
        if place.trained:
            part = Part(place.store, np.concatenate([place.rows["train"], place.rows["validation"]]))
            found += index.matches(place.name, part)
            print(f"  in {place.name}: {len(part.rows):,} records read", flush=True)
    atomic.write_text(kept, json.dumps({"of": of, "matches": [asdict(match) for match in found]}))
    return found


def _without(place: Place, matches: Sequence[Match], ways: Sequence[str]) -> Place:
    counted = tuple(
        match for match in matches if ("signal" in ways and match.by != "table") or ("table" in ways and match.named)
    )
    same = {match.row for match in counted if match.same}
    patient = place.store.records["patient_id"].to_numpy()
    others = np.concatenate([place.rows["train"], place.rows["validation"]]) if same else np.array([], np.int64)
    patients = set(patient[sorted(same)].tolist())
    removed = tuple(sorted(row for row in others.tolist() if patient[row] in patients))
    return replace(place, matches=counted, removed=removed)


def write_store(place: Place, folder: Path) -> Path:
    """The place's store in common terms, without what is left out; one that is there already is used.

    Raises:
        UserError: nothing is left of a fold, or the disk is full.
    """
    path = folder / place.name
    kept = [np.setdiff1d(place.rows[split], np.array(place.removed, np.int64)) for split in SPLITS]
    for split, rows in zip(SPLITS, kept, strict=True):
        if place.trained and not len(rows):
            raise UserError(
                f"{place.store.path} ({place.name}): all {split} records are test records of the study; expected some "
                "others"
            )
    classes, rows = place.mapped.terms, np.sort(np.concatenate(kept))
    label_set = classes, place.mapped.targets, ("classification",) * len(classes)
    relabel(place.store, path, rows, label_set, COMMON, f"labels of {place.label_set!r} in common terms")
    return path


def describe(place: Place) -> dict[str, Any]:
    """What transfer.json says of a store."""
    by = {way: sum(match.by == way and match.same for match in place.matches) for way in ("exact", "signal", "table")}
    rows = {match.row for match in place.matches if match.same}
    removed = set(place.removed)
    return {
        "path": str(place.store.path),
        "source": place.source,
        "fingerprint": place.store.fingerprint,
        "synthetic": place.source == "synthetic",
        "sampling_rate": place.store.sampling_rate,
        "label_set": place.label_set,
        "trained": place.trained,
        "tested": place.tested,
        "records": {split: len(set(place.rows[split].tolist()) - removed) for split in SPLITS},
        "terms": {term: list(labels) for term, labels in place.mapped.used.items()},
        "unknown_if": {term: list(labels) for term, labels in place.mapped.doubtful.items()},
        "unmapped": list(place.mapped.unmapped),
        "absent": list(place.mapped.absent),
        "removed": {
            **{split: len(removed & set(place.rows[split].tolist())) for split in ("train", "validation")},
            "of_the_same_patients": len(removed - rows),
            "pairs": by,
            "named_alike_only": sum(not match.same for match in place.matches),
        },
    }


def write_environment(
    directory: RunDirectory, config: ConfigDict, places: Sequence[Place], rows: Sequence[Row]
) -> None:
    """Writes environment.json: a study goes on only with the same stores and terms."""
    data = {place.name: place.store.fingerprint for place in places}
    directory.write_environment(seed=config.seed, data={**data, "table of terms": digest(rows)})


def _splits(store: Store, label_set: str) -> dict[str, NDArray[np.int64]]:
    """Rows of each split, as the source's own task uses them: records that are too short for it are left out."""
    source = str(store.meta["source"])
    run = next((run for run in tasks.RUNS.values() if (run.source, run.label_set) == (source, label_set)), None)
    samples, folds = store.records["samples"].to_numpy(), store.records["fold"].to_numpy()
    good = np.ones(len(store), bool)
    if run is not None:
        good &= samples >= int(run.min_seconds * store.sampling_rate)
        good &= folds >= run.min_fold if run.min_fold is not None else True
    return {split: (rows := store.rows(split))[good[rows]] for split in SPLITS}


def _check_together(stores: Mapping[str, Store]) -> None:
    first = next(iter(stores.values()))
    for store in stores.values():
        if store.meta["unit"] != first.meta["unit"]:
            raise UserError(
                f"{store.path}: unit {store.meta['unit']}, that of {first.path} is {first.meta['unit']}; expected "
                "stores of one unit, for a model knows nothing of units"
            )
    paths = [store.path.resolve() for store in stores.values()]
    if len(set(paths)) < len(paths):
        raise UserError("config.stores names one store twice; expected each once")


def _pairs(field: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not value or not name.replace("_", "").replace("-", "").isalnum() or name in found:
            raise UserError(
                f"config.{field}: {part!r}; expected NAME=VALUE, names of letters, digits, - and _, each once"
            )
        found[name] = value
    return found


def _names(field: str, text: str, choices: Sequence[str]) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in found:
        if name not in choices:
            raise UserError(f"config.{field}: {name!r}; expected some of {', '.join(choices)}")
    return found
