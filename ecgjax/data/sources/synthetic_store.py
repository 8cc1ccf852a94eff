"""The synthetic labelled set as a store: for trying things out, with as many records as wanted.

    python -m ecgjax.prepare synthetic --out=STORE [--records=N] [--seed=N]

Ten seconds at 500 Hz; ten folds without a patient in two of them, labels spread evenly. Label sets: those of
`ecgjax.data.sources.synthetic.LABEL_SETS`, "measurements" (regression) and "joint" (all labels, then all measurements).
The index holds the measurements in their own units. Nothing in it is of a patient.
"""

import argparse
import functools
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

import ecgjax.data.simulation
from ecgjax.data.preparation.folds import patient_folds
from ecgjax.data.preparation.source import Facts, Labels, LabelSet
from ecgjax.data.preparation.vocabulary import label_set
from ecgjax.data.recording import Recording
from ecgjax.data.simulation.heart import Heart, draw_heart
from ecgjax.data.sources import synthetic
from ecgjax.errors import UserError

MEASUREMENTS = ("heart_rate", "pr", "qrs", "qt")
"""Regression targets of the label sets "measurements" and "joint"; PR is NaN in atrial fibrillation."""

FOLDS = 10
_RECORDS_PER_PATIENT = 1.5


def version() -> str:
    """A digest of the generator's source: a store made by other code is another store."""
    files = [
        Path(synthetic.__file__),
        *sorted(Path(ecgjax.data.simulation.__file__).parent.glob("*.py")),
        Path(__file__),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


FACTS = Facts(
    name="synthetic",
    title="Synthetic labelled 12-lead ECGs, not of patients",
    version=version(),
    licence="Apache-2.0",
    sampling_rate=500.0,
    generated=True,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this source takes on the command line."""
    parser.add_argument("--records", type=int, default=600, help="number of recordings; two thirds as many patients")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other patients")


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Record k of N and its patient; the key says seed, N and k.

    Raises:
        UserError: too few records, or a negative seed.
    """
    records, seed = options.records, options.seed
    if records < 2 * FOLDS:
        raise UserError(f"records is {records}; expected at least {2 * FOLDS}, two for each of {FOLDS} folds")
    if seed < 0:
        raise UserError(f"seed is {seed}; expected 0 or more")
    _, _, patient = _draw_patients(records, seed)
    return pd.DataFrame(
        {
            "record_id": [f"synthetic-{k:05d}" for k in range(records)],
            "patient_id": [f"synthetic-{number:05d}" for number in patient],
            "key": [f"{seed}/{records}#{k}" for k in range(records)],
        }
    )


def read(raw: Path, key: str) -> Recording:
    """Draws one recording; its metadata are its labels, separated by spaces, and the measurements."""
    place, _, row = key.partition("#")
    seed, records = (int(part) for part in place.split("/"))
    k = int(row)
    hearts, chronic, patient = _draw_patients(records, seed)
    conditions = synthetic.draw_conditions(np.random.default_rng((seed, 1, k)), chronic[patient[k]])
    signal, found = synthetic.synthesize(conditions, np.random.default_rng((seed, 2, k)), heart=hearts[patient[k]])
    measured = {name: float(np.float32(getattr(found, name))) for name in MEASUREMENTS}
    metadata = {"labels": " ".join(found.labels), **measured}
    return Recording(f"synthetic-{k:05d}", signal, 500.0, metadata, microvolt_per_bit=1.0)


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """What was drawn and measured; folds of patients, stratified over the labels."""
    found = [text.split() for text in table["labels"]]
    sets: dict[str, LabelSet] = {name: label_set(found, classes) for name, classes in synthetic.LABEL_SETS.items()}
    measured = table[list(MEASUREMENTS)].to_numpy(np.float64)
    sets["measurements"] = MEASUREMENTS, measured, ("regression",) * len(MEASUREMENTS)
    (names, known, kinds), (more, numbers, more_kinds) = sets["all"], sets["measurements"]
    sets["joint"] = (*names, *more), np.hstack([known, numbers]), (*kinds, *more_kinds)
    return Labels(patient_folds(found, table["patient_id"].tolist(), folds=FOLDS), sets)


@functools.lru_cache(maxsize=2)
def _draw_patients(records: int, seed: int) -> tuple[tuple[Heart, ...], tuple[tuple[str, ...], ...], np.ndarray]:
    """Hearts and chronic conditions of the patients, and whose each record is (every patient has one at least)."""
    rng = np.random.default_rng((seed, 0))
    patients = round(records / _RECORDS_PER_PATIENT)
    patient = np.sort(np.concatenate([np.arange(patients), rng.integers(patients, size=records - patients)]))
    hearts, chronic = zip(*((draw_heart(rng), synthetic.draw_chronic(rng)) for _ in range(patients)), strict=True)
    return hearts, chronic, patient
