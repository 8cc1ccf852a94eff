"""A miniature EchoNext 1.1.0: its files, columns and oddities, written with the csv module and NumPy."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FLAGS = (
    "lvef_lte_45_flag",
    "lvwt_gte_13_flag",
    "aortic_stenosis_moderate_or_greater_flag",
    "aortic_regurgitation_moderate_or_greater_flag",
    "mitral_regurgitation_moderate_or_greater_flag",
    "tricuspid_regurgitation_moderate_or_greater_flag",
    "pulmonary_regurgitation_moderate_or_greater_flag",
    "rv_systolic_dysfunction_moderate_or_greater_flag",
    "pericardial_effusion_moderate_large_flag",
    "pasp_gte_45_flag",
    "tr_max_gte_32_flag",
)
ORDINAL = (
    "aortic_stenosis_value",
    "aortic_regurgitation_value",
    "mitral_regurgitation_value",
    "tricuspid_regurgitation_value",
    "pulmonary_regurgitation_value",
    "rv_systolic_function_value",
    "pericardial_effusion_value",
)
COLUMNS = (
    *("ecg_key", "patient_key", "acquisition_year", "location_setting", "race_ethnicity", "most_recent_ecg", "sex"),
    *("ventricular_rate", "atrial_rate", "pr_interval", "qrs_duration", "qt_corrected", "age_at_ecg"),
    *("aortic_stenosis_value", "aortic_regurgitation_value", "mitral_regurgitation_value"),
    *("tricuspid_regurgitation_value", "pulmonary_regurgitation_value", "rv_systolic_function_value"),
    *("pericardial_effusion_value", "ivs_measurement", "lvpw_measurement", "pasp_value", "tr_max_velocity_value"),
    *("lvef_value", *FLAGS, "shd_moderate_or_greater_flag", "split"),
)
SPLITS = ("train", "val", "test", "no_split")


@dataclass
class Record:
    """What was written of an ECG."""

    key: str
    patient: str
    split: str
    age: float
    sex: str
    flags: np.ndarray
    cells: dict[str, object]
    waveform: np.ndarray
    tabular: np.ndarray


def make(raw: Path) -> list[Record]:
    """Writes the data set into `raw` and returns its ECGs in the order of the metadata."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(60):
        # Not in the order train, val, test, no_split; and keys do not grow along the file.
        split = ("train", "no_split", "train", "test", "train", "val")[i % 6] if i < 36 else "train"
        patient = f"{100 + (i % 17 if split == 'train' else 200 + i)}"
        flags = (rng.random(len(FLAGS)) < 0.25).astype(int)
        if patient in ("103", "105"):  # patients without any positive finding
            flags[:] = 0
        key = str(5000 + (i * 37) % 60)
        cells = dict.fromkeys(COLUMNS, "")
        cells |= dict(zip(FLAGS, flags.tolist(), strict=True))
        cells |= {
            "ecg_key": key,
            "patient_key": patient,
            "acquisition_year": 2010 + i % 8,
            "location_setting": ("inpatient", "emergency", "outpatient", "procedural")[i % 4],
            "race_ethnicity": ("hispanic", "white", "black", "unknown", "other", "asian")[i % 6],
            "most_recent_ecg": i % 2,
            "sex": i % 2,
            "ventricular_rate": 60.0 + i,
            "atrial_rate": "" if i == 7 else 61.0 + i,
            "pr_interval": "" if i == 8 else 150.0,
            "qrs_duration": 90.0,
            "qt_corrected": 420.0,
            "age_at_ecg": 90 if i == 5 else 40 + i % 40,
            "shd_moderate_or_greater_flag": int(flags.any()),
            "split": split,
        }
        # Half of the ECGs have no measurement at all: their flags are 0 or come from elsewhere.
        if i % 2:
            cells |= dict.fromkeys(ORDINAL, "presumed none" if i % 3 else "mild")
            cells |= {"lvef_value": 55.5 + i % 5, "pasp_value": 40.0, "tr_max_velocity_value": 2.5}
            cells |= {"ivs_measurement": 1.1} if i % 3 else {"lvpw_measurement": 0.9}
        waveform = np.round(rng.normal(size=(2500, 12)), 6)
        tabular = rng.normal(size=7)
        age, sex = float(cells["age_at_ecg"]), "male" if i % 2 else "female"
        records.append(Record(key, patient, split, age, sex, flags, cells, waveform, tabular))
    raw.mkdir(parents=True, exist_ok=True)
    # The README says EchoNext_metadata_100k.csv; the file is in lower case.
    with open(raw / "echonext_metadata_100k.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(record.cells for record in records)
    for split in SPLITS:
        own = [record for record in records if record.split == split]
        np.save(raw / f"EchoNext_{split}_waveforms.npy", np.stack([record.waveform for record in own])[:, None])
        np.save(raw / f"EchoNext_{split}_tabular_features.npy", np.stack([record.tabular for record in own]))
    return records
