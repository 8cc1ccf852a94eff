r"""HEEDB (Harvard-Emory ECG database): more than ten million ECGs of 10 s for pretraining, stored at 240 Hz.

    python -m ecgjax.prepare heedb --raw=DIR --out=STORE --partitions=S0001-1987

DIR holds `ECG/WFDB/` with the records (.hea with .mat or .dat), and `Metadata/` with `demographics_ECG.csv`,
`ECG_Interpretations.psv` and `duplicated.csv`. A partition is an institution and a year, the folder S0001/1987; without
--partitions all are prepared that the demographics name and whose folder is there.

The database is best prepared as one store per partition, which can be made on several machines and are used together:

    for partition in S0001-2015 S0001-2016 S0002-2013; do
      python -m ecgjax.prepare heedb --raw=DIR --out=STORES/heedb-$partition --partitions=$partition
    done
    python -m ecgjax.main --config=configs/cpc_pretrain.py:paper --workdir=runs/cpc \
      --config.data.stores=$(echo STORES/heedb-* | tr ' ' ',')

Several partitions can also go to one store (--partitions=S0001-2015,S0001-2016, or the option repeated).

Records that duplicated.csv names are left out. Gaps are filled by straight lines, forward in time, values clipped to
+-3 mV, and the result resampled to 240 Hz; records below 240 Hz are rejected. A clipped record need not obey
Einthoven's law. Diagnostic codes come from the interpretations, by the name of the file; records without have none.
Unknown sex is "Unknown", unknown race "Unavailable".

Folds: 20, by patient, stratified over codes, sex, race and age. Pretraining uses a store's folds 0 to 17, validates on
18 and leaves 19 untouched (the publication trained on 0 to 18 and validated on 19). Over several partitions patients
are stratified together, so that nobody is in two splits; --protocol=paper stratifies every partition for itself.
Partitions in stores of their own are always independent: a patient can be in the training split of one and in the
validation split of another.

Label set "all": every code that occurs in any interpretation of the database, the most frequent first, so that stores
of different partitions share the class list. It is left out above 1 GB; the index has the codes in any case.
"""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data import readers_wfdb
from ecgjax.data.download import origins
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import patient_folds
from ecgjax.data.preparation.repair import repair
from ecgjax.data.preparation.resampled import resampled
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set
from ecgjax.data.recording import Recording
from ecgjax.data.sources import heedb_tables
from ecgjax.errors import UserError

SAMPLING_RATE = 240.0
CLIP = 3.0
FOLDS = 20
BATCH = 10_000
AGE_BOUNDS = (18, 30, 40, 50, 60, 70, 80, 90)
LARGEST_TARGETS = 2**30
"""Bytes of the label set "all" above which it is left out."""

FACTS = Facts(
    name="heedb",
    title="Harvard-Emory ECG database",
    version="4.0",
    licence="BDSP credentialed data use agreement",
    sampling_rate=SAMPLING_RATE,
    origins=origins.HEEDB,
)

_NAME = re.compile(r"[A-Z]\d{4}-\d{4}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --partitions."""
    parser.add_argument(
        "--partitions",
        action="append",
        metavar="NAME[,NAME...]",
        help="institutions and years such as S0001-1987; can be repeated (default: all that are there)",
    )


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per record of the partitions, without the duplicates."""
    path = _find_table(raw, "demographics_ECG.csv")
    folder = _find_records(raw)
    chosen = parse_partitions(options.partitions)
    table, counts = heedb_tables.demographics(path, chosen)
    absent = [name for name in chosen or () if name not in counts]
    if absent:
        raise UserError(f"--partitions={absent[0]}: {path} has no such partition, but {', '.join(sorted(counts))}")
    table, parents = _placed(folder, table)
    gone = {parent for parent in parents.unique() if not (folder / parent).is_dir()}
    if gone:
        if chosen is not None and len(gone) == parents.nunique():
            raise UserError(f"{folder / min(gone)}: no such folder; expected the records of --partitions={chosen[0]}")
        table = table[~parents.isin(gone)]
    total = sum(counts[name] for name in (chosen or counts))
    not_there = total - len(table)
    if not len(table):
        raise UserError(f"{folder}: none of the folders that {path} names is there; expected S0001/1987 and so on")
    table = table.assign(record_id=heedb_tables.stems(table["file"]))
    named = heedb_tables.duplicates(_find_table(raw, "duplicated.csv"), pd.Index(table["record_id"]))
    twins = table["record_id"].isin(named)
    table = table[~twins]
    twice = table["record_id"].duplicated()
    table = table[~twice].sort_values("record_id", ignore_index=True)
    if not len(table):
        raise UserError(f"{path}: every record of the partitions is in duplicated.csv; expected some that are not")
    found = heedb_tables.diagnostic_codes(_find_table(raw, "ECG_Interpretations.psv"), pd.Index(table["record_id"]))
    notes = [f"{int(twins.sum())} records are left out as duplicates (duplicated.csv)"]
    if not_there:
        notes.append(f"{not_there} records are left out because their folder is not there")
    if twice.any():
        notes.append(f"{int(twice.sum())} records are left out because their name is there twice")
    return pd.DataFrame(
        {
            "record_id": table["record_id"],
            "patient_id": table["patient_id"],
            "key": raw_files.key(raw, folder) + "/" + table["file"],
            "age": table["age"],
            "sex": table["sex"],
            "race": table["race"],
            "partition": table["partition"],
            "diagnostic_codes": table["record_id"].map(found).fillna(""),
            "_interpreted": table["record_id"].isin(found.index),
            # One text for all rows, kept once.
            "_notes": pd.Categorical(["; ".join(notes)] * len(table)),
        }
    )


def read(raw: Path, key: str) -> Recording:
    """Reads one WFDB record, repairs and clips it, and resamples it to 240 Hz."""
    recording = readers_wfdb.read(raw / f"{key}.hea")
    if recording.sampling_rate < SAMPLING_RATE:
        raise UserError(f"{raw / key}.hea: {recording.sampling_rate:g} Hz; expected at least {SAMPLING_RATE:g} Hz")
    signal, missing = repair(recording.signal, CLIP)
    # The header's own age and sex are left out: the demographics have them for every record in one way.
    metadata = {"native_sampling_rate": recording.sampling_rate, "repaired_values": int(missing.sum())}
    if "checksum_mismatches" in recording.metadata:
        metadata["checksum_mismatches"] = recording.metadata["checksum_mismatches"]
    return resampled(
        dataclasses.replace(recording, signal=signal, metadata=metadata, microvolt_per_bit=None), SAMPLING_RATE
    )


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """Folds of the partitions' patients, and the diagnostic codes."""
    lists = [cell.split(",") if cell else [] for cell in table["diagnostic_codes"]]
    extended = [
        [*codes, f"sex_{sex}", f"race_{race}", age_group(age)]
        for codes, sex, race, age in zip(lists, table["sex"], table["race"], table["age"], strict=True)
    ]
    partitions = table["partition"].astype(str).to_numpy()
    apart = options.protocol == "paper"
    folds = np.empty(len(table), int)
    for rows in [np.flatnonzero(partitions == name) for name in np.unique(partitions)] if apart else [slice(None)]:
        chosen = np.arange(len(table))[rows]
        patients = table["patient_id"].iloc[chosen].tolist()
        folds[chosen] = patient_folds([extended[row] for row in chosen], patients, folds=FOLDS, batch=BATCH)
    classes = heedb_tables.vocabulary(_find_table(Path(options.raw), "ECG_Interpretations.psv"))
    notes = [str(note) for note in table["_notes"].unique()]
    notes.append(f"{int((~table['_interpreted']).sum())} records have no interpretation")
    if len(np.unique(partitions)) > 1:
        notes.append("folds are stratified " + ("within each partition" if apart else "over all partitions together"))
    size = 4 * len(table) * len(classes)
    if size <= LARGEST_TARGETS and classes:
        return Labels(folds, {"all": label_set(lists, classes)}, tuple(notes))
    notes.append(
        f"the label set 'all' is left out: {len(classes)} classes of {len(table)} records are {size / 1e9:.1f} GB"
    )
    return Labels(folds, {}, tuple(notes))


def parse_partitions(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of --partitions, each once; None if the option is not given.

    Raises:
        UserError: a name that is none.
    """
    if values is None:
        return None
    names = [name for value in values for part in value.split(",") if (name := part.strip())]
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong or not names:
        raise UserError(f"--partitions={(wrong or [''])[0]}: expected institution and year, such as S0001-1987")
    return tuple(dict.fromkeys(names))


def age_group(age: float) -> str:
    """The group of an age in years, named after its upper bound; "age_100" from 90 on."""
    if age != age:
        return "age_unknown"
    return f"age_{next((bound for bound in AGE_BOUNDS if age < bound), 100)}"


def _placed(folder: Path, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """`table` with its files relative to `folder`, and the folders they are in."""
    parents = table["file"].str.rsplit("/", n=1).str[0]
    if not any((folder / parent).is_dir() for parent in parents.unique()):
        # What stands before the institution is not the same in all versions.
        table = table.assign(file=table["file"].str.replace(r"^.*?(?=[A-Z]\d{4}/\d{4}/)", "", regex=True))
        parents = table["file"].str.rsplit("/", n=1).str[0]
    return table, parents


def _find_table(raw: Path, name: str) -> Path:
    return raw_files.find(raw, name, what="a table of HEEDB's Metadata")


def _find_records(raw: Path) -> Path:
    """The folder that FileName is relative to."""
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; expected the folder with ECG/WFDB and Metadata")
    for pattern in ("ECG/WFDB", "WFDB", "*/ECG/WFDB", "*/WFDB"):
        found = sorted(path for path in raw.glob(pattern) if path.is_dir())
        if found:
            return found[0]
    raise UserError(f"{raw}: no folder ECG/WFDB there or one folder below; expected HEEDB's records in it")
