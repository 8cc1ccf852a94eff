"""A miniature HEEDB: partitions, MATLAB and .dat signals, tables with gaps, written by pandas, SciPy and wfdb."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
import wfdb

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
PARTITIONS = ("S0001-1987", "S0001-2015", "S0002-1993")


@dataclass
class Record:
    """What was written of a record."""

    name: str
    partition: str
    patient: str
    age: float
    sex: str
    race: str
    codes: tuple[str, ...] | None
    rate: int
    duplicate: bool
    millivolts: np.ndarray


def make(raw: Path, per_partition: int = 12) -> list[Record]:
    """Writes the data set into `raw` and returns all its records in the order of their names."""
    rng = np.random.default_rng(0)
    records, demographics, interpretations, duplicated = [], [], [], []
    for number, partition in enumerate(PARTITIONS):
        folder = partition.replace("-", "/")
        for i in range(per_partition):
            name = f"de_{(i * 7) % per_partition:03d}_{number}"
            rate = 500 if i % 3 else 250
            if i == 4:
                rate = 200  # too slow
            patient = str(1000 + i // 2 + 2 * number)
            bits = _heart(rng, rate * 10)
            if i == 1:
                bits[100:200, 6] = 5000  # beyond +-3 mV
            signal = bits / 1000
            if i in (2, 3):
                bits[: rate // 2, 7] = -32768  # invalid: a gap at the start, one inside, and one at the end
                bits[rate : rate + 40, 8] = -32768
                bits[-25:, 9] = -32768
                signal = np.where(bits == -32768, np.nan, bits / 1000)
            if i == 6:
                bits[:] = -32768
                signal = np.full(bits.shape, np.nan)
            place = raw / "ECG" / "WFDB" / folder
            place.mkdir(parents=True, exist_ok=True)
            (_write_mat if number < 2 else _write_dat)(place, name, rate, bits)
            age = np.nan if i == 5 else 15.0 + 9 * i
            sex, race = ("Male", "Female", None)[i % 3], ("White", None, "Black or African American")[i % 3]
            demographics.append((f"{folder}/{name}.hea", age, sex, race, int(patient)))
            # Not every record has an interpretation; codes are not sorted.
            codes = None if i % 5 == 4 else (str(1000 - i % 3), "22", *(("7",) if number == 2 else ()))
            if codes is not None:
                interpretations.append((name, ",".join(codes), "NORMAL SINUS RHYTHM"))
            duplicate = i == 8
            said = (sex or "Unknown", race or "Unavailable")
            if duplicate:
                duplicated.append(f"{folder}/{name}.hea")
            records.append(Record(name, partition, patient, age, *said, codes, rate, duplicate, signal))
    # Interpretations of records that nobody has count in the vocabulary.
    interpretations += [(f"elsewhere_{i}", "1699", "ATRIAL FIBRILLATION") for i in range(40)]
    metadata = raw / "Metadata"
    metadata.mkdir()
    names = ["FileName", "Age", "SexDSC", "PatientRace", "BDSPPatientID"]
    table = pd.DataFrame(demographics, columns=names).assign(ShiftedAcquisitionDate="2015-03-02")
    table.iloc[::-1].to_csv(metadata / "demographics_ECG.csv", index=False)
    names = ["file_source", "diagnostic_codes", "statements"]
    pd.DataFrame(interpretations, columns=names).to_csv(metadata / "ECG_Interpretations.psv", sep="|", index=False)
    pd.DataFrame({"file_name": duplicated}).to_csv(metadata / "duplicated.csv", index=False)
    return sorted(records, key=lambda record: record.name)


def _heart(rng: np.random.Generator, samples: int) -> np.ndarray:
    """(samples, 12) microvolts, slow enough to be resampled, whose limb leads obey the laws."""
    steps = rng.normal(scale=30, size=(samples, 12))
    signal = np.clip(np.cumsum(steps, axis=0) / 3, -1400, 1400)
    one, two = signal[:, 0], signal[:, 1]
    signal[:, 2:6] = np.stack([two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    return np.round(signal).astype(np.int16)


def _write_mat(folder: Path, name: str, rate: int, bits: np.ndarray) -> None:
    """As the Challenge writes records: a MATLAB file whose body a WFDB header describes."""
    scipy.io.savemat(folder / f"{name}.mat", {"val": np.ascontiguousarray(bits.T)}, format="4")
    lines = [f"{name} 12 {rate} {len(bits)}"]
    lines += [f"{name}.mat 16+24 1000.0(0)/mV 16 0 0 0 0 {lead}" for lead in LEADS]
    (folder / f"{name}.hea").write_text("\r\n".join(lines) + "\r\n")


def _write_dat(folder: Path, name: str, rate: int, bits: np.ndarray) -> None:
    wfdb.wrsamp(
        name, fs=rate, units=["mV"] * 12, sig_name=list(LEADS), d_signal=bits.astype(np.int64), fmt=["16"] * 12,
        adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(folder),
    )  # fmt: skip
