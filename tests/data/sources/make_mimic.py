"""A miniature of MIMIC-IV-ECG and of its tables, written without ecgjax; and runs of the source."""

import argparse
import gzip
import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from ecgjax.data.preparation.source import Labels
from ecgjax.data.sources import mimic

ARCHIVE = "mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0"
LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")  # As stored: aVF before aVL.
GAIN = 200.0
CODES = ("I4891", "I2510", "I10", "E785", "T07XXXA", "S72001A", "V45", "Z79", "I4", " E1165 ", "M1A00X0")
ACUTE = (
    *("severe_hypoxemia", "ecmo", "vasopressors", "inotropes", "mechanical_ventilation", "cardiac_arrest"),
    *("icu_24h", "icu_stay", "mortality_1d", "mortality_7d", "mortality_28d", "mortality_90d", "mortality_180d"),
    *("mortality_365d", "mortality_stay"),
)
LABS = {
    50963: ("NTproBNP", "pg/mL"), 51222: ("Hemoglobin", "g/dL"), 51640: ("Hemoglobin", "g/dL"),
    50912: ("Creatinine", "mg/dL"), 50862: ("Albumin", "g/dL"), 53085: ("Albumin", "g/dL"), 51221: ("Hematocrit", "%"),
    51237: ("INR(PT)", None), 51274: ("PT", "sec"), 50885: ("Bilirubin, Total", "mg/dL"), 51277: ("RDW", "%"),
    50983: ("Sodium", "mEq/L"),
}  # fmt: skip
CHART = {
    220045: ("Heart Rate", "bpm", 80, 15), 220210: ("Respiratory Rate", "insp/min", 18, 4),
    220277: ("O2 saturation pulseoxymetry", "%", 96, 2), 223761: ("Temperature Fahrenheit", "°F", 98.6, 1),
    223762: ("Temperature Celsius", "°C", 37, 0.6), 224639: ("Daily Weight", "kg", 80, 15),
    226512: ("Admission Weight (Kg)", "kg", 82, 15), 226531: ("Admission Weight (lbs.)", None, 999, 9),
    226707: ("Height", "Inch", 67, 3), 226730: ("Height (cm)", "cm", 170, 9), 220228: ("Hemoglobin", "g/dl", 11, 2),
    220615: ("Creatinine (serum)", "mg/dL", 1.2, 0.4), 227456: ("Albumin", "g/dL", 3.5, 0.5),
    220545: ("Hematocrit (serum)", "%", 34, 5), 225690: ("Total Bilirubin", "mg/dL", 1.0, 0.5),
    227073: ("Anion Gap", "mEq/L", 12, 3), 223792: ("Safety Measures", None, 1, 0),
}  # fmt: skip
RARE = 226730  # Fewer than 1,000 rows: Height (cm) must not count.


@dataclass
class Mimic:
    """What was written: the folder, the tables as data frames, and samples by study in the stored lead order."""

    raw: Path
    records: pd.DataFrame
    measurements: pd.DataFrame
    mds_ed: pd.DataFrame
    omr: pd.DataFrame
    vitalsign: pd.DataFrame
    labevents: pd.DataFrame
    chartevents: pd.DataFrame
    samples: dict[int, np.ndarray]


def make(raw: Path, *, samples: int = 5000, chart_rows: int = 1020, seed: int = 0) -> Mimic:
    """Writes everything below `raw`, side by side."""
    rng = np.random.default_rng(seed)
    raw.mkdir(parents=True, exist_ok=True)
    records = _records(rng)
    ecgs = records.sample(frac=1, random_state=1)  # Another order in every table.
    made = Mimic(
        raw, records, _measurements(ecgs, rng), _mds_ed(ecgs, rng), _omr(ecgs, rng), _vitalsign(ecgs, rng),
        _labevents(ecgs, rng), _chartevents(ecgs, rng, chart_rows), _samples(records, samples, rng),
    )  # fmt: skip
    records.to_csv(raw / "records_w_diag_icd10.csv")  # With pandas' index as a nameless first column.
    made.measurements.to_csv(raw / "machine_measurements.csv", index=False)
    made.mds_ed.to_csv(raw / "mds_ed.csv", index=False)
    for name in ("omr", "vitalsign", "labevents", "chartevents"):
        with gzip.open(raw / f"{name}.csv.gz", "wt", newline="") as file:
            getattr(made, name).to_csv(file, index=False)
    _gz(raw, "d_labitems", [(i, label, "Blood", "Chemistry") for i, (label, _) in LABS.items()], "fluid", "category")
    _gz(raw, "d_items", [(i, c[0], c[0], "metavision") for i, c in CHART.items()], "abbreviation", "linksto")
    write_archive(raw / f"{ARCHIVE}.zip", records, made.samples)
    return made


def write_archive(path: Path, records: pd.DataFrame, samples: dict[int, np.ndarray], **options) -> None:
    """The records in a zip as PhysioNet packs it, in an order of their own."""
    some, folder = first_studies(records)[:3], path.with_suffix(".one")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        archive.writestr(f"{ARCHIVE}/LICENSE.txt", "ODbL")
        archive.writestr(f"{ARCHIVE}/record_list.csv", "subject_id,study_id\n")
        for row in records.sort_values("study_id").itertuples():
            for file in write_record(folder, row, samples[row.study_id], by_wfdb=row.study_id in some):
                archive.write(file, f"{ARCHIVE}/files/{place(row)}/{file.name}")
    shutil.rmtree(folder)


def write_record(folder: Path, row, x: np.ndarray, *, by_wfdb: bool = False) -> list[Path]:
    """One WFDB record; by hand, because the package takes tenths of a second."""
    folder.mkdir(parents=True, exist_ok=True)
    when, files = pd.Timestamp(row.ecg_time), [folder / f"{row.study_id}.hea", folder / f"{row.study_id}.dat"]
    if by_wfdb:
        wfdb.wrsamp(
            str(row.study_id), fs=500, units=["mV"] * 12, sig_name=list(LEADS), d_signal=x.astype(np.int64),
            fmt=["16"] * 12, adc_gain=[GAIN] * 12, baseline=[0] * 12, write_dir=str(folder),
            base_time=when.time(), base_date=when.date(),
        )  # fmt: skip
        return files
    lines = [f"{row.study_id} 12 500 {len(x)} {when:%H:%M:%S %d/%m/%Y}"]
    for lead, values in zip(LEADS, x.T, strict=True):
        checksum = int(values.sum(dtype=np.int64)) % 2**16
        checksum -= 2**16 * (checksum >= 2**15)
        lines.append(f"{row.study_id}.dat 16 200.0(0)/mV 16 0 {values[0]} {checksum} 0 {lead}")
    files[0].write_text("\n".join(lines) + "\n")
    files[1].write_bytes(x.astype("<i2").tobytes())
    return files


def options(raw: Path, work: Path, **given) -> argparse.Namespace:
    """Options as the command line gives them, with fewer records for a code."""
    defaults = {
        "protocol": "default", "limit": None, "code_count": 15, "without": "", "all_records": False, "min_count": 10,
    }  # fmt: skip
    return argparse.Namespace(raw=raw, work=work, **{**defaults, **given})


def labelled(raw: Path, work: Path, **given) -> tuple[pd.DataFrame, Labels]:
    """Listing and labels of the source, without reading signals."""
    chosen = options(raw, work, **given)
    table = mimic.listing(raw, chosen)
    return table, mimic.label(table, chosen)


def place(row) -> str:
    """Folder of a record below files/."""
    return f"p{row.subject_id // 10000:04d}/p{row.subject_id}/s{row.study_id}"


def _gz(raw: Path, name: str, rows: list[tuple], *more: str) -> None:
    buffer = io.StringIO()
    pd.DataFrame(rows, columns=["itemid", "label", *more]).to_csv(buffer, index=False)
    (raw / f"{name}.csv.gz").write_bytes(gzip.compress(buffer.getvalue().encode()))


def _records(rng: np.random.Generator) -> pd.DataFrame:
    rows, study = [], 40000000
    for patient in range(28):  # The last four are never in the emergency department.
        subject = 10000032 + 9973 * patient
        strat, fold = (
            (patient, int(rng.integers(0, 20))) if patient < 20 else (int(rng.integers(0, 17)), 19 - patient % 2)
        )
        gender, anchor = rng.choice(["F", "M", "missing"], p=[0.45, 0.45, 0.1]), int(rng.choice([40, 63, 88, 91]))
        start = pd.Timestamp("2130-01-01") + pd.Timedelta(hours=int(rng.integers(0, 400_000)))
        for i in range(int(rng.integers(2, 5))):
            study += int(rng.integers(1, 90000))
            when = start + pd.Timedelta(minutes=int(rng.integers(30, 3000)) * i)
            emergency = patient < 24 and bool(i == 0 or rng.random() < 0.7)
            codes = [str(code) for code in rng.choice(CODES, int(rng.integers(0 if i else 1, 6)))]
            rows.append(
                {
                    "file_name": f"{ARCHIVE}/files/p{subject // 10000:04d}/p{subject}/s{study}/{study}",
                    "study_id": study, "subject_id": subject, "ecg_time": str(when), "ed_stay_id": 3e7 + patient,
                    "ed_hadm_id": np.nan, "hosp_hadm_id": np.nan, "ed_diag_ed": "[]", "ed_diag_hosp": "[]",
                    "hosp_diag_hosp": "[]", "all_diag_hosp": "[]", "all_diag_all": str(codes), "gender": gender,
                    "age": float(anchor + 2), "anchor_year": 2128, "anchor_age": float(anchor), "dod": np.nan,
                    "ecg_no_within_stay": i if emergency else -1, "ecg_taken_in_ed": emergency,
                    "ecg_taken_in_hosp": not emergency, "ecg_taken_in_ed_or_hosp": True, "fold": fold,
                    "strat_fold": strat,
                }
            )  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def _measurements(ecgs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = len(ecgs)
    table = pd.DataFrame(
        {
            "subject_id": ecgs["subject_id"], "study_id": ecgs["study_id"], "cart_id": 6848296,
            "ecg_time": ecgs["ecg_time"], "report_0": 'Sinus rhythm, "normal"', "report_1": None,
            "bandwidth": "0.005-150 Hz",
            "filtering": "60 Hz notch", "rr_interval": rng.integers(500, 1200, n), "p_onset": 40, "p_end": 150,
            "qrs_onset": rng.integers(170, 200, n), "qrs_end": rng.integers(260, 320, n),
            "t_end": rng.integers(500, 650, n), "p_axis": rng.integers(-90, 180, n),
            "qrs_axis": rng.integers(-360, 361, n),
            "t_axis": rng.integers(-90, 180, n),
        }
    )  # fmt: skip
    for column, value in (
        ("rr_interval", 65535), ("rr_interval", 0), ("qrs_onset", 29999), ("qrs_end", 29999), ("t_end", 29999),
        ("p_axis", 29999), ("qrs_axis", 32767), ("t_axis", -32768), ("qrs_axis", -361), ("t_end", 5000), ("t_end", 100),
    ):  # fmt: skip
        table.loc[table.index[rng.choice(n, 3, replace=False)], column] = value
    return table.iloc[: n - 2]  # Two studies were not measured.


def _mds_ed(ecgs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    some = ecgs.sample(frac=0.7, random_state=2)
    table = pd.DataFrame(
        {
            "general_subject_id": some["subject_id"], "general_data": np.arange(len(some))[::-1],
            "general_study_id": some["study_id"], "general_strat_fold": some["strat_fold"],
            "vitals_heartrate": 80.0,
        }
    )  # fmt: skip
    for name in ACUTE:
        table[f"deterioration_{name}"] = rng.choice([0.0, 1.0, -999.0], len(some), p=[0.6, 0.2, 0.2])
    return table


def _around(ecgs: pd.DataFrame, rng: np.random.Generator, n: int, hours: float) -> tuple[np.ndarray, pd.Series]:
    """Subjects and times, most of them around their ECGs, some exactly at the limit of an hour."""
    chosen = ecgs.iloc[rng.integers(0, len(ecgs), n)]
    seconds = rng.choice([-3600, 3600, 3601, -3601, 0, 1800, -1800], n)
    spread = np.round(rng.normal(0, hours * 3600, n))
    shift = np.where(rng.random(n) < 0.2, seconds, spread)
    times = pd.to_datetime(chosen["ecg_time"]).to_numpy() + shift.astype("timedelta64[s]")
    subjects = chosen["subject_id"].to_numpy().copy()
    strangers = rng.random(n) < 0.15
    subjects[strangers] = 19_000_000 + rng.integers(0, 5, strangers.sum())
    return subjects, pd.Series(times)


def _skewed(rng: np.random.Generator, subjects: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Few distinct values, some far out; those of patients without an ECG are higher."""
    n = len(subjects)
    x = (
        rng.normal(mean, sd, n)
        * np.where(subjects >= 19_000_000, 1.3, 1)
        * np.where(rng.random(n) < 0.02, rng.choice([0.1, 10], n), 1)
    )
    return np.round(x, 1)


def _omr(ecgs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = 1500
    subjects, times = _around(ecgs, rng, n, 24 * 15)
    name = rng.choice(["Height (Inches)", "Weight (Lbs)", "BMI (kg/m2)", "Blood Pressure", "Height"], n)
    mean = pd.Series(name).map({"Height (Inches)": 66, "Weight (Lbs)": 180, "BMI (kg/m2)": 28}).fillna(120).to_numpy()
    value = np.array([str(v) for v in np.round(rng.normal(mean, mean / 8), 1)], object)
    value[name == "Blood Pressure"] = "110/65"
    value[rng.random(n) < 0.02] = "refused"
    value[rng.random(n) < 0.02] = None
    date = times.dt.strftime("%Y-%m-%d")
    return pd.DataFrame(
        {"subject_id": subjects, "chartdate": date, "seq_num": 1, "result_name": name, "result_value": value}
    )


def _vitalsign(ecgs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = 1200
    subjects, times = _around(ecgs, rng, n, 1.0)
    table = pd.DataFrame({"subject_id": subjects, "stay_id": 3e7, "charttime": times})
    for name, mean, sd in (
        ("temperature", 98, 1), ("heartrate", 85, 15), ("resprate", 18, 3), ("o2sat", 97, 2), ("sbp", 130, 20),
        ("dbp", 75, 12),
    ):  # fmt: skip
        table[name] = _skewed(rng, subjects, mean, sd)
        table.loc[rng.random(n) < 0.1, name] = np.nan
    table["rhythm"], table["pain"] = None, "7, crampy"
    return table


def _labevents(ecgs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = 5000
    subjects, times = _around(ecgs, rng, n, 1.0)
    weight = np.array([3.0 if item in (51222, 50862) else 1.0 for item in LABS])
    item = rng.choice(list(LABS), n, p=weight / weight.sum())
    unit = pd.Series(item).map({i: unit for i, (_, unit) in LABS.items()}).astype(object)
    unit[rng.random(n) < 0.1] = "g/L"
    unit[rng.random(n) < 0.1] = None
    value = _skewed(rng, subjects, 10, 3)
    value[rng.random(n) < 0.05] = np.nan
    store = times.where(rng.random(n) > 0.05)
    return pd.DataFrame(
        {
            "labevent_id": np.arange(n), "subject_id": subjects, "hadm_id": None, "specimen_id": 1, "itemid": item,
            "order_provider_id": None, "charttime": times - pd.Timedelta(hours=2), "storetime": store, "value": "___",
            "valuenum": value, "valueuom": unit, "ref_range_lower": 1.0, "ref_range_upper": None, "flag": None,
            "priority": "ROUTINE", "comments": rng.choice(['said "high",\nthen 1,2', "IF "" >60", "", "___"], n),
        }
    )  # fmt: skip


def _chartevents(ecgs: pd.DataFrame, rng: np.random.Generator, rows: int) -> pd.DataFrame:
    item = np.repeat(list(CHART), [400 if i == RARE else rows + 600 for i in CHART])
    rng.shuffle(item)
    n = len(item)
    subjects, times = _around(ecgs, rng, n, 24.0)
    mean, sd = (pd.Series(item).map({i: c[k] for i, c in CHART.items()}).to_numpy(float) for k in (2, 3))
    unit = pd.Series(item).map({i: c[1] for i, c in CHART.items()}).astype(object)
    unit[rng.random(n) < 0.05] = None
    value = np.round(rng.normal(mean, sd), 1)
    value[rng.random(n) < 0.03] = np.nan
    return pd.DataFrame(
        {
            "subject_id": subjects, "hadm_id": 2, "stay_id": 3, "caregiver_id": 4, "charttime": times,
            "storetime": times.where(rng.random(n) > 0.02), "itemid": item, "value": "text, with comma",
            "valuenum": value, "valueuom": unit, "warning": 0,
        }
    )  # fmt: skip


def _samples(records: pd.DataFrame, n: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """(n, 12) int16 by study; limb leads obey Einthoven and Goldberger.

    Of the first records of the first three patients one has gaps, one a lead without values, and one exceeds 3 mV.
    """
    made = {}
    for study in records["study_id"]:
        x = 2 * rng.integers(-150, 150, (n, 12))
        one, two = x[:, 0], x[:, 1]
        x[:, 2], x[:, 3], x[:, 4], x[:, 5] = two - one, -(one + two) // 2, two - one // 2, one - two // 2
        made[int(study)] = x.astype(np.int16)
    gaps, empty, high = (made[study] for study in first_studies(records)[:3])
    gaps[:5, 4] = gaps[100:150, 4] = gaps[-7:, 4] = gaps[200, 8] = -32768
    empty[:, 11] = -32768
    high[300:310, 6], high[320, 7] = 2000, -601
    return made


def first_studies(records: pd.DataFrame) -> list[int]:
    """The first record of each patient; all are of the cohort, but where another of the stay is asked for."""
    first = records[records["ecg_no_within_stay"] == 0].sort_values("subject_id")
    return [int(study) for study in first["study_id"]]
