"""A miniature ZZU pECG: its files, columns and oddities, written by the csv module and the wfdb package."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb

LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
NINE = tuple(lead for lead in LEADS if lead not in ("V2", "V4", "V6"))

COLUMNS = (
    *("Filename", "ECG_ID", "Patient_ID", "Age", "Gender", "Acquisition_date", "Sampling_point", "Lead", "AHA_code"),
    *("CHN_code", "ICD-10 code", "pSQI", "basSQI", "bSQI"),
)

# Description, AHA code, CHN code: "N/A" where a vocabulary has none.
FINDINGS = (
    ("Normal ECG", "A1", "A1"),
    ("Sinus tachycardia", "C21", "C13"),
    ("Atrial premature complexes, nonconducted", "D31", "D22"),
    ("Left ventricular high voltage", "N/A", "J106"),
    ("ST deviation", "L145", "L121"),
    ("T-wave abnormality", "L147", "N/A"),
)
# Disease type, category, code: names over two lines, a study's prefix, and a row that is none.
DISEASES = (
    ("Myocarditis", "Acute myocarditis", "(F) I40.0"),
    ("Myocarditis", "Acute myocarditis", "I40.9"),
    ("Congenital \nheart disease", "Atrial septal defect", "(FO) Q21.1"),
    ("Congenital \nheart disease", "Ventricular septal defect", "Q21.0"),
    ("Kawasaki disease", "Kawasaki disease", "M30.3"),
    ("Other diseases(OD)", "Other", "See attribute dictionary file"),
)

# AHA cell, descriptions that the benchmark takes from it, and all its findings.
CELLS = (
    ("'A1'", ("Normal ECG",), ("Normal ECG",)),
    (
        "'C21';'Left ventricular high voltage'",
        ("Sinus tachycardia",),
        ("Sinus tachycardia", "Left ventricular high voltage"),
    ),
    ("'L145+Modifier362';'C21'", ("Sinus tachycardia",), ("ST deviation", "Sinus tachycardia")),
    (
        "'D31';'Suggests208';'L147'",
        ("Atrial premature complexes, nonconducted", "T-wave abnormality"),
        ("Atrial premature complexes, nonconducted", "T-wave abnormality"),
    ),
    ("'Left ventricular high voltage'", (), ("Left ventricular high voltage",)),
)
# Disease cell and its categories; codes without their prefix are other codes.
ILLNESSES = (
    ("'(F) I40.0'", ("Acute myocarditis",)),
    ("'(FO) Q21.1';'Q21.0'", ("Atrial septal defect", "Ventricular septal defect")),
    ("'J18.0'", ()),
    ("'Q21.1';'M30.3'", ("Kawasaki disease",)),
    ("'I40.9';'(F) I40.0'", ("Acute myocarditis", "Acute myocarditis")),
)
TYPE_OF = {category: " ".join(kind.split()) for kind, category, _ in DISEASES}


@dataclass
class Record:
    """What was written of a record."""

    name: str
    patient: str
    leads: int
    days: float
    sex: str | None
    labels: tuple[str, ...]
    findings: tuple[str, ...]
    categories: tuple[str, ...]
    millivolts: np.ndarray


def make(raw: Path) -> list[Record]:
    """Writes the data set into `raw` and returns all its records in the order of their names."""
    rng = np.random.default_rng(0)
    records, rows = [], []
    for i in range(48):
        patient = f"P{i * 2 // 3 + 1:05d}"
        name = f"{patient}_E{i % 3 + 1:02d}"
        leads = NINE if i % 8 == 5 else LEADS
        days = (1, 364, 365, 1824, 1825, 4380, 5474)[i % 7]
        sex = None if i == 9 else ("Female", "Male")[i % 2]
        cell, labels, findings = CELLS[i % 5]
        illness, categories = ILLNESSES[(i // 2) % 5]
        samples = 2500 if i % 4 else 2500 + 37 * i
        signal = _heart(rng, samples)
        if i == 3:  # saturated: the limit is 26.6 mV
            signal[100:400, 6] = -26.6
        signal = signal[:, [LEADS.index(lead) for lead in leads]]
        # Every lead of every record fills the 16 bits, as in "42444.15189873418(-13120)/mV".
        low, high = signal.min(axis=0), signal.max(axis=0)
        gains = 65000 / (high - low)
        baselines = np.round(-32500 - gains * low).astype(int)
        bits = np.round(gains * signal).astype(int) + baselines
        folder = raw / "Child_ecg" / patient[:3] / patient
        folder.mkdir(parents=True, exist_ok=True)
        wfdb.wrsamp(
            name, fs=500, units=["mV"] * len(leads), sig_name=list(leads), d_signal=bits.astype(np.int64),
            fmt=["16"] * len(leads), adc_gain=gains.tolist(), baseline=baselines.tolist(), write_dir=str(folder),
        )  # fmt: skip
        signal = (bits - baselines) / gains
        records.append(
            Record(name, patient, len(leads), days, sex and sex.lower(), labels, findings, categories, signal)
        )
        quality = ";".join(f"'{lead}':{'0.288' if lead in leads else 'Null'}" for lead in LEADS)
        rows.append(
            {
                "Filename": f"{patient[:3]}/{patient}/{name}",
                "ECG_ID": name,
                "Patient_ID": patient,
                "Age": f"{days}d",
                "Gender": f"'{sex}'" if sex else "",
                "Acquisition_date": "2017-11-22 10:46:08",
                "Sampling_point": samples,
                "Lead": len(leads),
                "AHA_code": cell,
                "CHN_code": "'J(111+112+113)';'C13'",
                "ICD-10 code": illness,
                **dict.fromkeys(("pSQI", "basSQI", "bSQI"), quality),
            }
        )
    _write(raw / "AttributesDictionary.csv", COLUMNS, [row.values() for row in reversed(rows)])
    _write(raw / "ECGCode.csv", ("Description", "AHA(Category&Code)", "CHN(Category&Code)"), FINDINGS)
    _write(
        raw / "DiseaseCode.csv",
        ("Disease Type", "Disease Category", "ICD-10 Code", "ICD-10 Description"),
        [(*disease, "as the code") for disease in DISEASES],
    )
    return sorted(records, key=lambda record: record.name)


def _heart(rng: np.random.Generator, samples: int) -> np.ndarray:
    """(samples, 12) mV whose limb leads obey the laws."""
    signal = rng.normal(scale=0.7, size=(samples, 12))
    one, two = signal[:, 0], signal[:, 1]
    signal[:, 2:6] = np.stack([two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    return signal


def _write(path: Path, columns, rows) -> None:
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
