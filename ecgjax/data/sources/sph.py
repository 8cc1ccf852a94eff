"""SPH (Shandong Provincial Hospital): 25,770 records of 24,666 patients, 10 to 56 s at 500 Hz.

    python -m ecgjax.prepare sph --raw=DIR --out=STORE

DIR holds `metadata.csv`, `code.csv` and `records/A00001.h5` and so on. The release's `records.tar.gz` must be unpacked
first, with `tar -xf` and without -z: it is not compressed, whatever its name says.

A record's statements are codes of the AHA, e.g. "60+310;147": 60 with the modifier 310, and 147. Label sets, their
classes sorted as strings ("1", "147", "22", "60") and occurring 10 times:

    all     the primary statements, modifiers dropped (35 classes)
    w_mod   the statements with their modifiers, as written

The index has `aha_code` as the release writes it, `modifiers` (codes) and `statements` (their descriptions by
code.csv); the descriptions of the classes are among the store's notes. `orig_fold` is the publisher's split: "test" are
all records of patients with several, and as many others as make a fifth of all records; it is not used.

Ten folds of patients, stratified over the statements with modifiers, sex and age group.

The publisher has rounded the signals to float16: to 1 uV above 1 mV, to 2 uV above 2 mV and so on. An int16 store
rounds to 1 uV.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.download.origins import SPH
from ecgjax.data.leads import CANONICAL
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import patient_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording, from_channels
from ecgjax.errors import UserError

FACTS = Facts(
    name="sph",
    title="Shandong Provincial Hospital 12-lead ECG database",
    version="figshare 5779802 v1",
    licence="CC BY 4.0",
    sampling_rate=500.0,
    origins=SPH,
    records=25770,
)

# By position, as the benchmark reads them.
_COLUMNS = ("record_id", "aha_code", "patient_id", "age", "sex", "_samples", "date")
_THEIRS = "ECG_ID, AHA_Code, Patient_ID, Age, Sex, N and Date"
_SEXES = {"M": "male", "F": "female", "": None}
_MOST_SAMPLES = 10**7
_TEST_SHARE = 0.2
_SPLIT_SEED = 73


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per record of metadata.csv."""
    path = raw_files.find(raw, "metadata.csv", what="the list of records")
    codes = read_codes(raw_files.find(raw, "code.csv", what="what the codes mean"))
    folder = _signals(raw, path.parent)
    table = raw_files.read_csv(path)
    if table.shape[1] < len(_COLUMNS):
        raise UserError(f"{path}: {table.shape[1]} columns; expected {_THEIRS} in this order")
    table = table.iloc[:, : len(_COLUMNS)].set_axis(list(_COLUMNS), axis=1)
    raw_files.unique(path, table, "record_id")
    raw_files.refuse(path, table["sex"], ~table["sex"].str.upper().isin(_SEXES.keys()), "M or F as column 5")
    raw_files.refuse(path, table["patient_id"], table["patient_id"] == "", "a patient as column 3")
    statements = [parse_codes(cell, source=f"{path}: row {row + 2}") for row, cell in enumerate(table["aha_code"])]
    table = table.assign(
        age=raw_files.numbers(path, table, "age"),
        sex=table["sex"].str.upper().map(_SEXES),
        key=[raw_files.key(raw, folder / f"{name}.h5") for name in table["record_id"]],
        modifiers=[" ".join(dict.fromkeys(m for _, *mods in parts for m in mods)) for parts in statements],
        statements=["; ".join(_describe(part, codes) for part in parts) for parts in statements],
        orig_fold=publishers_split(table["patient_id"]),
        _descriptions=["\n".join(f"{part[0]} {codes.get(part[0], '')}" for part in parts) for parts in statements],
    )
    return table.sort_values("record_id", ignore_index=True)


def read(raw: Path, key: str) -> Recording:
    """Reads the HDF5 file of a record: `ecg`, (12, samples) float16, mV, the twelve leads in their usual order."""
    path = raw / key
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: reading HDF5 needs h5py; install it with: pip install 'ecgjax[formats]'") from error
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the HDF5 file of a record")
    try:
        with h5py.File(path, "r") as file:
            if "ecg" not in file:
                raise UserError(f"{path}: no data set 'ecg'; it holds {', '.join(map(repr, file)) or 'nothing'}")
            data = file["ecg"]
            shape: tuple[int, ...] = getattr(data, "shape", ())
            if len(shape) != 2 or shape[0] != len(CANONICAL) or data.dtype.kind != "f":
                raise UserError(f"{path}: 'ecg' is {data}; expected floating-point numbers of shape (12, samples)")
            if shape[1] > _MOST_SAMPLES:
                raise UserError(f"{path}: {shape[1]} samples; expected at most {_MOST_SAMPLES}")
            signal = np.asarray(data[:], np.float32).T
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not an HDF5 file ({' '.join(str(error).split())})") from error
    return from_channels(path.stem, signal, CANONICAL, 500.0, source=path)


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """Both label sets; folds of patients, stratified over statements with modifiers and demographics."""
    full = [parse_codes(cell, source=name) for cell, name in zip(table["aha_code"], table["record_id"], strict=True)]
    w_mod = [["+".join(part) for part in parts] for parts in full]
    primary = [[part[0] for part in parts] for parts in full]
    classes = vocabulary(primary, options.min_count)
    folds = patient_folds(
        w_mod, table["patient_id"].tolist(), male=(table["sex"] == "male").tolist(), ages=table["age"].tolist()
    )
    descriptions = dict(line.split(" ", 1) for cell in table["_descriptions"] for line in cell.split("\n") if line)
    notes = ["classes: " + "; ".join(f"{code} {descriptions.get(code, '')}".strip() for code in classes)]
    if unknown := sorted({code for parts in primary for code in parts if not descriptions.get(code)}):
        notes.append(f"codes that code.csv lacks: {', '.join(unknown)}")
    sets = {"all": label_set(primary, classes), "w_mod": label_set(w_mod, vocabulary(w_mod, options.min_count))}
    return Labels(folds, sets, tuple(notes))


def parse_codes(cell: str, *, source: object) -> tuple[tuple[str, ...], ...]:
    """Statements of a record, each the primary code and then its modifiers; repeats stay. An empty cell has none.

    Raises:
        UserError: anything but whole numbers joined by ";" and "+".
    """
    if not cell:
        return ()
    parts = tuple(tuple(code.strip() for code in part.split("+")) for part in cell.split(";"))
    if not all(code.isascii() and code.isdecimal() for part in parts for code in part):
        raise UserError(f"{source}: AHA_Code is {cell[:60]!r}; expected codes like '60+310;147'")
    return parts


def read_codes(path: Path) -> dict[str, str]:
    """Description of each code, primary statements and modifiers.

    Raises:
        UserError: a column is missing.
    """
    table = raw_files.read_csv(path).rename(columns=str.lower)
    if not {"code", "description"} <= set(table.columns):
        raise UserError(f"{path}: columns {', '.join(table.columns)}; expected Category, Code and Description")
    return {code: " ".join(text.split()) for code, text in zip(table["code"], table["description"], strict=True)}


def publishers_split(patient_ids: pd.Series) -> list[str]:
    """The publisher's split: test are all records of patients with several, and others up to a fifth of all records.

    Args:
        patient_ids: of the records in the order of metadata.csv.
    """
    several = patient_ids.duplicated(keep=False)
    rest = patient_ids[~several]
    wanted = int(len(patient_ids) * _TEST_SHARE) - int(several.sum())
    chosen = set(rest.sample(min(max(wanted, 0), len(rest)), random_state=_SPLIT_SEED).index)
    return ["test" if many or row in chosen else "train" for row, many in several.items()]


def _signals(raw: Path, top: Path) -> Path:
    for folder in (top / "records", top / "records" / "records", raw / "records", raw / "records" / "records"):
        if folder.is_dir() and next(folder.glob("*.h5"), None):
            return folder
    for archive in (top / "records.tar.gz", raw / "records.tar.gz"):
        if archive.exists():
            raise UserError(f"{archive}: unpack it first, with tar -xf {archive} -C {archive.parent} (without -z)")
    raise UserError(f"{top / 'records'}: no such folder of .h5 files; expected the unpacked records.tar.gz")


def _describe(part: tuple[str, ...], codes: dict[str, str]) -> str:
    primary, *modifiers = (codes.get(code, code) for code in part)
    return f"{primary} ({', '.join(modifiers)})" if modifiers else primary
