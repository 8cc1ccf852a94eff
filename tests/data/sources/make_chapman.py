"""A miniature Chapman-Shaoxing of 2020: workbook by openpyxl, signals as CSV text in microvolts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openpyxl

from tests.data.wfdb_files import bits

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
COLUMNS = (
    *("FileName", "Rhythm", "Beat", "PatientAge", "Gender", "VentricularRate", "AtrialRate", "QRSDuration"),
    *("QTInterval", "QTCorrected", "RAxis", "TAxis", "QRSCount", "QOnset", "QOffset", "TOffset"),
)
RHYTHMS = ("SB", "SR", "AFIB", "ST", "SVT", "SB", "AF", "SB")
BEATS = ("RBBB TWC", "NONE", "TWC", "NONE", "PVC", "RBBB", "NONE", "TWC  STDD")
STEP = 4.88  # Microvolts.


@dataclass
class Record:
    """What was written of a record."""

    name: str
    age: int
    sex: str
    rhythm: str
    conditions: tuple[str, ...]
    millivolts: np.ndarray


def make(raw: Path, records: int = 40, samples: int = 60) -> list[Record]:
    """Writes the data set into `raw` and returns its records in the order of their names."""
    made = []
    for folder in ("ECGData", "ECGDataDenoised"):
        (raw / folder).mkdir(parents=True)
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.append(COLUMNS)
    for i in range(records):
        # Neither the rows nor the dates are in the order of the names.
        name = f"MUSE_2018{1 + i * 7 % 12:02d}13_17{i:02d}27_{27000 + 1000 * (i % 3)}"
        rhythm, beat, sex = RHYTHMS[i % 8], BEATS[i % 8], "MALE" if i % 3 else "FEMALE"
        sheet.append([name, rhythm, beat, 20 + i, sex, 60 + i, 60, 114, 356, 432, 81, -27, 10, 208, 265, 386])
        microvolts = bits(samples, seed=i, peak=200) * STEP
        _write(raw / "ECGData" / f"{name}.csv", microvolts, ",".join(LEADS))
        _write(raw / "ECGDataDenoised" / f"{name}.csv", microvolts / 2, None)
        conditions = tuple(part for part in beat.split() if part != "NONE")
        made.append(Record(name, 20 + i, sex.lower(), rhythm, conditions, microvolts / 1000))
    workbook.save(raw / "Diagnostics.xlsx")
    for other in ("AttributesDictionary", "ConditionNames", "RhythmNames"):
        openpyxl.Workbook().save(raw / f"{other}.xlsx")
    return sorted(made, key=lambda record: record.name)


def _write(path: Path, microvolts: np.ndarray, header: str | None) -> None:
    lines = [] if header is None else [header]
    lines += [",".join(f"{value:.5g}" if value == 0 else repr(round(float(value), 2)) for value in row)
              for row in microvolts]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
