"""Reads a recording of any supported format; the list of formats."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ecgjax.data import (
    readers_aecg,
    readers_array,
    readers_cardiosoft,
    readers_dicom,
    readers_edf,
    readers_mat,
    readers_muse,
    readers_scp,
    readers_wfdb,
)
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError


class Format(NamedTuple):
    """A file format: what it is called, whether a file is one, and its reader."""

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Recording]


FORMATS = (
    Format("DICOM ECG waveform (.dcm)", readers_dicom.matches, readers_dicom.read),
    Format("WFDB (.hea with .dat or .mat)", readers_wfdb.matches, readers_wfdb.read),
    Format("GE MUSE XML", readers_muse.matches, readers_muse.read),
    Format("GE CardioSoft XML", readers_cardiosoft.matches, readers_cardiosoft.read),
    Format("HL7 aECG (.xml)", readers_aecg.matches, readers_aecg.read),
    Format("SCP-ECG (.scp)", readers_scp.matches, readers_scp.read),
    Format("EDF or BDF", readers_edf.matches, readers_edf.read),
    Format("MATLAB (.mat)", readers_mat.matches, readers_mat.read),
    Format("NumPy (.npy)", readers_array.matches_npy, readers_array.read_npy),
    Format("CSV of leads", readers_array.matches_csv, readers_array.read_csv),
)
"""Told apart by content. MATLAB, NumPy and CSV files are described by `ecgjax.data.sidecar`; CPSC2018's need none."""


# Files beside recordings, told apart without opening them.
_NEVER = (".json", ".zip", ".gz", ".pdf", ".png", ".jpg", ".html", ".md", ".py")


def find_recordings(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Recordings in a folder and its subfolders, in sorted order; a WFDB record is found by its header."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        headers = {name.lower().removesuffix(".hea") for name in files if name.lower().endswith(".hea")}
        for name in sorted(files):
            path = Path(parent, name)
            suffix = path.suffix.lower()
            # What a header describes is found by the header.
            beside = suffix in ("", ".dat", ".mat") and path.stem.lower() in headers
            if suffix == ".hea" or (not (suffix in _NEVER or beside) and any(form.matches(path) for form in FORMATS)):
                yield path


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Reads one ECG: millivolts, canonical leads, missing limb leads derived.

    Args:
        path: a file of one of `FORMATS`; a WFDB record by its header, its signal file or without suffix.

    Raises:
        UserError: no such file, an unsupported format, or a file that does not hold a 12-lead recording; it is named.
    """
    path = Path(path)
    supported = ", ".join(form.name for form in FORMATS)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected one recording, as {supported}")
    for form in FORMATS:
        if form.matches(path):
            return form.read(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; expected a recording, as {supported}")
    raise UserError(f"{path}: not a supported recording; expected {supported}")
