"""Miniature cohorts of the Challenge 2021: headers, MATLAB 4 files by scipy, the workbook by openpyxl."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openpyxl
import scipy.io

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
WORKBOOK = "Label mappings 2021.xlsx"
MISSING = -32768

CPSC = (
    ("1st degree av block", 270492004.0),
    ("atrial fibrillation", 164889003.0),
    ("left bundle branch block", 164909002.0),
    ("premature atrial contraction", 284470004.0),
    ("right bundle branch block", 59118001.0),
    ("sinus rhythm", 426783006.0),
    ("st depression", 429622005.0),
    ("st elevation", 164931005.0),
    ("ventricular ectopics", 164884008.0),
)
SHEETS = {
    "CPSC": CPSC,
    "CPSC-Extra": (*CPSC[:2], ("sinus bradycardia", 426177001.0), ("t wave abnormal", 164934002.0)),
    "G12EC": (
        ("blocked premature atrial contraction\u00a0", 251170000.0),  # a non-breaking space
        ("left atrial enlargement", 67741000119109.0),
        ("sinus bradycardia", 426177001.0),
        ("sinus rhythm", 426783006.0),
    ),
    "Ningbo": (
        ("ARH", None),  # no code; 106068003 is not in the sheet
        ("CLBBB", 164909002.0),
        ("CLBBB", 733534002.0),
        ("LAE", 67741000119109.0),
        ("LQRSV", 251146004.0),
        ("LVQRSCL", 251146004.0),
        ("LVQRSLL", 251146004.0),
        ("SB", 426177001.0),
        ("SR", 426783006.0),
        ("TTW", "164934002"),  # text among numbers
    ),
}


@dataclass
class Record:
    """A record as written; `signal` is (12, samples) int16."""

    name: str
    signal: np.ndarray
    dx: str | None = "426783006"
    age: str | None = "60"
    sex: str | None = "Male"
    unit: str = "mV"
    checksums: bool = True
    comment: str = "# "
    newline: str = "\n"
    labels: list[str] = field(default_factory=list)

    @property
    def millivolts(self) -> np.ndarray:
        return self.signal.T.astype(np.float64) / 1000


def signal(seed: int, samples: int = 5000) -> np.ndarray:
    """(12, samples) int16 microvolts that obey Einthoven's law to half a step."""
    rng = np.random.default_rng(seed)
    chest = rng.integers(-2000, 2000, (6, samples))
    one, two = np.cumsum(rng.integers(-9, 10, (2, samples)), axis=1)
    limb = [one, two, two - one, np.rint(-(one + two) / 2), np.rint(one - two / 2), np.rint(two - one / 2)]
    return np.concatenate([limb, chest]).astype(np.int16)


def write_record(folder: Path, record: Record, *, truncate: int = 0) -> None:
    """Writes header and signal file, the latter without its last `truncate` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    values = record.signal
    lines = [f"{record.name} 12 500 {values.shape[1]}"]
    for lead, row in zip(LEADS, values, strict=True):
        checksum = int(np.int64(row.sum()) & 0xFFFF) if record.checksums else 0
        checksum -= 0x10000 if checksum >= 0x8000 else 0
        lines.append(f"{record.name}.mat 16x1+24 1000.0(0)/{record.unit} 16 0 {row[0]} {checksum} 0 {lead}")
    said = {"Age": record.age, "Sex": record.sex, "Dx": record.dx, "Rx": "Unknown", "Hx": "Unknown", "Sx": "Unknown"}
    lines += [f"{record.comment}{key}: {value}" for key, value in said.items() if value is not None]
    text = record.newline.join(lines) + record.newline
    (folder / f"{record.name}.hea").write_bytes(text.encode())
    path = folder / f"{record.name}.mat"
    scipy.io.savemat(path, {"val": values}, format="4")
    if truncate:
        path.write_bytes(path.read_bytes()[:-truncate])


def write_workbook(folder: Path, sheets: dict = SHEETS) -> Path:
    """Writes the workbook: three columns, codes as floating numbers, empty columns and rows at the end."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        sheet.append(["Diagnosis in the dataset", "SNOMED code", "Notes"])
        for label, code in rows:
            sheet.append([label, code] if code else [label, code, "Removed; not scored"])
        sheet.cell(row=len(rows) + 5, column=20).value = ""
    folder.mkdir(parents=True, exist_ok=True)
    workbook.save(folder / WORKBOOK)
    return folder / WORKBOOK


# Codes of the miniature Ningbo, in the order of its records' names, and the names they mean.
NINGBO_DX = (
    *((("426177001", ["SB"]), ("426177001,164934002", ["SB", "TTW"]), ("426783006", ["SR"])) * 6),
    ("164909002,733534002", ["CLBBB", "CLBBB"]),  # one name twice in a record
    ("426177001, 251146004", ["SB", "LQRSV"]),
    ("106068003,67741000119109", ["ARH", "LAE"]),
    ("999999999,426783006", ["SR"]),  # the first is in no sheet
    ("Unknown", []),
    (None, []),
)


def make_ningbo(raw: Path) -> tuple[list[Record], list[str]]:
    """The release's layout, two groups with RECORDS, and the workbook in `raw`.

    Returns:
        The records that can be used, in the order of their names, and the names of the others.
    """
    names = [f"JS{10647 + 7 * i}" for i in range(len(NINGBO_DX) - 1)] + ["S23074"]
    # 8, 9.99 and 10 s: short ones count for classes and folds.
    lengths = (5000, 5000, 4995, 4000)
    records = [
        Record(name, signal(i, lengths[i % 4]), dx, labels=labels)
        for i, (name, (dx, labels)) in enumerate(zip(names, NINGBO_DX, strict=True))
    ]
    records[0].age, records[0].sex = "NaN", "Female"
    records[1].age, records[1].sex = "-1", "Unknown"
    records[2].age, records[2].sex = None, "f"
    records[3].unit, records[3].comment, records[3].checksums = "mv", "#", False
    records[4].newline, records[4].sex = "\r\n", "FEMALE"
    gaps = Record("JS20000", signal(100), "426177001")
    gaps.signal[3, 17] = MISSING
    short = Record("JS20001", signal(101), "426177001")
    groups = [raw / "training" / "ningbo" / "g1", raw / "training" / "ningbo" / "g2"]
    for i, record in enumerate([*records, gaps]):
        write_record(groups[i % 2], record)
    write_record(groups[0], short, truncate=240)
    write_record(groups[0], Record("JS20002", signal(102)))
    (groups[0] / "JS20002.mat").unlink()
    for group in groups:
        (group / "RECORDS").write_text("".join(f"{path.stem}\n" for path in sorted(group.glob("*.hea"))))
    write_workbook(raw)
    return records, ["JS20000", "JS20001", "JS20002"]
