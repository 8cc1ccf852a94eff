"""Miniatures of CODE-15% and CODE-test: HDF5 by h5py, tables by the csv module."""

import csv
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

SAMPLES = 4096
CODE15_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
CODE_TEST_LEADS = ("I", "II", "III", "aVL", "aVF", "aVR", "V1", "V2", "V3", "V4", "V5", "V6")
COLUMNS = (
    *("exam_id", "age", "is_male", "nn_predicted_age", "1dAVb", "RBBB", "LBBB", "SB", "ST", "AF"),
    *("patient_id", "death", "timey", "normal_ecg", "trace_file"),
)
FLAGS = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")  # as in the file: ST before AF
ANNOTATORS = (
    *("gold_standard", "cardiologist1", "cardiologist2", "cardiology_residents", "emergency_residents"),
    *("medical_students", "dnn"),
)


@dataclass
class Exam:
    """An exam as written; `signal` is (samples, 12) in canonical order, what was recorded."""

    exam_id: int
    patient_id: int
    signal: np.ndarray
    start: int
    flags: tuple[str, ...] = ()
    age: int = 50
    male: bool = True
    normal: bool = False
    listed: bool = True


def signal(seed: int, samples: int, leads: tuple[str, ...] = CODE15_LEADS) -> np.ndarray:
    """(samples, 12) float32 mV that obey Einthoven's law; no sample has zeros in all leads."""
    rng = np.random.default_rng(seed)
    one, two = np.cumsum(rng.normal(0, 0.01, (2, samples)), axis=1)
    by_name = {
        "I": one,
        "II": two,
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
    by_name |= {f"V{i}": rng.normal(0, 0.5, samples) for i in range(1, 7)}
    return np.stack([by_name[lead] for lead in leads], axis=1).astype(np.float32)


def padded(values: np.ndarray, start: int) -> np.ndarray:
    tracing = np.zeros((SAMPLES, 12), values.dtype)
    tracing[start : start + len(values)] = values
    return tracing


def make_code15(raw: Path, *, parts_in: str = "") -> list[Exam]:
    """Two parts (numbers 0 and 17) and exams.csv, with every oddity.

    Args:
        raw: folder to write to.
        parts_in: folder of the parts below it.

    Returns:
        The exams in the order of the parts.
    """
    exams = []
    for i in range(24):
        seconds7 = i % 4 == 3
        samples = 2800 if seconds7 else 4000
        exam = Exam(900000 - 371 * i, 70 + i // 2, signal(i, samples), (SAMPLES - samples) // 2)
        exam.flags = ((), ("AF",), ("ST",), ("1dAVb", "RBBB"), (), ("LBBB",), ("SB",))[i % 7]
        exam.age, exam.male, exam.normal = 17 + 3 * i, i % 2 == 0, not exam.flags and i % 3 > 0
        exams.append(exam)
    exams[4].signal[:50] = 0  # a lead-off at the start of a 10 s exam
    exams[5].signal[1000:1011] = 0  # zeros inside
    exams[6].signal, exams[6].start = signal(6, 4001), 47  # an odd number of zeros
    exams[7].signal[:] = 0  # nothing at all
    exams[9].signal = exams[8].signal.copy()  # byte for byte, of the same patient
    exams[10].signal = exams[8].signal.copy()  # and of another
    exams[11].listed = False
    folder = raw / parts_in
    folder.mkdir(parents=True, exist_ok=True)
    # The last part's rows are compressed together, the first one's are not.
    for number, own, options in (
        (0, exams[:14], {}),
        (17, exams[14:], {"chunks": (4, 4096, 12), "compression": "gzip"}),
    ):
        with h5py.File(folder / f"exams_part{number}.hdf5", "w") as file:
            file["exam_id"] = np.array([exam.exam_id for exam in own] + [0])
            tracings = np.stack([padded(exam.signal, exam.start) for exam in own] + [padded(np.zeros((1, 12)), 0)])
            file.create_dataset("tracings", data=tracings.astype(np.float32), **options)
    rows = [
        {
            "exam_id": exam.exam_id,
            "age": exam.age,
            "is_male": exam.male,
            "nn_predicted_age": exam.age + 1.25,
            **{flag: flag in exam.flags for flag in FLAGS},
            "patient_id": exam.patient_id,
            "death": "" if i % 2 else "False",  # said of a patient's first exam only
            "timey": "" if i % 2 else 2.098628,
            "normal_ecg": exam.normal,
            "trace_file": f"exams_part{0 if i < 14 else 17}.hdf5",
        }
        for i, exam in enumerate(exams)
        if exam.listed
    ]
    np.random.default_rng(0).shuffle(rows)
    with open(raw / "exams.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return exams


def make_code_test(raw: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The unpacked data.zip.

    Returns:
        Signals (samples, 12) in canonical order, and flags (exams, 6) of each annotator in the order of the files.
    """
    data = raw / "data"
    (data / "annotations").mkdir(parents=True)
    signals, tracings = [], []
    for i in range(6):
        samples = 2800 if i == 2 else 4000
        stored = signal(i, samples, CODE_TEST_LEADS).astype(np.float64)
        tracings.append(padded(stored, (SAMPLES - samples) // 2))
        signals.append(stored[:, [CODE_TEST_LEADS.index(lead) for lead in CODE15_LEADS]])
    with h5py.File(data / "ecg_tracings.hdf5", "w") as file:
        file["tracings"] = np.stack(tracings)
    with open(data / "attributes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("age", "sex"))
        writer.writerows((40 + i, "FM"[i % 2]) for i in range(6))
    flags = {}
    for k, name in enumerate(ANNOTATORS):
        flags[name] = np.array([[int((i + j + k) % 6 == 0) for j in range(6)] for i in range(6)])
        flags[name][5] = 0
        with open(data / "annotations" / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            # The last file has an index without a name.
            writer.writerow((("",) if name == "dnn" else ()) + FLAGS)
            writer.writerows(([i] if name == "dnn" else []) + row.tolist() for i, row in enumerate(flags[name]))
    return signals, flags
