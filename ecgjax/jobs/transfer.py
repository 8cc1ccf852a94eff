"""Job "transfer": trained in one place, tested in another, on the labels that both have; see configs/transfer.py.

transfer.json (format 1; numbers that are not defined are null):

    format, kind        1, "ecgjax transfer"
    ecgjax              version that wrote it
    model, mode, arguments, weights, protocol, absent, seed    as in the results.json of an evaluation
    least               records with a term, and without it, that the term needs (ecgjax.evaluation.transfer)
    exactness, vocabulary    rows of the table of terms that count; hash of the table
    interval            kind, level, replicates, unit, seed of the bootstrap
    overlap             ways in which recordings in two stores were looked for
    stores              name -> path, source, fingerprint, label_set, records per split after removal, terms (with the
                        labels that mean each), unknown_if (labels that leave a term unknown), unmapped, absent (labels
                        of the table that the store lacks), and removed: train and validation records left out,
                        of_the_same_patients: how many of these are no copies themselves, pairs: with test records,
                        found as "exact", "signal", "table", named_alike_only: kept, because the signals differ
    terms               term -> name, snomed
    common              terms that count for all pairs
    matrices            "pair": over the terms of each pair, "common": over the common terms; each a list of cells:
                        train, test, records (of the test fold), seen (whether the weights saw the test data in
                        pretraining), terms, and what `ecgjax.evaluation.transfer.measure` gives; null values where
                        there is no term

overlap.csv lists the pairs of recordings, transfer.csv the cells, labels.csv every term of every pair. overlap.json
keeps the pairs for a study that is resumed.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

import ecgjax
from ecgjax import atomic, switches
from ecgjax.data.terms import Row, names
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import results, transfer
from ecgjax.evaluation.predictions import Predictions, read_predictions
from ecgjax.jobs import evaluate, evaluate_setting
from ecgjax.jobs import transfer_setting as setting
from ecgjax.jobs.transfer_scores import predict, predictions_path, training_path
from ecgjax.jobs.transfer_setting import COMMON, Place
from ecgjax.models import weights as weights_io
from ecgjax.reporting import transfer_report
from ecgjax.seen import saw
from ecgjax.training.run_directory import RunDirectory
from ecgjax.training.supervised import get_mode

FORMAT, KIND = 1, "ecgjax transfer"
TASK = "folder"  # every class of a store, of every length
_OWN = (
    *("job", "stores", "train", "test", "labels", "vocabulary", "vocabulary_alone", "exactness", "least", "overlap"),
)
_SHOWN = 12
_MATCHES = ("train", "record_id", "test", "test_record_id", "found_by", "named_alike", "correlation", "left_out")


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Trains on every store, tests on every other, writes the matrices; continues where it was stopped.

    Raises:
        UserError: config, stores, table of terms, weights or work directory cannot be used.
        SystemExit: SIGTERM or Ctrl-C came during a training, and everything is saved (143 or 130).
    """
    directory = RunDirectory.open(workdir, config)
    if directory.done:
        print(f"{directory.path}: done already")
        transfer_report.show(directory.path)
        return
    with directory.setting_up():
        if get_mode(config.mode).exact:
            raise UserError(f"config.mode is {config.mode!r}; expected a mode with checkpoints, such as linear")
        evaluate_setting.check(_evaluation(config, directory.path, "none"))
        places, rows = setting.read_places(config)
        setting.write_environment(directory, config, places, rows)
        _shared(places, config)  # Whether there is anything to do is better known before all signals are read.
        places = setting.without_overlap(places, config.overlap, directory.path / "overlap.json")
        shared = _shared(places, config)
        stores = {place.name: setting.write_store(place, directory.path / "stores") for place in places}
    _announce(places, shared)
    atomic.write_text(directory.path / "overlap.csv", _matches(places))
    for place in places:
        if place.trained:
            print(f"\n=== training on {place.name}", flush=True)
            evaluate.run(_evaluation(config, directory.path, place.name), training_path(directory.path, place.name))
    for place in places:
        if place.trained:
            others = [other for other in places if other.tested]
            predict(_evaluation(config, directory.path, place.name), directory.path, place, others, stores)
    directory.write_json(transfer_report.RESULTS, _summarise(config, directory.path, places, rows, shared))
    transfer_report.write(directory.path)
    directory.finish()
    transfer_report.show(directory.path)


def _evaluation(config: ConfigDict, folder: Path, name: str) -> ConfigDict:
    """Config of the training on a place."""
    shared = {key: value for key, value in config.to_dict().items() if key not in _OWN}
    cell = ConfigDict({"job": "evaluate", **shared, "task": TASK, "save_crops": False, "figures": False})
    cell.data.update(
        {
            "store": str(folder / "stores" / name),
            "labels": COMMON,
            "ratio": 1.0,
            "subset": "nested",
            "validation": "full",
        }
    )
    return cell


def _shared(places: Sequence[Place], config: ConfigDict) -> dict[tuple[str, str], tuple[str, ...]]:
    trained = {place.name: place.counts("train") for place in places if place.trained}
    tested = {place.name: place.counts("test") for place in places if place.tested}
    shared = transfer.shared_terms(trained, tested, config.least)
    if not any(shared.values()):
        raise UserError(
            f"no term has {config.least} records with it and {config.least} without it in the training folds and the "
            "test fold of any two stores; expected one (config.least, config.exactness, config.vocabulary)"
        )
    return shared


def _announce(places: Sequence[Place], shared: Mapping[tuple[str, str], Sequence[str]]) -> None:
    for place in places:
        said = setting.describe(place)
        counts = ", ".join(f"{count:,} {split}" for split, count in said["records"].items())
        print(f"{place.name}: {len(place.mapped.terms)} terms; {counts}")
        removed = said["removed"]
        if removed["train"] or removed["validation"]:
            print(f"  left out: {removed['train']:,} train, {removed['validation']:,} validation: in a test fold too")
        for what, labels in (("without a term", place.mapped.unmapped), ("not in the store", place.mapped.absent)):
            if labels:
                more = f", and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
                print(f"  labels {what}: {', '.join(labels[:_SHOWN])}{more}")
    for (train, test), own in shared.items():
        print(f"{train} -> {test}: {len(own)} terms")


def _matches(places: Sequence[Place]) -> str:
    """Content of overlap.csv."""
    stores = {place.name: place.store for place in places}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_MATCHES)
    for place in places:
        own = place.store.records["record_id"]
        found = {match.row for match in place.matches if match.same}
        for match in place.matches:
            theirs = stores[match.reference].records["record_id"].iloc[match.reference_row]
            how_alike = "" if np.isnan(match.correlation) else f"{match.correlation:.4f}"
            cells = (
                place.name,
                own.iloc[match.row],
                match.reference,
                theirs,
                match.by,
                match.named,
                how_alike,
                match.same,
            )
            writer.writerow(cells)
        for row in place.removed:
            if row not in found:
                writer.writerow((place.name, own.iloc[row], "", "", "patient", "", "", True))
    return text.getvalue()


def _summarise(
    config: ConfigDict,
    folder: Path,
    places: Sequence[Place],
    rows: Sequence[Row],
    shared: Mapping[tuple[str, str], Sequence[str]],
) -> dict[str, Any]:
    trained = [place.name for place in places if place.trained]
    runs = {name: json.loads((training_path(folder, name) / results.RESULTS).read_text("utf-8")) for name in trained}
    common = transfer.common_terms(shared)
    predictions = {pair: _read(predictions_path(folder, *pair)) for pair in shared}
    card = weights_io.load_card(Path(config.weights)) if config.weights else None
    origin = str(card.get("source", "")) if card else None
    source = {place.name: place.source for place in places}

    def cell(train: str, test: str, terms: Sequence[str]) -> dict[str, Any]:
        seen = saw(config.model, source[test], origin)
        own = predictions[train, test]
        entry = {"train": train, "test": test, "records": len(own.record_id), "seen": seen, "terms": list(terms)}
        if not terms:
            return {**entry, **dict.fromkeys(("value", "low", "high", "reference", "drop")), "defined": 0, "labels": {}}
        there = predictions.get((test, test)) if train != test else None
        if there is not None and not np.array_equal(there.record_id, own.record_id):
            raise UserError(
                f"{predictions_path(folder, train, test)}: other records than in {training_path(folder, test)}"
            )
        options = {**config.interval.to_dict(), "seed": config.seed, "absent": switches.of(config).undefined_classes}
        groups = own.patient_id if options.pop("unit") == "patient" else None
        targets, scores = _columns(own, terms)
        reference = None if there is None else _columns(there, terms)[1]
        return {**entry, **transfer.measure(targets, scores, reference, terms, groups=groups, **options)}

    first = runs[trained[0]]
    full = names(rows)
    return {
        "format": FORMAT,
        "kind": KIND,
        "ecgjax": ecgjax.__version__,
        **{key: first[key] for key in ("model", "mode", "arguments", "weights", "protocol", "absent", "seed")},
        "least": config.least,
        "exactness": [name for name in config.exactness.split(",") if name],
        "vocabulary": setting.digest(rows),
        "interval": {**config.interval.to_dict(), "seed": config.seed},
        "overlap": [way for way in config.overlap.split(",") if way],
        "stores": {place.name: setting.describe(place) for place in places},
        "terms": {
            term: {"name": full[term][0], "snomed": full[term][1] or None}
            for term in sorted({term for place in places for term in place.mapped.terms})
        },
        "common": list(common),
        "matrices": {
            "pair": [cell(*pair, own) for pair, own in shared.items()],
            "common": [cell(*pair, common) for pair in shared] if common else [],
        },
    }


def _read(path: Path) -> Predictions:
    with disk_errors(path):
        content = path.read_bytes()
    return read_predictions(content, path)


def _columns(found: Predictions, terms: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    order = [found.labels.index(term) for term in terms]
    return found.targets[:, order], found.scores[:, order]
