"""Input that needs no download: the synthetic store, made on first use, and the genuine recording inside pydicom."""

import os
from pathlib import Path

from ecgjax.data.preparation import engine
from ecgjax.data.sources import synthetic_store as source
from ecgjax.errors import UserError, disk_errors


def cache_folder() -> Path:
    """Where ecgjax keeps what it can make again: `$ECGJAX_CACHE`, else `~/.cache/ecgjax`."""
    return Path(os.environ.get("ECGJAX_CACHE") or Path.home() / ".cache" / "ecgjax")


def synthetic_store(root: Path | None = None, records: int = 600, seed: int = 0) -> Path:
    """The synthetic labelled set (`ecgjax.data.sources.synthetic_store`), made once and then found again.

    Args:
        root: folder that holds the store; None for the cache.
        records: number of 10 s recordings at 500 Hz; two thirds as many patients.
        seed: another seed, other patients.

    Returns:
        Where the store is. Its name tells records, seed and version: a changed generator makes a new store.

    Raises:
        UserError: too few records, a negative seed, or `root` cannot be written.
    """
    root = cache_folder() if root is None else Path(root)
    path = root / f"synthetic-{records}-{seed}-{source.version()}"
    if path.exists():
        return path
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    try:
        # One process: a script need not guard its main module against being imported by others.
        engine.prepare_store("synthetic", path, records=records, seed=seed, workers=1, wait=True)
    except (OSError, UserError):
        if not path.exists():  # otherwise another process was faster, with the same content
            raise
    return path


def dicom_recording_path() -> Path:
    """The genuine 12-lead recording that the pydicom package carries as a test file (1000 Hz, 10 s, a normal ECG).

    Raises:
        UserError: pydicom is not installed.
    """
    try:
        from pydicom.data import get_testdata_file
    except ImportError as error:
        raise UserError(
            "the DICOM recording is part of pydicom, which is missing; pip install 'ecgjax[formats]'"
        ) from error
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    if found is None:
        raise UserError("pydicom is installed without waveform_ecg.dcm; expected its test files as in the wheel")
    return Path(str(found))
