"""A miniature PTB database: 15 signals in two files, CRLF headers, 48 comments with one key twice, free text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb

from tests.data.wfdb_files import bits, checksum

LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")
FRANK = ("vx", "vy", "vz")
MI = "Myocardial infarction"

# The headers' comments in order; a blank line before those that are none (None). Cells left out are "n/a".
COMMENTS = (
    *("age", "sex", "ECG date", None, "Diagnose", "Reason for admission", "Acute infarction (localization)"),
    *("Former infarction (localization)", "Additional diagnoses", "Smoker", "Number of coronary vessels involved"),
    *("Infarction date (acute)", "Previous infarction (1) date", "Previous infarction (2) date", None),
    *("Hemodynamics", "Catheterization date", "Ventriculography", "Chest X-ray"),
    *("Peripheral blood Pressure (syst/diast)", "Pulmonary artery pressure (at rest) (syst/diast)"),
    *("Pulmonary artery pressure (at rest) (mean)", "Pulmonary capillary wedge pressure (at rest)"),
    *("Cardiac output (at rest)", "Cardiac index (at rest)", "Stroke volume index (at rest)"),
    *("Pulmonary artery pressure (laod) (syst/diast)", "Pulmonary artery pressure (laod) (mean)"),
    *("Pulmonary capillary wedge pressure (load)", "Cardiac output (load)", "Cardiac index (load)"),
    *("Stroke volume index (load)", "Aorta (at rest) (syst/diast)", "Aorta (at rest) mean"),
    *("Left ventricular enddiastolic pressure", "Left coronary artery stenoses (RIVA)"),
    *("Left coronary artery stenoses (RCX)", "Right coronary artery stenoses (RCA)", "Echocardiography", None),
    *("Therapy", "Infarction date", "Catheterization date", "Admission date", "Medication pre admission"),
    *("Start lysis therapy (hh.mm)", "Lytic agent", "Dosage (lytic agent)", "Additional medication"),
    *("In hospital medication", "Medication after discharge"),
)
TITLES = ("Diagnose", "Hemodynamics", "Therapy")


@dataclass
class Record:
    """What was written of a record, and the labels that follow."""

    name: str
    patient: str
    age: float | None
    sex: str | None
    labels: tuple[str, ...]
    millivolts: np.ndarray
    paper: tuple[str, ...] | None = None  # Where the benchmark's own preparation gets others.


# Record: patient, age, sex, ECG date, reason, additional, infarction date, first and second date of catheterisation,
# labels, labels of the benchmark's own preparation where they differ.
ROWS = (
    # As the genuine first record: catheterised two weeks after the ECG, which counts.
    ("s0010_re", 1, "81", "female", "01/10/1990", MI, "Diabetes mellitus", "29-Sep-90", "16-Oct-90", "16-Oct-90",
     (f"{MI} acute catheterized", "Diabetes mellitus"), None),
    ("s0014lre", 1, "81", "female", "05/10/1990", MI, "Diabetes mellitus", "29-Sep-90", "16-Oct-90", "16-Oct-90",
     (f"{MI} old", "Diabetes mellitus"), None),  # Six days.
    ("s0017lre", 2, "58", "male", "02/10/1990", MI, "no", "29-Sep-90", "n/a", "-",
     (f"{MI} acute",), None),  # Three days, never catheterised.
    ("s0020are", 3, "60", "male", "29/09/1990", MI, "n/a", "29-Sep-90", "n/a", "28-Sep-90",
     (f"{MI} acute",), None),  # The day itself; catheterised the day before.
    ("s0021are", 4, "60", "male", "30/09/1990", MI, "Arterial Hypertension, Hyperlipidemia", "29-Sep-90", "30-Sep-90",
     "n/a", (f"{MI} acute catheterized", "Arterial hypertension", "Hyperlipoproteinemia"),
     (f"{MI} acute", "Arterial hypertension", "Hyperlipoproteinemia")),  # The first of two dates alone.
    ("s0025lre", 5, "44", "male", "28/09/1990", MI, "Obesity", "29-Sep-90", "n/a", "n/a",
     (f"{MI} old", "Obesity"), None),  # Before the infarction.
    ("s0026lre", 6, "44", "male", "n/a", MI, "Obesity", "29-Sep-90", "n/a", "n/a", (f"{MI} old", "Obesity"), None),
    ("s0027lre", 7, "44", "male", "30/09/1990", MI, "Obesity", "n/a", "n/a", "n/a", (f"{MI} old", "Obesity"), None),
    ("s0300lre", 8, "n/a", "", "01/02/1991", "Healthy control", "no", "n/a", "n/a", "n/a", ("Healthy control",), None),
    ("s0301lre", 8, "35,5", "male", "01/02/1991", "Healthy control", "unknown", "n/a", "n/a", "n/a",
     ("Healthy control",), None),
    ("s0302lre", 9, "35", "male", "01/02/1991", "n/a", "n/a", "n/a", "n/a", "n/a", (), None),
    ("s0303lre", 10, "35", "male", "01/02/1991", "n/a", "M. Bechterew, M. Basedow", "n/a", "n/a", "n/a", (), None),
    ("s0304lre", 11, "35", "male", "01/02/1991", "Coronary artery disease (PTCA+Stent) ", "no", "n/a", "n/a", "n/a",
     ("Coronary artery disease",), ("Coronary artery disease (PTCA+Stent)",)),
    ("s0305lre", 12, "35", "male", "01/02/1991", "Unstable angina",
     "Hyperlipoproteinemia Type IV b,Hyperlipoproteinemia Typ IIa, Postop. Thyriodectomy", "n/a", "n/a", "n/a",
     ("Unstable angina", "Hyperlipoproteinemia", "Hyperlipoproteinemia", "Postop. Thyroidectomy"), None),
    ("s0306lre", 12, "35", "male", "01/02/1991",
     "Hypertrophic obstructive cardiomyopathy (intraventricular gradient 70-90mmHg)",
     "Recurrent ventricular tachycardias, peripheral atherosclerosis, Mitral regurgitation (grade 2)", "n/a", "n/a",
     "n/a", ("Hypertrophic obstructive cardiomyopathy", "Ventricular tachycardia", "Peripheral atherosclerosis",
             "Mitral regurgitation"), None),
)  # fmt: skip


def make(raw: Path) -> list[Record]:
    """Writes the data set into `raw` and returns its records in the order of their names."""
    records = []
    for i, row in enumerate(ROWS):
        name, number, age, sex, ecg_date, reason, additional, infarction, first, second, labels, paper = row
        patient = f"patient{number:03d}"
        samples = 90 + 10 * (i % 4)
        x = np.concatenate([bits(samples, seed=i), bits(samples, 3, seed=100 + i)], axis=1)
        cells = {
            "age": age, "sex": sex, "ECG date": ecg_date, "Reason for admission": reason, "Smoker": "no",
            "Acute infarction (localization)": "infero-latera", "Former infarction (localization)": "no",
            "Additional diagnoses": additional, "Infarction date (acute)": infarction,
            "Start lysis therapy (hh.mm)": "19:45", "Cardiac output (load)": "4,77 l/min",
        }  # fmt: skip
        write(raw / patient, name, x, cells, [first, second])
        years = {"n/a": None, "35,5": 35.5}.get(age, float(age) if age.isdigit() else None)
        records.append(Record(name, patient, years, sex or None, labels, x[:, :12] / 2000, paper))
    (raw / "RECORDS").write_text("".join(f"{record.patient}/{record.name}\n" for record in records))
    (raw / "CONTROLS").write_text("patient008/s0300lre\npatient008/s0301lre\n")
    return records


def write(folder: Path, name: str, x: np.ndarray, cells: dict[str, str], catheterizations: list[str]) -> None:
    """One record: signals through the wfdb package, the header by hand (the package writes neither CRLF nor blanks)."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"{name}.dat"] * 12 + [f"{name}.xyz"] * 3
    wfdb.io._signal.wr_dat_file(f"{name}.dat", "16", x[:, :12].astype(np.int64), 0, write_dir=str(folder))
    wfdb.io._signal.wr_dat_file(f"{name}.xyz", "16", x[:, 12:].astype(np.int64), 0, write_dir=str(folder))
    lines = [f"{name} 15 1000 {len(x)}"]
    for i, (file, lead) in enumerate(zip(files, LEADS + FRANK, strict=True)):
        lines.append(f"{file} 16 2000 16 0 {x[0, i]} {checksum(x[:, i])} 0 {lead}")
    lines.append("")
    dates = iter(catheterizations)
    for key in COMMENTS:
        if key is None:
            lines.append("")
        elif key in TITLES:
            lines.append(f"# {key}:")
        else:
            lines.append(f"# {key}: {next(dates) if key == 'Catheterization date' else cells.get(key, 'n/a')}")
    (folder / f"{name}.hea").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
