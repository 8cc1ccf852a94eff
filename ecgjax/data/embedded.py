"""Input that needs no download: the synthetic store, made on first use, and the genuine recording inside pydicom."""

import hashlib
import os
from pathlib import Path

import numpy as np

import ecgjax.data.simulation
from ecgjax.data.recording import Recording
from ecgjax.data.simulation.heart import Heart, draw_heart
from ecgjax.data.sources import synthetic
from ecgjax.data.store_writer import LabelSet, StoreWriter
from ecgjax.data.stratify import stratify
from ecgjax.errors import UserError, disk_errors

MEASUREMENTS = ("heart_rate", "pr", "qrs", "qt")
"""Regression targets of the label sets "measurements" and "joint"; PR is NaN in atrial fibrillation."""

_FOLDS = 10
_RECORDS_PER_PATIENT = 1.5


def cache_folder() -> Path:
    """Where ecgjax keeps what it can make again: `$ECGJAX_CACHE`, else `~/.cache/ecgjax`."""
    return Path(os.environ.get("ECGJAX_CACHE") or Path.home() / ".cache" / "ecgjax")


def synthetic_store(root: Path | None = None, records: int = 600, seed: int = 0) -> Path:
    """The synthetic labelled set as a store; made once (about 200 records a second), then found again.

    Ten folds without a patient in two of them, labels spread evenly. Label sets: those of
    `ecgjax.data.sources.synthetic.LABEL_SETS`, "measurements" (regression, standardised on the training folds) and
    "joint" (all labels, then all measurements). The index holds the measurements unstandardised.

    Args:
        root: folder that holds the store; None for the cache.
        records: number of 10 s recordings at 500 Hz; two thirds as many patients.
        seed: another seed, other patients.

    Returns:
        Where the store is. Its name tells records, seed and version: a changed generator makes a new store.

    Raises:
        UserError: fewer records than folds, or `root` cannot be written.
    """
    if records < 2 * _FOLDS:
        raise UserError(f"records is {records}; expected at least {2 * _FOLDS}, two for each of {_FOLDS} folds")
    root = cache_folder() if root is None else Path(root)
    path = root / f"synthetic-{records}-{seed}-{_version()}"
    if path.exists():
        return path
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    try:
        _write(path, records, seed)
    except (OSError, UserError):
        if not path.exists():  # otherwise another process was faster, with the same content
            raise
    return path


def dicom_recording_path() -> Path:
    """The genuine 12-lead recording that the pydicom package carries as a test file (1000 Hz, 10 s, a normal ECG).

    Raises:
        UserError: pydicom is not installed.
    """
    try:
        from pydicom.data import get_testdata_file
    except ImportError as error:
        raise UserError(
            "the DICOM recording is part of pydicom, which is missing; pip install 'ecgjax[formats]'"
        ) from error
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    if found is None:
        raise UserError("pydicom is installed without waveform_ecg.dcm; expected its test files as in the wheel")
    return Path(str(found))


def _write(path: Path, records: int, seed: int) -> None:
    hearts, chronic, patient = _draw_patients(records, seed)
    measured = np.zeros((records, len(MEASUREMENTS)), np.float32)
    labels = [
        synthetic.draw_conditions(np.random.default_rng((seed, 1, k)), chronic[patient[k]]) for k in range(records)
    ]
    fold = _folds(labels, patient, len(hearts))
    with StoreWriter(path, source="synthetic", source_version=_version(), sampling_rate=500.0) as writer:
        for k in range(records):
            rng = np.random.default_rng((seed, 2, k))
            signal, found = synthetic.synthesize(labels[k], rng, heart=hearts[patient[k]])
            measured[k] = [getattr(found, name) for name in MEASUREMENTS]
            recording = Recording(f"synthetic-{k:05d}", signal, 500.0, microvolt_per_bit=1.0)
            metadata = {"labels": " ".join(found.labels), **dict(zip(MEASUREMENTS, measured[k].tolist(), strict=True))}
            writer.add(recording, patient_id=f"synthetic-{patient[k]:05d}", fold=int(fold[k]), metadata=metadata)
        writer.finish(_label_sets(labels, measured, fold))


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
    for fold, members in enumerate(stratify(by_patient, synthetic.CLASSES, [1 / _FOLDS] * _FOLDS, sizes)):
        fold_of_patient[members] = fold
    return fold_of_patient[patient]


def _label_sets(labels: list[tuple[str, ...]], measured: np.ndarray, fold: np.ndarray) -> dict[str, LabelSet]:
    train = measured[fold < _FOLDS - 2]
    standard = (measured - np.nanmean(train, axis=0)) / np.nanstd(train, axis=0)
    sets: dict[str, LabelSet] = {}
    for name, classes in synthetic.LABEL_SETS.items():
        targets = np.array([[c in found for c in classes] for found in labels], np.float32)
        sets[name] = classes, targets, ("classification",) * len(classes)
    sets["measurements"] = MEASUREMENTS, standard, ("regression",) * len(MEASUREMENTS)
    (names, known, kinds), (more, numbers, more_kinds) = sets["all"], sets["measurements"]
    sets["joint"] = (*names, *more), np.hstack([known, numbers]), (*kinds, *more_kinds)
    return sets


def _version() -> str:
    """A digest of the generator's source: a store made by other code is another store."""
    files = [
        Path(synthetic.__file__),
        *sorted(Path(ecgjax.data.simulation.__file__).parent.glob("*.py")),
        Path(__file__),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]
