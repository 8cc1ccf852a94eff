"""Where the files of MIMIC-IV-ECG and of the tables that belong to it lie below --raw."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecgjax.errors import UserError

ARCHIVE = "mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0.zip"

TABLES = {
    "records_w_diag_icd10.csv": "MIMIC-IV-ECG-Ext-ICD 1.0.1",
    "machine_measurements.csv": "MIMIC-IV-ECG 1.0",
    "mds_ed.csv": "MIMIC-IV-Ext-MDS-ED 1.0.0",
    "omr.csv.gz": "MIMIC-IV hosp",
    "vitalsign.csv.gz": "MIMIC-IV-ED",
    "d_labitems.csv.gz": "MIMIC-IV hosp",
    "labevents.csv.gz": "MIMIC-IV hosp",
    "d_items.csv.gz": "MIMIC-IV icu",
    "chartevents.csv.gz": "MIMIC-IV icu",
}
"""The tables, and which release each is from."""

PARTS = {
    "measurements": ("machine_measurements.csv",),
    "mds_ed": ("mds_ed.csv",),
    "omr": ("omr.csv.gz",),
    "vitalsign": ("vitalsign.csv.gz",),
    "labevents": ("labevents.csv.gz", "d_labitems.csv.gz"),
    "chartevents": ("chartevents.csv.gz", "d_items.csv.gz"),
}
"""What a store can be made without, and the tables that it takes."""

_DEEPEST = 6
_PATIENTS = re.compile(r"p\d{4}")


@dataclass(frozen=True)
class Files:
    """What was found.

    Attributes:
        raw: the folder.
        tables: path by name as in `TABLES`, packed or not.
        archive: the zip of the records, or None.
        records: the folder that has `p1000` and so on, or None. It is used if there is no zip.
    """

    raw: Path
    tables: dict[str, Path]
    archive: Path | None
    records: Path | None


def locate(raw: Path) -> Files:
    """Looks for the files in `raw` and below, in whatever folders the releases were unpacked to.

    Raises:
        UserError: no such folder, or a file is there twice at the same depth.
    """
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; expected the folder with the files of MIMIC-IV-ECG")
    wanted = {name.removesuffix(".gz"): name for name in TABLES}
    tables: dict[str, Path] = {}
    archives: list[Path] = []
    records: list[Path] = []
    for parent, folders, names in os.walk(raw):
        depth = len(Path(parent).relative_to(raw).parts)
        if any(_PATIENTS.fullmatch(name) for name in folders):
            records.append(Path(parent))
        # The 800,000 folders of the records are not walked through.
        keep = [name for name in folders if not _PATIENTS.fullmatch(name) and not name.startswith(".")]
        folders[:] = sorted(keep) if depth < _DEEPEST else []
        for name in sorted(names):
            path, table = Path(parent, name), wanted.get(name.removesuffix(".gz"))
            if name.startswith("mimic-iv-ecg") and name.endswith(".zip"):
                archives.append(path)
            elif table and _beats(path, tables.get(table), raw):
                tables[table] = path
    return Files(raw, tables, _only(archives), _only(records))


def missing_parts(files: Files, without: Iterable[str] = ()) -> None:
    """Checks that every table is there that is not done without.

    Raises:
        UserError: a table is missing; the message says what it is and how to do without.
    """
    for part, names in PARTS.items():
        for name in names if part not in without else ():
            if name not in files.tables:
                raise UserError(
                    f"{files.raw}: no {name} ({TABLES[name]}) there or in its folders; expected it as the publisher "
                    f"has it, or --without={part} to leave its targets unknown"
                )


def _beats(path: Path, other: Path | None, raw: Path) -> bool:
    """Whether `path` is to be used rather than `other`: the one less deep, and packed as published."""
    if other is None:
        return True
    mine, its = (len(p.relative_to(raw).parts) for p in (path, other))
    if mine == its and path.parent != other.parent:
        raise UserError(f"{other} and {path}: there are two of them; expected one")
    return mine < its or (mine == its and path.suffix == ".gz")


def _only(paths: list[Path]) -> Path | None:
    if len(paths) > 1:
        raise UserError(f"{paths[0]} and {paths[1]}: there are two of them; expected the records once")
    return paths[0] if paths else None
