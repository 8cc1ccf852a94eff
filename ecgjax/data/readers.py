"""Reads a recording of any supported format; the list of formats."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ecgjax.data import readers_dicom, readers_wfdb
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
)


def find_recordings(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Recordings in a folder and its subfolders, in sorted order; a WFDB record is found by its header."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(parent, name)
            suffix = path.suffix.lower()
            if suffix in (".hea", ".dcm", ".dicom") or (suffix == "" and readers_dicom.matches(path)):
                yield path


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Reads one ECG: millivolts, canonical leads, missing limb leads derived.

    Args:
        path: a DICOM file, or a WFDB record named by its header, its signal file or without suffix.

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
