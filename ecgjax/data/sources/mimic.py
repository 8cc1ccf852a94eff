"""MIMIC-IV-ECG 1.0 with the benchmark's 1,127 targets: 800,035 records of 161,352 patients, 10 s at 500 Hz.

    python -m ecgjax.prepare mimic --raw=DIR --out=STORE [--protocol=paper] [--without=PART,...] [--all-records]

DIR holds, side by side or in the folders of their releases, packed or not:

    mimic-iv-ecg-...-1.0.zip (it is read as it is), or the folder `files/` of it    MIMIC-IV-ECG 1.0
    machine_measurements.csv (also found in the zip)                                MIMIC-IV-ECG 1.0
    records_w_diag_icd10.csv                                                        MIMIC-IV-ECG-Ext-ICD 1.0.1
    mds_ed.csv                                                                      MIMIC-IV-Ext-MDS-ED 1.0.0
    omr.csv.gz, d_labitems.csv.gz, labevents.csv.gz                                 MIMIC-IV hosp
    d_items.csv.gz, chartevents.csv.gz                                              MIMIC-IV icu
    vitalsign.csv.gz                                                                MIMIC-IV-ED

The store holds the benchmark's cohort: records taken in the emergency department of patients with a discharge code; for
validation and test (folds 18 and 19 of `strat_fold`) the first of a stay only. --all-records makes a store of all
records without targets, for pretraining and embedding; it needs records_w_diag_icd10.csv alone.

Label set "all", in the benchmark's order:

    ICD-10-CM codes     of the stay, cut to five characters, with all ancestors of three and more; those that 2,000
                        records have (--code-count, of all 800,035; not --min-count), most frequent first, ties by name
    deterioration_*     15 columns of MDS-ED; unknown for records that are not in it and where it has -999
    sex                 1 for male
    35 measurements     regression: age; height, weight and bmi nearest within 30 days; rr to t_axis by the machine;
                        laboratory values and vital signs nearest within an hour

The event tables (tens of GB) are streamed: memory does not depend on their size, and what was read before a kill is
not looked at again. Signals: gaps are filled along time, then +-3 mV are cut off; `nans` in the index says how many
values were missing in which lead. Limb leads are stored I, II, III, aVR, aVF, aVL, and are put in order by name.

What the benchmark's own code does otherwise, and --protocol=paper does too:

    the first record of a stay is asked for by `fold`, though folds are by `strat_fold`; here by `strat_fold`
    percentiles that trim measurements are those of all patients, test patients' too, and for laboratory values they
    are taken twice, for biometrics one after the other; here once, of the training patients of the cohort
    ages of those above 89, which the publisher sets to 91 at the anchor year, count as true; here they are unknown

It joins its tables by row number; here all are joined by study, under either protocol.
"""

import argparse
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from ecgjax.data import readers_wfdb
from ecgjax.data.download import origins
from ecgjax.data.leads import CANONICAL
from ecgjax.data.preparation.repair import repair
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.recording import Recording
from ecgjax.data.sources import (
    mimic_diagnoses,
    mimic_events,
    mimic_measurements,
    mimic_studies,
    mimic_tables,
    mimic_zip,
)
from ecgjax.data.sources.mimic_diagnoses import FIRST_TESTED_FOLD, Diagnoses
from ecgjax.data.sources.mimic_files import PARTS, Files, locate, missing_parts
from ecgjax.errors import UserError, disk_errors

FACTS = Facts(
    name="mimic",
    title="MIMIC-IV-ECG",
    version="1.0",
    licence="ODbL 1.0 (signals), PhysioNet Credentialed Health Data License 1.5.0 (tables)",
    sampling_rate=500.0,
    origins=origins.MIMIC,
)

CODES = 1076
"""Number of codes with 2,000 records, as published."""

_CODE_COUNT = 2000
_SEX = {"M": "male", "F": "female"}
_DRY_RUN_BLOCKS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this source's options."""
    parser.add_argument(
        "--code-count", type=int, default=_CODE_COUNT, help="records that a code needs to be a class (default 2000)"
    )
    parser.add_argument("--without", default="", metavar="PART,...", help=f"tables to do without: {', '.join(PARTS)}")
    parser.add_argument("--all-records", action="store_true", help="all records instead of the cohort, without targets")


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """The records of the store; also streams the event tables, so that what is wrong with them shows at the start."""
    files, without = locate(raw), _without(options)
    archive = _directory(files)
    diagnoses = _diagnoses(files, options)
    records = diagnoses.records
    if not options.all_records:
        inside = ("measurements",) if archive and "machine_measurements.csv" in archive.tables else ()
        missing_parts(files, (*without, *inside))
        if "mds_ed" not in without:
            mimic_studies.acute(files, np.empty(0, np.int64))
        if "measurements" not in without:
            mimic_studies.measured(files, np.empty(0, np.int64))
        _extracts(files, diagnoses, options)
        records = records[mimic_diagnoses.cohort(records, options.protocol)]
    if not len(records):
        raise UserError(f"{files.tables['records_w_diag_icd10.csv']}: no record of the cohort; see the source's help")
    subject, study = (records[name].to_numpy() for name in ("subject_id", "study_id"))
    names = [f"p{s // 10000:04d}/p{s}/s{t}/{t}" for s, t in zip(subject.tolist(), study.tolist(), strict=True)]
    table = pd.DataFrame(
        {
            "record_id": [f"p{s}_s{t}" for s, t in zip(subject.tolist(), study.tolist(), strict=True)],
            "patient_id": [str(s) for s in subject.tolist()],
            "key": _keys(files, archive, names, study),
            "study_id": study,
            "ecg_time": records["ecg_time"].dt.strftime("%Y-%m-%d %H:%M:%S").to_numpy(),
            "age": records["age"].to_numpy(),
            "sex": [_SEX.get(gender) for gender in records["gender"]],
            "ecg_no_within_stay": records["ecg_no_within_stay"].to_numpy(),
            "ecg_taken_in_ed": records["ecg_taken_in_ed"].to_numpy(),
            "ecg_taken_in_hosp": records["ecg_taken_in_hosp"].to_numpy(),
        }
    )
    return table.sort_values("record_id", kind="stable", ignore_index=True)


def read(raw: Path, key: str) -> Recording:
    """Reads one record, from the zip if the key has a "#", and repairs it."""
    name, _, place = key.partition("#")
    path = raw / name
    recording = mimic_zip.read(path, place) if place else readers_wfdb.read(path.with_name(path.name + ".hea"))
    signal, missing = repair(recording.signal)
    nans = " ".join(f"{lead}:{count}" for lead, count in zip(CANONICAL, missing, strict=True) if count)
    return dataclasses.replace(
        recording,
        signal=signal,
        metadata={**recording.metadata, "nans": nans},
        # Filled gaps are no multiples of the digitiser's step.
        microvolt_per_bit=None if nans else recording.microvolt_per_bit,
    )


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """Folds and the 1,127 targets."""
    files, without = locate(Path(options.raw)), _without(options)
    diagnoses = _diagnoses(files, options)
    study = table["study_id"].to_numpy(np.int64)
    rows = pd.Index(diagnoses.records["study_id"]).get_indexer(study)
    records = diagnoses.records.iloc[rows].reset_index(drop=True)
    folds = records["strat_fold"].to_numpy(np.int64)
    if options.all_records:
        return Labels(folds, {}, ("all records, without targets",))
    paper = options.protocol == "paper"
    codes = len(diagnoses.classes)
    classes = (*diagnoses.classes, *mimic_studies.ACUTE, "sex", *mimic_measurements.REGRESSION)
    targets = np.zeros((len(table), len(classes)), np.float32)
    diagnoses.fill(rows, targets[:, :codes])
    column = {name: targets[:, i] for i, name in enumerate(classes)}
    targets[:, codes : codes + len(mimic_studies.ACUTE)] = (
        np.nan if "mds_ed" in without else mimic_studies.acute(files, study)
    )
    column["sex"][:] = records["gender"].map({"F": 0.0, "M": 1.0}).to_numpy(float)
    column["age"][:] = mimic_measurements.ages(records, options.protocol)
    for name in mimic_measurements.ECG_FEATURES:
        column[name][:] = np.nan
    if "measurements" not in without:
        features = mimic_measurements.ecg_features(mimic_studies.measured(files, study))
        for name in mimic_measurements.ECG_FEATURES:
            column[name][:] = features[name]
    attached, lines = mimic_measurements.attach(
        records["subject_id"].to_numpy(), _seconds(records), _extracts(files, diagnoses, options), options.protocol
    )
    for name, found in attached.items():
        column[name][:] = found
    regression = len(mimic_measurements.REGRESSION)
    kinds = ("classification",) * (len(classes) - regression) + ("regression",) * regression
    notes = [
        "protocol paper: as the benchmark's code, deviations listed in the source's help"
        if paper
        else "protocol default: differs from the benchmark's code in the cohort's folds, percentiles and masked ages",
        f"{codes} codes have {options.code_count} records; published are {CODES} with {_CODE_COUNT}",
        *([f"without {', '.join(without)}: their targets are unknown"] if without else []),
        *(["a dry run: the event tables were read in part"] if options.limit else []),
        *lines,
        *_scarce(targets, classes, kinds, folds),
    ]
    return Labels(folds, {"all": (classes, targets, kinds)}, tuple(notes))


def _without(options: argparse.Namespace) -> tuple[str, ...]:
    parts = tuple(part for part in options.without.split(",") if part)
    for part in parts:
        if part not in PARTS:
            raise UserError(f"--without={part}: no such part; expected some of {', '.join(PARTS)}")
    return parts


def _cache(options: argparse.Namespace) -> Path:
    folder = Path(options.work)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _directory(files: Files) -> mimic_zip.Members | None:
    if files.archive is not None:
        return mimic_zip.members(files.archive)
    if files.records is None:
        raise UserError(
            f"{files.raw}: neither mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0.zip nor its folder "
            "files/p1000 there or in its folders; expected one of them"
        )
    return None


def _keys(files: Files, archive: mimic_zip.Members | None, names: list[str], study: np.ndarray) -> list[str]:
    if archive is not None and files.archive is not None:
        return mimic_zip.keys(files.archive.relative_to(files.raw).as_posix(), names, study, archive)
    prefix = (files.records or files.raw).relative_to(files.raw)
    return [(prefix / name).as_posix() for name in names]


def _diagnoses(files: Files, options: argparse.Namespace) -> Diagnoses:
    """The table of records, from the cache where it is there."""
    name = "records_w_diag_icd10.csv"
    if name not in files.tables:
        raise UserError(
            f"{files.raw}: no {name} (MIMIC-IV-ECG-Ext-ICD 1.0.1) there or in its folders; it says which records there "
            "are, in which folds"
        )
    path = files.tables[name]
    facts = (mimic_diagnoses.VERSION, path.stat().st_size, path.stat().st_mtime_ns, options.code_count)
    cached = _cache(options) / f"diagnoses-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.parquet"
    if not cached.exists():
        with Console(stderr=True).status(f"{path.name}: reading"):
            mimic_diagnoses.save(cached, mimic_diagnoses.read(path, options.code_count))
    return mimic_diagnoses.load(cached)


def _extracts(
    files: Files, diagnoses: Diagnoses, options: argparse.Namespace
) -> list[tuple[mimic_events.Table, mimic_events.Extract]]:
    """What is kept of the event tables, from the cache where it is there.

    It is the same under both protocols: for all records of `in_emergency`, of which the cohort is a part.
    """
    records = diagnoses.records
    inside = mimic_diagnoses.in_emergency(records)
    known = records[inside]
    moments = np.unique(mimic_events.moment(known["subject_id"].to_numpy(), _seconds(known)))
    subjects = np.unique(records["subject_id"].to_numpy())
    groups = np.full(len(subjects), mimic_events.OTHER, np.int8)
    tested = (known["strat_fold"] >= FIRST_TESTED_FOLD).to_numpy()
    groups[np.searchsorted(subjects, known["subject_id"].to_numpy()[~tested])] = mimic_events.TRAINING
    groups[np.searchsorted(subjects, known["subject_id"].to_numpy()[tested])] = mimic_events.TESTED
    ecgs = mimic_events.Ecgs(moments, subjects, groups)
    most = _DRY_RUN_BLOCKS if options.limit else None
    return [
        (table, mimic_events.extract(table, ecgs, _cache(options), most_blocks=most))
        for table in mimic_tables.tables(files, _without(options))
    ]


def _seconds(records: pd.DataFrame) -> np.ndarray:
    return records["ecg_time"].to_numpy("datetime64[s]").astype(np.int64)


def _scarce(targets: np.ndarray, classes: tuple[str, ...], kinds: tuple[str, ...], folds: np.ndarray) -> list[str]:
    """Lines on classes with too little of them in validation or test to be scored."""
    lines = []
    for fold in (FIRST_TESTED_FOLD, FIRST_TESTED_FOLD + 1):
        rows = targets[folds == fold]
        few = [
            name
            for name, kind, values in zip(classes, kinds, rows.T, strict=True)
            if (
                np.isfinite(values).sum() < 3
                if kind == "regression"
                else min((values == 1).sum(), (values == 0).sum()) < 2
            )
        ]
        if few:
            some = ", ".join(few[:10]) + (" ..." if len(few) > 10 else "")
            lines.append(
                f"fold {fold} has fewer than two positives or negatives, or three values, of {len(few)}: {some}"
            )
    return lines
