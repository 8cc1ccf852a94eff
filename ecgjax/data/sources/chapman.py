"""Chapman-Shaoxing, the release of 2020: 10,646 records, one per patient, 10 s at 500 Hz.

    python -m ecgjax.prepare chapman --raw=DIR --out=STORE [--denoised]

DIR holds `Diagnostics.xlsx` and `ECGData/` with one CSV per record: a row of lead names, then microvolts. --denoised
takes `ECGDataDenoised/` instead, whose files have no row of names and are in the order I, II, III, aVR, aVL, aVF, V1 to
V6; the benchmark uses the raw signals.

Label sets, their classes sorted by name and occurring 10 times:

    rhythm      the one rhythm of each record (9 classes; AVRT, 8 times, and SAAWR, 7 times, are too rare)
    condition   the other statements (column Beat; NONE is no statement)
    all         both (42 classes)

Ten folds, stratified over all labels of the records sorted by name. Sex and age are in the index, and the device's
measurements (ventricular_rate, qrs_duration ... as in Diagnostics.xlsx).

The Challenge 2021 has 10,247 of these very recordings in its cohort chapman_shaoxing: never train on one and test on
the other.
"""

import argparse
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.download.origins import CHAPMAN
from ecgjax.data.leads import CANONICAL
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import record_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording, from_channels
from ecgjax.errors import UserError

_RHYTHMS = {
    "SB": 3889, "SR": 1826, "AFIB": 1780, "ST": 1568, "SVT": 587, "AF": 445, "SA": 399, "AT": 121, "AVNRT": 16
}  # fmt: skip

FACTS = Facts(
    name="chapman",
    title="Chapman-Shaoxing 12-lead ECG database",
    version="figshare 4560497 v2",
    licence="CC0 1.0",
    sampling_rate=500.0,
    origins=CHAPMAN,
    records=10646,
    published={"rhythm": _RHYTHMS},
)

# The usual step of GE's MUSE; kept as the store's where all values of a record are multiples of it, else 1 uV is.
_MICROVOLT_PER_BIT = 4.88
_NEEDED = ("FileName", "Rhythm", "Beat", "PatientAge", "Gender")
_MEASUREMENTS = (
    *("VentricularRate", "AtrialRate", "QRSDuration", "QTInterval", "QTCorrected", "RAxis", "TAxis", "QRSCount"),
    *("QOnset", "QOffset", "TOffset"),
)
_SEXES = {"MALE": "male", "FEMALE": "female", "": None}
_FOLDER, _DENOISED = "ECGData", "ECGDataDenoised"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of the denoised signals."""
    parser.add_argument("--denoised", action="store_true", help=f"take the signals of {_DENOISED}/")


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per record of Diagnostics.xlsx."""
    path = raw_files.find(raw, "Diagnostics.xlsx", what="the diagnoses")
    diagnostics = raw_files.read_xlsx(path, _NEEDED)
    names = raw_files.unique(path, diagnostics, "FileName")
    genders = diagnostics["Gender"].str.upper()
    raw_files.refuse(path, genders, ~genders.isin(_SEXES.keys()), "MALE or FEMALE")
    folder = _signals(path.parent, _DENOISED if getattr(options, "denoised", False) else _FOLDER)
    table = pd.DataFrame(
        {
            "record_id": names,
            "patient_id": names,
            "key": [raw_files.key(raw, folder / f"{name}.csv") for name in names],
            "age": raw_files.numbers(path, diagnostics, "PatientAge"),
            "sex": [_SEXES[gender] for gender in genders],
            "rhythm": diagnostics["Rhythm"],
            "condition": [" ".join(part for part in cell.split() if part != "NONE") for cell in diagnostics["Beat"]],
        }
    )
    for column in _MEASUREMENTS:
        if column in diagnostics:
            table[_snake(column)] = pd.to_numeric(diagnostics[column], errors="coerce").astype(float)
    return table.sort_values("record_id", ignore_index=True)


def read(raw: Path, key: str) -> Recording:
    """Reads the CSV file of a record, microvolts."""
    path = raw / key
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a CSV file of microvolts") from error
    first = content[:1000].decode("latin-1").lstrip("\ufeff\u00ef\u00bb\u00bf").split("\n", 1)[0]
    names = [name.strip(' \t\r"') for name in first.split(",")]
    headed = not any(_is_number(name) for name in names)
    if not headed:
        if _DENOISED not in path.parts:
            raise UserError(f"{path}: begins with {first.strip()[:40]!r}; expected a row of lead names")
        names = list(CANONICAL)
    try:
        # Three times as fast as np.loadtxt.
        table = pd.read_csv(io.BytesIO(content), header=None, skiprows=int(headed), dtype=np.float64)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a table of numbers ({' '.join(str(error).split())})") from error
    if table.shape[1] != len(names):
        raise UserError(f"{path}: {table.shape[1]} columns; expected {len(names)}, one per lead")
    microvolts = table.to_numpy()
    steps = [_step(column) for column in microvolts.T]
    return from_channels(path.stem, microvolts * 1e-3, names, 500.0, source=path, steps=steps)


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The three label sets, and folds stratified over all labels."""
    conditions = [cell.split() for cell in table["condition"]]
    rhythms = [cell.split() for cell in table["rhythm"]]
    both = [condition + rhythm for condition, rhythm in zip(conditions, rhythms, strict=True)]
    sets = {"all": both, "rhythm": rhythms, "condition": conditions}
    without = sum(not labels for labels in both)
    return Labels(
        record_folds(both),
        {name: label_set(lists, vocabulary(lists, options.min_count)) for name, lists in sets.items()},
        (f"{without} records have no label",) if without else (),
    )


def _signals(top: Path, name: str) -> Path:
    """The folder of signals; some programs unpack a zip into a folder of its name, one more below."""
    for folder in (top / name / name, top / name):
        if folder.is_dir():
            return folder
    raise UserError(f"{top / name}: no such folder; expected the unpacked {name}.zip beside Diagnostics.xlsx")


def _step(microvolts: np.ndarray) -> float | None:
    """Step of which all values are multiples, or None."""
    known = microvolts[np.isfinite(microvolts)]
    for step in (_MICROVOLT_PER_BIT, 1.0):
        if np.abs(known / step - np.rint(known / step)).max(initial=0.0) < 1e-3:
            return step
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _snake(name: str) -> str:
    """As `qrs_duration` what is written QRSDuration."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
