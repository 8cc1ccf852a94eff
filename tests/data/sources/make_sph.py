"""A miniature SPH: tables as CSV text, signals as HDF5 float16 (12, samples), the archive that is no gzip."""

import csv
import tarfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from tests.data.wfdb_files import bits

COLUMNS = ("ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N", "Date")
CODES = (
    ("Overall interpretation", "1", "Normal ECG"),
    ("Sinus node rhythms and arrhythmias", "22", "Sinus bradycardia"),
    ("Supraventricular arrhythmias", "50", "Atrial fibrillation"),
    ("Ventricular arrhythmias", "60", "Ventricular premature complex(es)"),
    ("ST segment, T wave, and U wave", "147", "T-wave abnormality"),
    ("Modifier", "310", "Couplet"),
    ("Modifier", "346", "Mild,  borderline"),
)
CELLS = ("1", "22", "60+310;147", "1;1", "147+346+310;22", "50", "1", "60;22;999")  # 999 is not in code.csv.


@dataclass
class Record:
    """What was written of a record."""

    name: str
    patient: str
    age: int
    sex: str
    cell: str
    millivolts: np.ndarray

    @property
    def statements(self) -> list[str]:
        return self.cell.split(";")

    @property
    def primary(self) -> list[str]:
        return [part.split("+")[0] for part in self.statements]


def make(raw: Path, records: int = 48) -> list[Record]:
    """Writes the data set into `raw` and returns its records in the order of metadata.csv, which is by name."""
    (raw / "records").mkdir(parents=True)
    made, rows = [], []
    for i in range(records):
        # Every eighth patient has two records.
        name, patient = f"A{i + 1:05d}", f"S{1001 + (i - 1 if i % 8 == 1 else i):05d}"
        samples, age, sex = 40 + 10 * (i % 3), 15 + i * 7 % 80, "FM"[i % 2]
        signal = (bits(samples, seed=i) / 1000).astype(np.float16)
        with h5py.File(raw / "records" / f"{name}.h5", "w") as file:
            file.create_dataset("ecg", data=np.ascontiguousarray(signal.T), compression="gzip" if i % 2 else None)
        cell = CELLS[i % len(CELLS)]
        rows.append([name, cell, patient, age, sex, samples, f"2020-{1 + i % 12:02d}-04"])
        made.append(Record(name, patient, age, {"M": "male", "F": "female"}[sex], cell, signal.astype(np.float32)))
    for name, table in (("metadata", [COLUMNS, *rows]), ("code", [("Category", "Code", "Description"), *CODES])):
        with open(raw / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(table)
    with tarfile.open(raw / "records.tar.gz", "w") as archive:
        archive.add(raw / "records", "records")
    return made
