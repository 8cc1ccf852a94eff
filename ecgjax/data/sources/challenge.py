"""What the cohorts of the PhysioNet/CinC Challenge 2021 share: their files, their headers, their labels.

Each cohort is a source of its own (ningbo, cpsc2018, cpsc_extra, georgia) with its own sheet of diagnosis names
(see `ecgjax.data.sources.challenge_mapping`). There are no patient ids: every record counts as a patient.
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ecgjax.data import readers_wfdb
from ecgjax.data.download.origins import Origin
from ecgjax.data.preparation import raw_files
from ecgjax.data.preparation.folds import record_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording
from ecgjax.data.sources import challenge_mapping
from ecgjax.errors import UserError

ATRIAL_RHYTHM = {"106068003": "ARH"}
"""A code that records have but that no row of the workbook gives; the benchmark adds it for two cohorts."""

# Folders of the Challenge's cohorts (on PhysioNet, in its older archives, and as the sources here are called), and how
# their records are named. Ningbo has an S23074 too, which is like no other cohort's; PTB's have four digits.
_COHORTS = {
    "cpsc_2018": (("cpsc_2018", "cpsc2018", "WFDB_CPSC2018"), r"A\d{4}"),
    "cpsc_2018_extra": (("cpsc_2018_extra", "cpsc_extra", "WFDB_CPSC2018_2"), r"Q\d{4}"),
    "georgia": (("georgia", "WFDB_Ga"), r"E\d{5}"),
    "ningbo": (("ningbo", "WFDB_Ningbo"), r"JS(?:1064[7-9]|106[5-9]\d|10[7-9]\d{2}|1[1-9]\d{3}|[2-9]\d{4})"),
    "chapman_shaoxing": (
        ("chapman_shaoxing", "WFDB_ChapmanShaoxing"), r"JS(?:0\d{4}|10[0-5]\d\d|106[0-3]\d|1064[0-6])"
    ),
    "ptb-xl": (("ptb-xl", "WFDB_PTBXL"), r"HR\d{5}"),
    "ptb": (("ptb", "WFDB_PTB"), r"S\d{4}"),
    "st_petersburg_incart": (("st_petersburg_incart", "WFDB_StPetersburg"), r"I\d{4}"),
}  # fmt: skip
_MISNAMED = {"S23074": "ningbo"}
_UNSAID = ("", "unknown", "nan", "none", "n/a")


@dataclass(frozen=True)
class Cohort:
    """A cohort of the Challenge.

    Attributes:
        folder: its name on PhysioNet, below training/.
        sheet: of the workbook.
        classes: that occur at least ten times, as the benchmark counts them.
        added: names of codes that the sheet lacks.
    """

    folder: str
    sheet: str
    classes: int
    added: Mapping[str, str]


def facts(
    name: str, title: str, *, origins: tuple[Origin, ...], records: int, published: Mapping[str, Mapping[str, int]]
) -> Facts:
    """The facts of a cohort; all have 500 Hz, and records with gaps are left out."""
    return Facts(
        name=name,
        title=f"{title}, as in the PhysioNet/CinC Challenge 2021",
        version="1.0.3",
        licence="CC BY 4.0",
        sampling_rate=500.0,
        origins=origins,
        records=records,
        published=published,
        skip=("nan",),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --mapping."""
    parser.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help=f"{challenge_mapping.NAME!r}, by default beside the records or above",
    )


def listing(cohort: Cohort, raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row per header or signal file below `raw`, sorted by name.

    A header without its signal file, or the other way round, is listed too, so that its loss is reported.

    Raises:
        UserError: no records, one name twice, another cohort's folder, or no workbook.
    """
    records = find_records(cohort, raw)[0]
    mapping(cohort, raw, options)  # A missing workbook is better known before hours of reading.
    names = sorted(records)
    return pd.DataFrame(
        {"record_id": names, "patient_id": names, "key": [raw_files.key(raw, records[name]) for name in names]}
    )


def read(raw: Path, key: str) -> Recording:
    """Reads one record; its metadata are `age` (years), `sex`, and `dx`: its codes, separated by commas.

    An age that is NaN, negative or absent and a sex other than m, f, male, female (any case) are left out.
    """
    recording = readers_wfdb.read(raw / f"{key}.hea")
    said = recording.metadata
    codes = [code for code in said.get("diagnoses", ()) if code.lower() not in _UNSAID]
    metadata = {name: said[name] for name in ("age", "sex") if name in said}
    if said.get("checksum_mismatches"):
        metadata["checksum_mismatches"] = " ".join(said["checksum_mismatches"])
    return replace(recording, metadata={**metadata, "dx": ",".join(map(challenge_mapping.code, codes))})


def label(cohort: Cohort, table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    """The label set "all": names of diagnoses, sorted; folds stratified over the names before rare ones are dropped.

    A code that the sheet does not have is left out, and said; with `options.protocol == "paper"` it is an error, as
    the published preparation stops there.

    Raises:
        UserError: see above.
    """
    names = mapping(cohort, options.raw, options)
    codes = [[code for code in str(cell).split(",") if code] for cell in table["dx"].fillna("")]
    unknown = Counter(code for own in codes for code in own if code not in names)
    if unknown and options.protocol == "paper":
        row = next(i for i, own in enumerate(codes) if any(code not in names for code in own))
        code = next(code for code in codes[row] if code not in names)
        raise UserError(
            f"record {table['record_id'].iloc[row]!r}: diagnosis code {code!r} is not in sheet {cohort.sheet!r} of "
            f"{challenge_mapping.NAME!r}; expected only its codes (without --protocol=paper it is left out)"
        )
    lists = [[names[code] for code in own if code in names] for own in codes]
    classes = vocabulary(lists, options.min_count)
    notes = [
        f"{len(classes)} classes occur {options.min_count} times or more (benchmark: {cohort.classes}, 10 times)",
        "folds: stratified over records sorted by name; the benchmark's own followed the order of its directory",
    ]
    if unknown:
        shown = ", ".join(f"{code} ({count})" for code, count in sorted(unknown.items()))
        notes.append(f"codes (occurrences) that sheet {cohort.sheet!r} lacks are left out: {shown}")
    without = sum(not own for own in lists)
    if without:
        notes.append(f"{without} records have no diagnosis: all targets 0, fold -1, which is training")
    left_out = find_records(cohort, options.raw)[1]
    if left_out:
        shown = ", ".join(f"{count} of {folder}" for folder, count in sorted(left_out.items()))
        notes.append(f"records that are named as another cohort's are left out: {shown}")
    return Labels(record_folds(lists), {"all": label_set(lists, classes)}, tuple(notes))


def mapping(cohort: Cohort, raw: Path, options: argparse.Namespace) -> dict[str, str]:
    """Name by code of a cohort: its sheet's, and what the benchmark adds to it.

    Raises:
        UserError: no workbook, or one that is not the Challenge's.
    """
    path = options.mapping or challenge_mapping.find(raw, cohort_folders=_COHORTS[cohort.folder][0])
    return {**cohort.added, **challenge_mapping.read(path, cohort.sheet)}


def find_records(cohort: Cohort, raw: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """Paths without suffix of a cohort's records by name, and how many records of other cohorts were left out.

    Takes the release (training/ningbo/g1/JS10647.hea), any part of it, and a flat folder. If some folder is named after
    the cohort, only what is in such folders counts; folders of other cohorts never do. In a folder that is named after
    none, records that are named like another cohort's are left out if others are named like this one's. Names alone
    are no reason to refuse a folder, unless they are those of several other cohorts.

    Raises:
        UserError: see `listing`.
    """
    if not raw.is_dir():
        raise UserError(
            f"{raw}: no such folder; expected the Challenge's {cohort.folder}, with its .hea and .mat files"
        )
    own_folders, own_pattern = _COHORTS[cohort.folder]
    other_folders = {name for folder, (names, _) in _COHORTS.items() if folder != cohort.folder for name in names}
    if raw.name in other_folders:
        raise UserError(f"{raw}: named after another cohort of the Challenge; expected {cohort.folder}")
    found = [path for path in _walk(raw, other_folders) if path.suffix in (".hea", ".mat")]
    in_own = [path for path in found if set(own_folders) & {raw.name, *path.relative_to(raw).parts[:-1]}]
    others: Counter[str] = Counter()
    if not in_own:
        cohort_of = {stem: _cohort_named(stem) for stem in {path.stem for path in found}}
        counts = Counter(folder for folder in cohort_of.values() if folder not in (None, cohort.folder))
        if any(re.fullmatch(own_pattern, stem) for stem in cohort_of):
            others = counts
            found = [path for path in found if cohort_of[path.stem] in (None, cohort.folder)]
        elif len(counts) > 1:
            raise UserError(f"{raw}: has records of {' and '.join(sorted(counts))}; expected {cohort.folder}'s")
    records: dict[str, Path] = {}
    for path in sorted(in_own or found):
        same = records.setdefault(path.stem, path.with_suffix(""))
        if same != path.with_suffix(""):
            raise UserError(f"{same} and {path.with_suffix('')}: record {path.stem!r} is there twice; expected once")
    if not records:
        raise UserError(
            f"{raw}: no .hea or .mat file there or below; expected the Challenge's training/{cohort.folder}/g1/... "
            "or a folder of its records"
        )
    if all(path.suffix == ".mat" for path in in_own or found):
        raise UserError(
            f"{raw}: {len(records)} .mat files and no .hea file; expected the Challenge's headers beside them (the "
            "release of CPSC2018 itself has none: prepare it with the source folder)"
        )
    return records, dict(others)


def _cohort_named(stem: str) -> str | None:
    """The cohort whose records are named like this one."""
    named = (folder for folder, (_, pattern) in _COHORTS.items() if re.fullmatch(pattern, stem))
    return _MISNAMED.get(stem) or next(named, None)


def _walk(folder: Path, skip: set[str]) -> list[Path]:
    """All files below a folder, through links too, but not into hidden folders or folders named in `skip`."""
    files: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in skip and not name.startswith("."))
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return files
