"""The synthetic labelled set as a store: for trying things out, with as many records as wanted.

    python -m ecgjax.prepare synthetic --out=STORE [--records=N] [--seed=N]

Ten seconds at 500 Hz; ten folds without a patient in two of them, labels spread evenly. Label sets: those of
`ecgjax.data.sources.synthetic.LABEL_SETS`, "measurements" (regression, standardised on the training folds) and "joint"
(all labels, then all measurements). The index holds the measurements unstandardised. Nothing in it is of a patient.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

import ecgjax.data.simulation
from ecgjax.data.recording import Recording
from ecgjax.data.simulation.heart import Heart, draw_heart
from ecgjax.data.sources import synthetic
from ecgjax.data.store_summary import Prepared, SignalChecks
from ecgjax.data.store_writer import LabelSet, StoreWriter
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError

MEASUREMENTS = ("heart_rate", "pr", "qrs", "qt")
"""Regression targets of the label sets "measurements" and "joint"; PR is NaN in atrial fibrillation."""

FOLDS = 10
_RECORDS_PER_PATIENT = 1.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this source takes on the command line."""
    parser.add_argument("--out", type=Path, required=True, help="the store to write; must not exist")
    parser.add_argument("--records", type=int, default=600, help="number of recordings; two thirds as many patients")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other patients")


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Writes the store.

    Raises:
        UserError: too few records, a negative seed, or the place cannot be written.
    """
    return write_store(arguments.out, arguments.records, arguments.seed)


def write_store(path: Path, records: int, seed: int) -> Prepared:
    """Draws patients and recordings (about 200 a second) and writes them to `path`, which must not exist.

    Raises:
        UserError: too few records, a negative seed, or `path` cannot be written.
    """
    if records < 2 * FOLDS:
        raise UserError(f"records is {records}; expected at least {2 * FOLDS}, two for each of {FOLDS} folds")
    if seed < 0:
        raise UserError(f"seed is {seed}; expected 0 or more")
    hearts, chronic, patient = _draw_patients(records, seed)
    measured = np.zeros((records, len(MEASUREMENTS)), np.float32)
    labels = [
        synthetic.draw_conditions(np.random.default_rng((seed, 1, k)), chronic[patient[k]]) for k in range(records)
    ]
    checks = SignalChecks()
    fold = _folds(labels, patient, len(hearts))
    with StoreWriter(path, source="synthetic", source_version=version(), sampling_rate=500.0) as writer:
        for k in range(records):
            rng = np.random.default_rng((seed, 2, k))
            signal, found = synthetic.synthesize(labels[k], rng, heart=hearts[patient[k]])
            measured[k] = [getattr(found, name) for name in MEASUREMENTS]
            recording = Recording(f"synthetic-{k:05d}", signal, 500.0, microvolt_per_bit=1.0)
            metadata = {"labels": " ".join(found.labels), **dict(zip(MEASUREMENTS, measured[k].tolist(), strict=True))}
            checks.add(recording)
            writer.add(recording, patient_id=f"synthetic-{patient[k]:05d}", fold=int(fold[k]), metadata=metadata)
        return Prepared(writer.finish(_label_sets(labels, measured, fold)), checks)


def version() -> str:
    """A digest of the generator's source: a store made by other code is another store."""
    files = [
        Path(synthetic.__file__),
        *sorted(Path(ecgjax.data.simulation.__file__).parent.glob("*.py")),
        Path(__file__),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _draw_patients(records: int, seed: int) -> tuple[list[Heart], list[tuple[str, ...]], np.ndarray]:
    """Hearts and chronic conditions of the patients, and whose each record is (every patient has one at least)."""
    rng = np.random.default_rng((seed, 0))
    patients = round(records / _RECORDS_PER_PATIENT)
    patient = np.sort(np.concatenate([np.arange(patients), rng.integers(patients, size=records - patients)]))
    hearts, chronic = zip(*((draw_heart(rng), synthetic.draw_chronic(rng)) for _ in range(patients)), strict=True)
    return list(hearts), list(chronic), patient


def _folds(labels: list[tuple[str, ...]], patient: np.ndarray, patients: int) -> np.ndarray:
    by_patient: list[list[str]] = [[] for _ in range(patients)]
    for found, owner in zip(labels, patient, strict=True):
        by_patient[owner].extend(found)
    sizes = np.bincount(patient, minlength=patients).tolist()
    fold_of_patient = np.zeros(patients, int)
    for fold, members in enumerate(stratify(by_patient, synthetic.CLASSES, [1 / FOLDS] * FOLDS, sizes)):
        fold_of_patient[members] = fold
    return fold_of_patient[patient]


def _label_sets(labels: list[tuple[str, ...]], measured: np.ndarray, fold: np.ndarray) -> dict[str, LabelSet]:
    train = measured[fold < FOLDS - 2]
    standard = (measured - np.nanmean(train, axis=0)) / np.nanstd(train, axis=0)
    sets: dict[str, LabelSet] = {}
    for name, classes in synthetic.LABEL_SETS.items():
        targets = np.array([[c in found for c in classes] for found in labels], np.float32)
        sets[name] = classes, targets, ("classification",) * len(classes)
    sets["measurements"] = MEASUREMENTS, standard, ("regression",) * len(MEASUREMENTS)
    (names, known, kinds), (more, numbers, more_kinds) = sets["all"], sets["measurements"]
    sets["joint"] = (*names, *more), np.hstack([known, numbers]), (*kinds, *more_kinds)
    return sets
