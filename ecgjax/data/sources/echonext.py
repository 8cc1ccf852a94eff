"""EchoNext 1.1.0: 100,000 ECGs of 36,286 patients, 10 s at 250 Hz, with findings of an echocardiogram.

    python -m ecgjax.prepare echonext --raw=DIR --out=STORE

DIR holds `echonext_metadata_100k.csv` (upper and lower case do not matter) and, for train, val and test,
`EchoNext_SPLIT_waveforms.npy` (n, 1, 2500, 12). `EchoNext_SPLIT_tabular_features.npy` (n, 7) goes to the index if it is
there. Row i of a split's files is the i-th row of the metadata with that split, whatever the order of the splits.

The values are no millivolts: the publisher filtered and clipped them, and standardised them with a mean and a deviation
that are not published. The store keeps them as they are, float32 with the unit "z-score".

The 17,457 ECGs with the split "no_split" (older ones of validation and test patients) are left out. Folds: val is 8,
test 9; train patients are stratified over 0 to 7, those without any positive finding have -1 and are training data too.
Label sets:

    all           the eleven findings of the benchmark, in its order. A finding that was not measured counts as absent:
                  the release records it so.
    measured      the same, unknown (NaN) where a finding is absent because nothing was measured
    composite     moderate or greater structural heart disease, the publisher's own target
    measurements  five measured values, for regression

The index holds every other column of the metadata. The columns tabular_* are the publisher's standardised inputs; age
is the second of them, not the last as the release's README has it.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.download import origins
from ecgjax.data.leads import CANONICAL
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import NOWHERE, patient_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.recording import Recording, from_channels
from ecgjax.errors import UserError

SAMPLING_RATE = 250.0
SAMPLES = 2500

FACTS = Facts(
    name="echonext",
    title="EchoNext",
    version="1.1.0",
    licence="PhysioNet Restricted Health Data License 1.5.0",
    sampling_rate=SAMPLING_RATE,
    origins=origins.ECHONEXT,
    records=72_475 + 4_626 + 5_442,
    dtype="float32",
    unit="z-score",
    einthoven="the publisher clipped and standardised the values, so the law holds only roughly",
)

# Finding: the columns that it was derived from.
FINDINGS = {
    "lvef_lte_45_flag": ("lvef_value",),
    "lvwt_gte_13_flag": ("ivs_measurement", "lvpw_measurement"),
    "aortic_stenosis_moderate_or_greater_flag": ("aortic_stenosis_value",),
    "aortic_regurgitation_moderate_or_greater_flag": ("aortic_regurgitation_value",),
    "mitral_regurgitation_moderate_or_greater_flag": ("mitral_regurgitation_value",),
    "tricuspid_regurgitation_moderate_or_greater_flag": ("tricuspid_regurgitation_value",),
    "pulmonary_regurgitation_moderate_or_greater_flag": ("pulmonary_regurgitation_value",),
    "rv_systolic_dysfunction_moderate_or_greater_flag": ("rv_systolic_function_value",),
    "pericardial_effusion_moderate_large_flag": ("pericardial_effusion_value",),
    "pasp_gte_45_flag": ("pasp_value",),
    "tr_max_gte_32_flag": ("tr_max_velocity_value",),
}
COMPOSITE = "shd_moderate_or_greater_flag"
MEASUREMENTS = ("lvef_value", "ivs_measurement", "lvpw_measurement", "pasp_value", "tr_max_velocity_value")
TABULAR = ("sex", "age", "ventricular_rate", "atrial_rate", "pr_interval", "qrs_duration", "qt_corrected")

_METADATA = "echonext_metadata_100k.csv"
_SPLITS = {"train": NOWHERE, "val": 8, "test": 9}
_LEFT_OUT = "no_split"
_FLAGS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0, "": np.nan}
_SEXES = {"0": "female", "0.0": "female", "1": "male", "1.0": "male"}
_NAMED_ANEW = ("", "ecg_key", "patient_key", "age_at_ecg", "sex", *FINDINGS, COMPOSITE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per ECG of the three splits; the findings are in columns "_FLAG"."""
    path = _find_metadata(raw)
    needed = ("ecg_key", "patient_key", "split", "age_at_ecg", "sex", *FINDINGS)
    metadata = raw_files.read_csv(path, needed)
    raw_files.unique(path, metadata, "ecg_key")
    splits = (*_SPLITS, _LEFT_OUT)
    raw_files.refuse(path, metadata["split"], ~metadata["split"].isin(splits), f"one of {', '.join(splits)}")
    flags = {name: _flags(path, metadata, name) for name in (*FINDINGS, COMPOSITE) if name in metadata}
    table = pd.DataFrame(
        {
            "record_id": metadata["ecg_key"],
            "patient_id": metadata["patient_key"],
            "key": "",
            "age": raw_files.numbers(path, metadata, "age_at_ecg"),
            "sex": metadata["sex"].str.lower().map(_SEXES),
            **{name: _column(metadata[name]) for name in map(str, metadata) if name not in _NAMED_ANEW},
            **{f"_{name}": values for name, values in flags.items()},
            "_left_out": int((metadata["split"] == _LEFT_OUT).sum()),
        }
    )
    parts = [_with_files(raw, path, table[table["split"] == split].copy(), split) for split in _SPLITS]
    return pd.concat(parts).sort_values("record_id", ignore_index=True)


def read(raw: Path, key: str) -> Recording:
    """Reads one row of a split's waveforms; the file is memory-mapped once per process."""
    name, _, row = key.rpartition("#")
    path = raw / name
    waveforms = _open(path, (1, SAMPLES, len(CANONICAL)))
    return from_channels(
        f"{path.stem}-{row}", waveforms[int(row), 0], CANONICAL, SAMPLING_RATE, source=f"{path} row {row}"
    )


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The publisher's split as folds, and the label sets."""
    folds = np.array([_SPLITS[split] for split in table["split"]])
    targets = table[[f"_{name}" for name in FINDINGS]].to_numpy(dtype=np.float32)
    train = np.flatnonzero(folds == NOWHERE)
    if len(train):
        # Numbered, because the order of the findings breaks the stratification's ties.
        lists = [[f"{i:02d}" for i in np.flatnonzero(targets[row] == 1)] for row in train]
        folds[train] = patient_folds(lists, table["patient_id"].iloc[train].tolist(), folds=8, seed=42)
    names = tuple(FINDINGS)
    sets = {"all": (names, targets, ("classification",) * len(names))}
    notes = [
        f"{table['_left_out'].max()} ECGs with the split {_LEFT_OUT} are left out",
        "a finding that was not measured counts as absent, as the release has it; see the label set 'measured'",
    ]
    if all(column in table for columns in FINDINGS.values() for column in columns):
        measured = np.stack(
            [np.any([_known(table[column]) for column in columns], axis=0) for columns in FINDINGS.values()], axis=1
        )
        known = np.where(measured | (targets == 1), targets, np.float32(np.nan))
        sets["measured"] = (names, known, ("classification",) * len(names))
        sets["measurements"] = (
            MEASUREMENTS,
            table[list(MEASUREMENTS)].to_numpy(dtype=np.float32),
            ("regression",) * len(MEASUREMENTS),
        )
    else:
        notes.append("the metadata lack measurements, so the label sets 'measured' and 'measurements' are left out")
    if f"_{COMPOSITE}" in table:
        sets["composite"] = ((COMPOSITE,), table[[f"_{COMPOSITE}"]].to_numpy(dtype=np.float32), ("classification",))
    return Labels(folds, sets, tuple(notes))


def _find_metadata(raw: Path) -> Path:
    for pattern in ("*.csv", "*/*.csv", "*/*/*.csv"):
        found = [path for path in sorted(raw.glob(pattern)) if path.name.lower() == _METADATA]
        if found:
            return found[0]
    return raw_files.find(raw, _METADATA, what="the metadata of EchoNext")


def _beside(path: Path, name: str) -> Path | None:
    """The file `name` in the folder of `path`, in whatever case it is written."""
    return next((file for file in sorted(path.parent.iterdir()) if file.name.lower() == name.lower()), None)


def _with_files(raw: Path, path: Path, part: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split with their keys and tabular features."""
    name = f"EchoNext_{split}_waveforms.npy"
    file = _beside(path, name)
    if file is None:
        raise UserError(f"{path.parent / name}: no such file; expected the waveforms beside {path.name}")
    rows = len(_open(file, (1, SAMPLES, len(CANONICAL))))
    if rows != len(part):
        raise UserError(f"{file}: {rows} ECGs, but {path.name} has {len(part)} rows with the split {split}")
    part["key"] = [f"{raw_files.key(raw, file)}#{row}" for row in range(rows)]
    features = _beside(path, f"EchoNext_{split}_tabular_features.npy")
    values = np.full((rows, len(TABULAR)), np.nan) if features is None else _open(features, (len(TABULAR),))
    if len(values) != rows:
        raise UserError(f"{features}: {len(values)} rows, but {path.name} has {rows} with the split {split}")
    return part.assign(**{f"tabular_{name}": np.asarray(values[:, i], float) for i, name in enumerate(TABULAR)})


@lru_cache(maxsize=8)
def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The memory-mapped array of floats, (rows, *shape)."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a whole .npy file ({' '.join(str(error).split())})") from error
    if array.dtype.kind != "f" or array.shape[1:] != shape:
        expected = ", ".join(map(str, ("n", *shape)))
        raise UserError(f"{path}: {array.dtype} of shape {array.shape}; expected floats of shape ({expected})")
    return array


def _flags(path: Path, metadata: pd.DataFrame, name: str) -> pd.Series:
    values = metadata[name].str.lower()
    raw_files.refuse(path, metadata[name], ~values.isin(list(_FLAGS)), "0, 1 or nothing")
    return values.map(_FLAGS).astype(float)


def _column(cells: pd.Series) -> pd.Series:
    """Numbers where all cells are, else text; NaN or None where a cell is empty."""
    known = cells != ""
    values = pd.to_numeric(cells.where(known), errors="coerce").astype(float)
    return cells.where(known, None) if values[known].isna().any() or not known.any() else values


def _known(values: pd.Series) -> np.ndarray:
    return values.notna().to_numpy()
