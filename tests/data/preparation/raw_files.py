"""Raw files of the source in `other_package`, and what a test does with its store."""

import csv
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parent / "other_package"
RECORDS = 150


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were installed, here and in processes started from here."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", f"{root}:{PACKAGE}")
    yield
    sys.modules.pop("other_source", None)


def signal(number: int, samples: int = 120) -> np.ndarray:
    """(samples, 12) float32 mV in whole steps of 10 uV, obeying the laws of the limb leads."""
    steps = 4 * np.random.default_rng(number).integers(-60, 60, (samples + number % 7, 12))
    one, two = steps[:, 0], steps[:, 1]
    steps[:, 2], steps[:, 3], steps[:, 4], steps[:, 5] = two - one, -(one + two) // 2, one - two // 2, two - one // 2
    return (steps * 0.005).astype(np.float32)


def make(raw: Path, records: int = RECORDS) -> Path:
    """Raw files: two records per patient, labels, an ejection fraction of most."""
    (raw / "records").mkdir(parents=True)
    (raw / "deadly").write_text("")
    with open(raw / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "patient", "labels", "ef", "site"])
        for number in reversed(range(records)):
            labels = "AFIB" if number % 3 == 0 else "SR PVC" if number % 10 == 1 else "SR"
            ef = "" if number % 5 == 0 else 30 + number % 40
            writer.writerow([f"r{number:04d}", f"p{number // 2}", labels, ef, "" if number % 4 else "Bonn"])
            np.save(raw / "records" / f"r{number:04d}.npy", signal(number))
    return raw


def digests(store: Path) -> dict[str, str]:
    """SHA-256 of every file of a store."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
